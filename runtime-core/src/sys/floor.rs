//! Whether the kernel, and whatever filters system calls around this process, knows the calls that nothing works without.

use rustix::io::Errno;

/// The calls of docs/kernel.md's table "Needed" that are calls of their own, and since when they are.
const NEEDED: [(&str, libc::c_long, &str); 10] = [
    ("execveat", libc::SYS_execveat, "3.19"),
    ("memfd_create", libc::SYS_memfd_create, "3.17"),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal, "5.1"),
    ("open_tree", libc::SYS_open_tree, "5.2"),
    ("move_mount", libc::SYS_move_mount, "5.2"),
    ("fsopen", libc::SYS_fsopen, "5.2"),
    ("clone3", libc::SYS_clone3, "5.3"),
    ("openat2", libc::SYS_openat2, "5.6"),
    ("close_range", libc::SYS_close_range, "5.9"),
    ("mount_setattr", libc::SYS_mount_setattr, "5.12"),
];

/// The first needed call that is unknown here, with the version of Linux that has it.
pub(crate) fn missing() -> Option<(&'static str, &'static str)> {
    let found = NEEDED.iter().find(|(_, number, _)| is_unknown(*number));
    found.map(|(name, _, since)| (*name, *since))
}

/// Asks with arguments that every one of these calls refuses before it does anything: no such descriptor, no such
/// address, no such flags.
fn is_unknown(number: libc::c_long) -> bool {
    const NONE: libc::c_long = -1;
    // SAFETY: -1 is no descriptor, no readable address, no size and no set of flags, so no call of the table acts on it.
    let outcome = unsafe { libc::syscall(number, NONE, NONE, NONE, NONE, NONE) };
    super::bpf::checked(outcome) == Err(Errno::NOSYS)
}
