//! The fence: the only place of the core where `unsafe` and raw descriptors live (law 5). Each module wraps a few system
//! calls in functions that cannot be misused; nothing here decides anything.
#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod clone;
pub(crate) mod floor;
pub(crate) mod inherited;
pub(crate) mod loop_device;
pub(crate) mod namespace;
pub(crate) mod rlimit;
pub(crate) mod seccomp;
pub(crate) mod signal;
pub(crate) mod signals;

/// Hides this process's memory from every other: a child shares it until it has executed the stub.
pub(crate) fn harden() -> Result<(), crate::Error> {
    let done = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    done.map_err(|errno| crate::Error::system("make this process not dumpable", errno))
}
