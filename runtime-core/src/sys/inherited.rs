//! Descriptors that this process was started with, known to it by number alone.

/// Makes everything from `first` on close when a program is executed. What another left open by mistake must not reach
/// a container or a hook (CVE-2024-21626).
pub fn close_inherited_on_exec(first: u32) {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: only a flag of the descriptors changes, and to the one that every descriptor of ours has anyway.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
}

/// Whoever started this process has handed over a descriptor of this number: it is open, and stays so in a program that
/// is executed. What this process has opened itself does not.
#[must_use]
pub fn is_inherited(number: u32) -> bool {
    // SAFETY: the call takes numbers and involves no memory; a number that is not open is refused.
    unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_GETFD) == 0 }
}
