//! `seccomp(2)`, only to ask what this kernel has.

use rustix::io::Errno;

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` beside the listener that it needs: Linux 5.19.
const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5 | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;

/// A filter with a listener may ask for calls that only a fatal signal interrupts.
pub(crate) fn knows_wait_killable_recv() -> bool {
    let null = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel looks at the flags, then copies the program from address 0, which it refuses: no filter is
    // installed, and no memory is touched.
    let outcome = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, WAIT_KILLABLE_RECV, null) };
    super::bpf::checked(outcome) == Err(Errno::FAULT)
}
