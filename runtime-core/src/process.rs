//! A process of a container, owned by its pidfd. There is no map from numbers to processes and no SIGCHLD: whoever
//! holds a [`Process`] polls its pidfd, and reaps exactly that child.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::termios::{Winsize, tcsetwinsize};
use tare_plan::TerminalSize;

use crate::{Error, Kind};

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
