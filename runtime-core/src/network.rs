//! A container's network namespace, made ahead. It takes the kernel longer than all other namespaces together, and needs
//! nothing that the rest of the work waits for: a thread of its own makes it while the cgroup is made. What is in it beside
//! the loopback device is the caller's business, or `net_devices`'.

use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tare_plan::Plan;

use crate::netlink::Route;
use crate::{Error, Kind, lower, sys};

/// The loopback device's index, in every network namespace.
const LOOPBACK: u32 = 1;
/// Bytes of the thread's stack; it needs a few thousand.
const STACK: usize = 64 * 1024;

/// A network namespace that is being made, where one is wanted.
#[derive(Debug)]
pub(crate) struct Ahead(Option<JoinHandle<Result<OwnedFd, Error>>>);

impl Ahead {
    /// Begins. A container with a user namespace has its own make it, because that is whose it has to be.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn begin(plan: &Plan) -> Result<Self, Error> {
        if !is_wanted(plan) {
            return Ok(Self(None));
        }
        let thread = std::thread::Builder::new().name("network".to_owned()).stack_size(STACK).spawn(make);
        thread.map(|thread| Self(Some(thread))).map_err(|error| Error::io("make a thread", &error))
    }

    /// Waits until it is there.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn end(self) -> Result<Option<OwnedFd>, Error> {
        let ended = |thread: JoinHandle<_>| {
            thread.join().unwrap_or_else(|_| Err(Error::new(Kind::System, "the thread has panicked")))
        };
        let made = self.0.map(ended).transpose();
        made.map_err(|error: Error| error.during("make a network namespace"))
    }
}

/// Whether this container's network namespace is made ahead.
pub(crate) fn is_wanted(plan: &Plan) -> bool {
    plan.namespaces.new & lower::NEWNET != 0 && !lower::has_user(&plan.namespaces)
}

/// The calling thread's own.
///
/// # Errors
/// There is no procfs.
pub(crate) fn own() -> Result<OwnedFd, Error> {
    let path = "/proc/thread-self/ns/net";
    let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|errno| Error::system(format_args!("open {path}"), errno))
}

fn make() -> Result<OwnedFd, Error> {
    let system = |what: &'static str| move |errno: Errno| Error::system(what, errno);
    sys::namespace::leave_network().map_err(system("unshare"))?;
    Route::open().and_then(|route| route.set_up(LOOPBACK)).map_err(system("bring up loopback"))?;
    own()
}
