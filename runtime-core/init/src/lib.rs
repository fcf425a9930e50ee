//! `tare-init`: the program that a container's first process runs before it becomes the container's process, and the
//! script that tells it what to do.
//!
//! It is an interpreter: a loop over [`script::Op`]s, each one to six system calls whose arguments the parent has laid
//! out. It cannot allocate, log or read configuration, and it decides nothing but "did this call fail" (law 3).
//!
//! This library is the script format for the runtime core, and the interpreter's modules for the lints and tests. The
//! program itself is `stub.rs`, compiled from the same modules by the core's build script.
#![no_std]

pub mod perform;
pub mod script;
pub mod sys;
mod text;
