//! Control groups.

/// A descriptor that becomes readable when the kernel has killed something for lack of memory.
#[derive(Debug)]
pub struct OomWatch {}

/// What a container has used.
#[derive(Debug)]
pub struct Stats {}
