//! `config.json` becomes a [`Plan`]: an immutable value that says, in the kernel's words, everything that will be
//! done to make the container. This crate decides and never acts: no I/O, no clock, no environment, no unsafe.
//! Equal inputs give equal plans (law 1), and a plan holds nothing that has to be decided later (law 2).
//!
//! The story, in reading order: [`container`] and [`exec`] are the two planners; each concern has its module.
#![forbid(unsafe_code)]

mod model;
mod refusal;
pub mod resources;

pub use model::*;
pub use refusal::Refusal;
