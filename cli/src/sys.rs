//! The fence of the command line: where it speaks to the kernel without a crate between.
#![allow(unsafe_code)]

pub(crate) mod heap;
