//! The shim's fence around `unsafe`: the few system and C library calls that have no safe wrapper. Nothing is decided
//! here.
#![allow(unsafe_code)]

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Something with a descriptor that never changes, as tokio wants to be told of it.
#[derive(Debug)]
pub(crate) struct Watched<T>(T);

/// A descriptor whose readiness can be awaited.
pub(crate) type Watch<T> = AsyncFd<Watched<T>>;

/// Types that keep one and the same descriptor open for as long as they live.
pub(crate) trait Steady: AsFd {}

impl Steady for OwnedFd {}
impl Steady for Arc<OwnedFd> {}
impl Steady for runtime_core::Process {}
impl Steady for runtime_core::cgroup::OomWatch {}

impl<T: Steady> AsRawFd for Watched<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl<T> Deref for Watched<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Watched<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Registers `inner` with the runtime.
///
/// # Errors
/// The kernel refusing.
pub(crate) fn watch<T: Steady>(inner: T, interest: Interest) -> io::Result<Watch<T>> {
    // SAFETY: the descriptor must stay open and the same for as long as it is registered: that is what `Steady` types
    // do, and nobody in this crate replaces one in place.
    let watch = unsafe { AsyncFd::register_with_interest(Watched(inner), interest) };
    watch.map_err(|error| error.into_parts().1)
}

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forked {
    /// The process that called.
    Parent,
    /// Its copy.
    Child,
}

/// Splits the process in two. Only for a process that has one thread; with more it is refused, since the locks that
/// other threads hold would stay locked for ever in the child.
///
/// # Errors
/// `EBUSY` when there are other threads, or what fork(2) says.
pub(crate) fn fork() -> Result<Forked, Errno> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(Errno::BUSY);
    }
    // SAFETY: fork(2) asks that the child of a threaded process call only async-signal-safe functions; there is one
    // thread, as was just checked, and no other can have appeared since, because only this one could have made it.
    match unsafe { libc::fork() } {
        -1 => Err(last_error()),
        0 => Ok(Forked::Child),
        _ => Ok(Forked::Parent),
    }
}

/// Closes what whoever started this process left open by mistake. For the very beginning, when nothing above the
/// standard streams can be this process's own.
pub(crate) fn close_inherited() {
    // SAFETY: close_range(2) closes descriptors that no object of this process owns, it having opened none yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Keeps the allocator small: one arena, large blocks given back at once, and a low threshold for trimming.
pub(crate) fn lean_allocator() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, 64 << 10), (libc::M_TRIM_THRESHOLD, 64 << 10)]
    {
        // SAFETY: mallopt(3) takes two integers; these parameters are documented, and an unknown one is only refused.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives free heap pages back to the kernel.
pub(crate) fn trim_heap() {
    // SAFETY: malloc_trim(3) takes a size and may be called at any time from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// The number of a child that has ended and has not been reaped, which stays so.
#[must_use]
pub(crate) fn peek_zombie() -> Option<i32> {
    // SAFETY: siginfo_t is a plain C structure of integers and unions of them, for which all zeroes is a value.
    let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `found` is a live siginfo_t that the kernel may write; with P_ALL the id is ignored.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut found, flags) };
    // SAFETY: after a successful waitid(2) the SIGCHLD members are the ones in use, and zero when nothing was found.
    let pid = unsafe { found.si_pid() };
    (result == 0 && pid > 0).then_some(pid)
}

/// Makes `command`, once spawned, find `descriptors` as 3, 4, 5 and so on.
pub(crate) fn pass_descriptors(command: &mut Command, descriptors: Vec<OwnedFd>) {
    let place = move || {
        // Moved out of the way first: a source may have the number of another's target.
        let mut lifted = [-1; 8];
        for (slot, descriptor) in lifted.iter_mut().zip(&descriptors) {
            // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC only makes a new descriptor; `descriptor` is open, being owned.
            *slot = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 16) };
        }
        for (target, source) in (3..).zip(lifted.into_iter().take(descriptors.len())) {
            // SAFETY: dup2(2) may replace whatever `target` was: this process is about to execute another program,
            // and everything else in it is close-on-exec.
            if source < 0 || unsafe { libc::dup2(source, target) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec; it calls fcntl(2) and dup2(2) alone, allocates nothing and takes
    // no lock.
    unsafe { command.pre_exec(place) };
}

/// errno, as the last failed call of this thread left it.
fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
