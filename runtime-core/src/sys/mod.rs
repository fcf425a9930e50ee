//! The fence: the only place of the core where `unsafe` and raw descriptors live (law 5). Each module wraps a few system
//! calls in functions that cannot be misused; nothing here decides anything.
#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod signal;
