//! `tare`: an OCI runtime with the command line of runc. What is here are flags, formats and texts; what a container is,
//! `runtime_core` knows. `command` has the table of verbs, `verb` one file for each, and the rest is what they share.

mod command;
mod failure;
mod flags;
mod help;
mod log;
mod session;
mod signal;
mod store;
mod time;
mod units;
mod verb;

mod attend;
mod descriptors;
mod files;
mod launch;
mod notify;
mod relay;
mod sockets;
mod statistics;
mod sys;
mod table;

use std::process::ExitCode;

/// musl's allocator asks the kernel for every few pages and gives them back at once: a sixth of a `run`'s system calls.
#[global_allocator]
static ALLOCATOR: sys::heap::Heap = sys::heap::Heap::new();

fn main() -> ExitCode {
    command::main(std::env::args_os())
}
