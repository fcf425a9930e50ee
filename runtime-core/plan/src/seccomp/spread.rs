//! Where a system call's name is looked for: shared by `build.rs`, which lays the table out, and `table`, which reads it.

/// Places in the table: about twice as many as there are names.
pub(super) const PLACES: usize = 1024;

/// The place to look at first; the next ones follow (FNV-1a).
pub(super) fn place(name: &str) -> usize {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 15)) as usize % PLACES
}
