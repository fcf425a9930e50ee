//! `config.json` becomes a [`Plan`]: an immutable value that says, in the kernel's words, everything that will be
//! done to make the container. This crate decides and never acts: no I/O, no clock, no environment, no unsafe.
//! Equal inputs give equal plans (law 1), and a plan holds nothing that has to be decided later (law 2).
//!
//! The story, in reading order: [`container()`] and [`process()`] are the two planners; each concern has its module, and
//! a `Plan` prints as text, one line per thing that will be done.
#![forbid(unsafe_code)]

mod capabilities;
mod cgroup_mount;
mod cgroup_path;
mod container;
mod devices;
mod home;
mod hooks;
mod id_map;
mod inside_path;
mod intel_rdt;
mod memory_policy;
mod model;
mod mount_options;
mod mounts;
mod namespaces;
mod net_devices;
mod process;
mod refusal;
mod scheduling;
mod sysctl;
mod text;

pub mod resources;
pub mod seccomp;
pub mod systemd;

pub use capabilities::capability_names;
pub use container::{container, namespaces};
pub use home::{needs_home, with_home};
pub use intel_rdt::{rdt_lines, rdt_needs};
pub use memory_policy::{memory_policy_flags, memory_policy_modes};
pub use model::*;
pub use mount_options::names as mount_options;
pub use namespaces::Groups;
pub use process::process;
pub use refusal::Refusal;
