//! `signalfd(2)`: signals to be read instead of being suffered, for a face that passes them on to its container.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};

use crate::Error;

/// What a program has done wrong itself must end it, and not wait in a queue.
const OWN_FAULTS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// The signals sent to this process, readable from now on. They stay blocked for its life; what the core spawns begins
/// with none blocked.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Catches all signals that can be caught. For a process with one thread, before it starts another.
    ///
    /// # Errors
    /// The kernel refusing.
    pub fn catch() -> Result<Self, Error> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the call initialises the set.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        // SAFETY: initialised just now; filling cannot fail with a valid address.
        let mut set = unsafe { set.assume_init() };
        for signal in OWN_FAULTS {
            // SAFETY: `set` is a whole set and `signal` a valid number.
            unsafe { libc::sigdelset(&raw mut set, signal) };
        }
        // SAFETY: the set is read only; a null old set is allowed.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
        // SAFETY: with -1 the kernel makes a new descriptor; the set is read only.
        let number = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        super::bpf::checked(number.into()).map_err(|errno| Error::system("catch signals", errno))?;
        // SAFETY: made just now, and known to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// The number of the next signal that has arrived.
    #[must_use]
    pub fn next(&self) -> Option<i32> {
        // `struct signalfd_siginfo` has 128 bytes and begins with the signal's number.
        let mut record = [0_u8; 128];
        rustix::io::read(&self.0, &mut record).ok()?;
        let number = record.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))?;
        i32::try_from(number).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
