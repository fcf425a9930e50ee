//! Hearing of processes that the kernel killed for lack of memory: an eventfd on version 1, inotify on version 2.
//!
//! Both only say "look again"; the truth is the kernel's own count of kills, read from a file that is kept open, so a
//! watch tells a kill from a limit that was merely touched, and can be asked once more when a container has ended.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, inotify};
use rustix::io::Errno;

use super::{Cgroup, file};
use crate::{Error, Kind};

/// A descriptor that becomes readable when the kernel has killed something for lack of memory, and perhaps when other
/// things have happened to the cgroup, its end among them: [`OomWatch::take`] tells.
#[derive(Debug)]
pub struct OomWatch {
    events: Events,
    counter: OwnedFd,
    path: PathBuf,
    seen: u64,
}

#[derive(Debug)]
enum Events {
    /// Version 1: the kernel adds to an eventfd *before* it kills.
    Eventfd(OwnedFd),
    /// Version 2: the file with the count has changed.
    Inotify(OwnedFd),
}

impl Cgroup {
    /// Watches for processes killed for lack of memory.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] without a memory controller, [`Kind::NotFound`] when the cgroup is gone.
    pub fn oom_watch(&self) -> Result<OomWatch, Error> {
        let directory = self.directory_of("memory");
        let directory = directory.ok_or_else(|| Error::new(Kind::Unsupported, "no memory hierarchy is mounted"))?;
        let legacy = !self.legacy.is_empty();
        let path = directory.join(if legacy { "memory.oom_control" } else { "memory.events" });
        let counter = file::open(&path, OFlags::RDONLY).map_err(|errno| match errno {
            Errno::NOENT if file::exists(directory) => {
                Error::new(Kind::Unsupported, format!("{}: the memory controller is not enabled", directory.display()))
            }
            Errno::NOENT => Error::new(Kind::NotFound, format!("{}: no such file or directory", path.display())),
            errno => Error::system(format_args!("open {}", path.display()), errno),
        })?;
        let problem = |errno| Error::system(format_args!("watch {}", path.display()), errno);
        let events = if legacy {
            let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(problem)?;
            let request = format!("{} {}", eventfd.as_raw_fd(), counter.as_raw_fd());
            file::write(&directory.join("cgroup.event_control"), &request).map_err(problem)?;
            Events::Eventfd(eventfd)
        } else {
            Events::Inotify(watched(&path, &directory.join("cgroup.events")).map_err(problem)?)
        };
        // What happened before the watch counts from now on.
        let mut watch = OomWatch { events, counter, path, seen: 0 };
        watch.seen = watch.count()?.unwrap_or(0);
        Ok(watch)
    }
}

/// `cgroup.events` changes when the last process has gone, which is the only sign of an end that comes by itself.
fn watched(counter: &Path, life: &Path) -> Result<OwnedFd, Errno> {
    let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&inotify, counter, inotify::WatchFlags::MODIFY)?;
    inotify::add_watch(&inotify, life, inotify::WatchFlags::MODIFY)?;
    Ok(inotify)
}

impl OomWatch {
    /// How many processes have been killed for lack of memory since the last time, and makes the descriptor unreadable
    /// again. 0 once the cgroup has gone: ask before removing it.
    ///
    /// # Errors
    /// The count cannot be read or makes no sense.
    pub fn take(&mut self) -> Result<u64, Error> {
        let mut count = self.drain()?;
        let mut now = self.count()?;
        // Version 1 announces a kill that is about to come; give it a moment to be counted. One that takes longer is
        // found by the next call, at the latest when the container has ended.
        while count > 0 && now == Some(self.seen) {
            std::thread::sleep(Duration::from_millis(1));
            now = self.count()?;
            count -= 1;
        }
        let Some(now) = now else { return Ok(0) };
        let killed = now.saturating_sub(self.seen);
        self.seen = now;
        Ok(killed)
    }

    /// Empties the descriptor; returns how many milliseconds a count may lag behind it.
    fn drain(&self) -> Result<u32, Error> {
        let mut buffer = [0_u8; 4096];
        let (fd, patience) = match &self.events {
            Events::Eventfd(fd) => (fd, 5),
            Events::Inotify(fd) => (fd, 0),
        };
        match rustix::io::read(fd, &mut buffer) {
            Ok(_) => Ok(patience),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(Error::system(format_args!("read the events of {}", self.path.display()), errno)),
        }
    }

    /// The kernel's count; `None` once the cgroup has gone.
    fn count(&self) -> Result<Option<u64>, Error> {
        let Some(text) = file::text(&self.counter, &self.path)? else { return Ok(None) };
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        // Kernels since 4.13 have the line.
        let count = count.ok_or_else(|| file::garbled(&self.path, &text))?;
        count.trim().parse().map(Some).map_err(|_| file::garbled(&self.path, count))
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.events {
            Events::Eventfd(fd) | Events::Inotify(fd) => fd.as_fd(),
        }
    }
}
