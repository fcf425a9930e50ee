//! A process of a container, owned by its pidfd. There is no map from numbers to processes and no SIGCHLD: whoever
//! holds a [`Process`] polls its pidfd, and reaps exactly that child.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::termios::{Winsize, tcsetwinsize};
use tare_plan::TerminalSize;

use crate::{Error, Kind};

/// How long a process that has been killed is waited for.
const DYING: Duration = Duration::from_secs(2);

/// What a process is given as its standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// Three descriptors; `None` is the host's /dev/null.
    Streams {
        /// Read by the process as 0.
        stdin: Option<OwnedFd>,
        /// Written by the process as 1.
        stdout: Option<OwnedFd>,
        /// Written by the process as 2.
        stderr: Option<OwnedFd>,
    },
    /// A new terminal of the container's own devpts; its master comes back in [`Process::take_console`].
    Terminal,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called `exit` with this code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// The number that containerd and shells use: the code, or 128 + signal.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Code(code) => u32::from(code),
            Self::Signal(signal) => 128 + signal.unsigned_abs(),
        }
    }
}

/// A child of this process. Dropping it neither kills nor reaps the child.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    console: Option<OwnedFd>,
}

impl Process {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd, console: None }
    }

    pub(crate) fn put_console(&mut self, master: OwnedFd) {
        self.console = Some(master);
    }

    /// Makes its terminal, if it has one, this large.
    pub(crate) fn resize(&self, size: Option<TerminalSize>) -> Result<(), Error> {
        let (Some(console), Some(size)) = (&self.console, size) else { return Ok(()) };
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(console, size).map_err(|errno| Error::system("set the size of the terminal", errno))
    }

    /// Its number in this process's pid namespace. For people and events; signals go through the pidfd.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Takes the terminal's master, once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Sends `signal` (1 to 64).
    ///
    /// # Errors
    /// [`crate::Kind::Finished`] when it has ended.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        match crate::sys::signal::send(self.pidfd.as_fd(), signal) {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) => Err(Error::new(Kind::Finished, "process already finished")),
            Err(errno) => Err(Error::system(format!("send signal {signal} to process {}", self.pid), errno)),
        }
    }

    /// Reaps it: `None` while it still runs. The pidfd is readable once it has ended.
    ///
    /// # Errors
    /// `waitid(2)` failing, or the child having been reaped already.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>, Error> {
        self.waitid(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Waits until it ends, and reaps it.
    pub(crate) fn wait(&self) -> Result<ExitStatus, Error> {
        let ended = self.waitid(WaitIdOptions::EXITED)?;
        ended.ok_or_else(|| Error::new(Kind::System, format!("process {} has no exit status", self.pid)))
    }

    /// It has ended, reaped or not.
    pub(crate) fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Waits until it ends, but not longer.
    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).ok();
        let mut watched = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut watched, limit.as_ref())).is_ok_and(|ready| ready > 0)
    }

    /// Kills and reaps it. A process that is frozen with its cgroup dies when that is thawed: it is then reaped by a thread
    /// that waits for it.
    pub(crate) fn end(self) {
        // Both fail only when it is gone already.
        drop(self.signal(libc::SIGKILL));
        if self.ends_within(DYING) {
            drop(self.wait());
        } else {
            // Without a thread it is left to whoever inherits this process's children.
            drop(std::thread::Builder::new().spawn(move || drop(self.wait())));
        }
    }

    fn waitid(&self, options: WaitIdOptions) -> Result<Option<ExitStatus>, Error> {
        let waited = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options));
        let status = waited.map_err(|errno| Error::system(format!("wait for process {}", self.pid), errno))?;
        Ok(status.and_then(|status| {
            let code = status.exit_status().map(|code| ExitStatus::Code(u8::try_from(code & 0xff).unwrap_or(0)));
            code.or_else(|| status.terminating_signal().map(ExitStatus::Signal))
        }))
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "signal: {}", words(*signal)),
        }
    }
}

/// A signal in the words of Go, which runc passes on.
fn words(signal: i32) -> std::borrow::Cow<'static, str> {
    const WORDS: &[(i32, &str)] = &[
        (libc::SIGHUP, "hangup"),
        (libc::SIGINT, "interrupt"),
        (libc::SIGQUIT, "quit"),
        (libc::SIGILL, "illegal instruction"),
        (libc::SIGABRT, "aborted"),
        (libc::SIGBUS, "bus error"),
        (libc::SIGFPE, "floating point exception"),
        (libc::SIGKILL, "killed"),
        (libc::SIGSEGV, "segmentation fault"),
        (libc::SIGPIPE, "broken pipe"),
        (libc::SIGTERM, "terminated"),
        (libc::SIGSYS, "bad system call"),
    ];
    match WORDS.iter().find(|(number, _)| *number == signal) {
        Some((_, words)) => (*words).into(),
        None => format!("signal {signal}").into(),
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use tare_plan::CgroupLayout;

    use super::{Duration, Process};
    use crate::cgroup::Cgroup;

    /// A version 1 freezer holds even SIGKILL back.
    #[test]
    #[allow(clippy::zombie_processes, reason = "who reaps it is the question")]
    fn a_process_that_is_frozen_is_not_waited_for_and_reaped_in_the_end() {
        let root = rustix::process::geteuid().is_root();
        let layout = crate::host::host().unwrap().cgroups.clone();
        let cgroup = Cgroup::plan(&layout, Path::new(&format!("/tare-test-{}-end", std::process::id()))).unwrap();
        let (true, CgroupLayout::Legacy { .. }, Some(freezer)) = (root, &layout, cgroup.freezer_directory()) else {
            println!("SKIPPED: needs root and a version 1 freezer");
            return;
        };
        cgroup.create().unwrap();
        let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        std::fs::write(freezer.join("cgroup.procs"), pid.to_string()).unwrap();
        cgroup.freeze().unwrap();
        let pidfd = || pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        let (process, other) = (Process::new(pid, pidfd()), Process::new(pid, pidfd()));
        let before = Instant::now();
        process.end();
        assert!(before.elapsed() < Duration::from_secs(20) && !other.has_ended());
        cgroup.thaw().unwrap();
        assert!(other.ends_within(Duration::from_secs(20)));
        let (end, there) = (Instant::now() + Duration::from_secs(20), format!("/proc/{pid}"));
        while Path::new(&there).exists() {
            assert!(Instant::now() < end, "nobody has reaped it");
            std::thread::sleep(Duration::from_millis(1));
        }
        cgroup.remove().unwrap();
    }
}
