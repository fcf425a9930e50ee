//! The one way a process is born: container init, exec, OCI hooks. A script is written to a sealed memfd, the stub is
//! cloned and performs it, and those that follow it, and the parent listens until the stub waits at its last point or has
//! become its program.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::io::Errno;
use tare_plan::Filter;

use crate::line::{Line, Word};
use crate::lower::tag;
use crate::process::{ExitStatus, Process};
use crate::script::{About, Account, Script};
use crate::seccomp_agent::{self, Subject};
use crate::stub::{sealed_bytes, stub};
use crate::sys::clone::{Birth, clone_and_execute};
use crate::{Error, Kind, steps};

/// A stub at work. Dropped before [`Newborn::keep`], it is killed and reaped: nothing half-made stays alive.
#[derive(Debug)]
pub(crate) struct Newborn {
    process: Option<Process>,
    line: Line,
    told: Vec<Account>,
    /// It has been at [`GATE`]: from there on a closed line means that it has executed.
    gated: bool,
    /// Nothing has been heard of the process since its birth.
    silent: bool,
    /// What it has sent, but for its console.
    sent: Vec<(u32, OwnedFd)>,
}

/// A script that is ready to be handed to a stub that waits for it.
#[derive(Debug)]
pub(crate) struct Held<'fd> {
    script: Script<'fd>,
    orders: OwnedFd,
}

/// The last point: everything is done but executing the program.
pub(crate) const GATE: u32 = 9;

/// Where a stub stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// It waits at this point.
    Waiting(u32),
    /// It has become its program.
    Executed,
}

/// Starts the stub on `script`, in this process's namespaces; the script takes it from there.
pub(crate) fn spawn(script: Script<'_>) -> Result<Newborn, Error> {
    let (line, theirs) = Line::pair()?;
    let orders = sealed(&script.to_bytes(Some(theirs.as_fd())))?;
    let number = CString::new(orders.as_raw_fd().to_string()).unwrap_or_default();
    let mut inherit = script.inherited().to_vec();
    inherit.extend([theirs.as_fd(), orders.as_fd()]);
    let birth = Birth { program: stub()?, arguments: [c"tare-init", &number], inherit: &inherit };
    let born = clone_and_execute(&birth);
    let (pid, pidfd) = born.map_err(|errno| Error::system("clone a process", errno))?;
    let (process, told) = (Some(Process::new(pid, pidfd)), vec![script.into_account(&[])]);
    Ok(Newborn { process, line, told, gated: false, silent: false, sent: Vec::new() })
}

fn sealed(script: &[u8]) -> Result<OwnedFd, Error> {
    sealed_bytes("tare-script", script).map_err(|errno| Error::system("hold the script", errno))
}

impl<'fd> Held<'fd> {
    pub(crate) fn new(script: Script<'fd>) -> Result<Self, Error> {
        let orders = sealed(&script.to_bytes(None))?;
        Ok(Self { script, orders })
    }
}

impl Newborn {
    /// The process, as it is now.
    pub(crate) fn process(&self) -> Result<&Process, Error> {
        self.process.as_ref().ok_or_else(given_away)
    }

    /// Listens until the stub waits or has executed; a descriptor it sends becomes the process's console.
    pub(crate) fn listen(&mut self) -> Result<Stand, Error> {
        loop {
            let word = self.line.next()?;
            self.silent &= matches!(word, Word::Closed);
            match word {
                Word::Waiting(point) => {
                    self.gated |= point == GATE;
                    self.process.iter().for_each(|process| steps::waits(process.pid(), point));
                    return Ok(Stand::Waiting(point));
                }
                Word::Past(point) => self.gated |= point == GATE,
                Word::Forked(pid, pidfd) => self.succeed(Process::new(pid, pidfd))?,
                Word::Descriptor(tag::CONSOLE, fd) => {
                    if let Some(process) = &mut self.process {
                        process.put_console(fd);
                    }
                }
                Word::Descriptor(tag, fd) => self.sent.push((tag, fd)),
                Word::Failed { op, errno } => return Err(failure(&self.told, op, errno)),
                Word::Closed => return self.closed(),
            }
        }
    }

    /// Takes the descriptor that the stub has sent with this tag.
    pub(crate) fn take(&mut self, tag: u32) -> Result<OwnedFd, Error> {
        let place = self.sent.iter().position(|(other, _)| *other == tag);
        let place = place.ok_or_else(|| Error::new(Kind::System, format!("the stub has not sent descriptor {tag}")))?;
        Ok(self.sent.swap_remove(place).1)
    }

    /// Hands the listener of its filter, which it has sent, to the agent that the filter names.
    pub(crate) fn tell_agent(&mut self, filter: Option<&Filter>, subject: &Subject) -> Result<(), Error> {
        let listener = self.take(tag::LISTENER)?;
        let agent = filter.and_then(|filter| filter.listener.as_ref());
        let (path, metadata) = agent.ok_or_else(|| Error::new(Kind::System, "a listener and no agent"))?;
        seccomp_agent::tell(path, metadata, subject, &listener)
    }

    /// Lets the stub go on.
    pub(crate) fn go(&self) -> Result<(), Error> {
        self.heard(self.line.go())
    }

    /// Lets the stub go on with another script, for which it waits.
    pub(crate) fn go_on_with(&mut self, held: Held<'_>) -> Result<(), Error> {
        let Held { script, orders } = held;
        let fds: Vec<_> = std::iter::once(orders.as_fd()).chain(script.inherited().iter().copied()).collect();
        let handed = self.line.hand(&fds);
        let account = script.into_account(&self.told);
        self.told.push(account);
        self.heard(handed)
    }

    /// What there is nobody to say to.
    fn heard(&self, said: Result<(), Error>) -> Result<(), Error> {
        match said {
            Err(error) if matches!(error.errno(), Some(Errno::PIPE | Errno::CONNRESET)) => Err(self.last_word()?),
            other => other,
        }
    }

    /// Why it has gone, in its own words if it had any.
    fn last_word(&self) -> Result<Error, Error> {
        while let Some(Ok(word)) = self.line.said() {
            match word {
                Word::Failed { op, errno } => return Ok(failure(&self.told, op, errno)),
                Word::Closed => break,
                _ => {}
            }
        }
        self.ended()
    }

    /// The process, alive beyond this.
    pub(crate) fn keep(mut self) -> Result<Process, Error> {
        self.process.take().ok_or_else(given_away)
    }

    /// The process and its line, alive beyond this: it waits at its gate.
    pub(crate) fn keep_waiting(mut self) -> Result<(Process, Line), Error> {
        let line = self.line.try_clone()?;
        Ok((self.process.take().ok_or_else(given_away)?, line))
    }

    /// Another process goes on: the child that the stub has made beside itself. It waits until it is known here; the old
    /// one leaves at once.
    fn succeed(&mut self, successor: Process) -> Result<(), Error> {
        let old = self.process.replace(successor).ok_or_else(given_away)?;
        steps::born(old.pid());
        self.silent = true;
        let told = self.go();
        old.wait()?;
        told
    }

    /// A closed line is a program executed; before the gate, it is a stub that died without a word: killed, or out of
    /// memory.
    fn closed(&self) -> Result<Stand, Error> {
        if self.gated {
            return Ok(Stand::Executed);
        }
        Err(self.ended()?)
    }

    /// How it ended.
    fn ended(&self) -> Result<Error, Error> {
        let status = self.process()?.wait()?;
        let stillborn = self.silent && status == ExitStatus::Signal(libc::SIGKILL);
        let kind = if stillborn { Kind::Stillborn } else { Kind::System };
        Ok(Error::new(kind, format!("the container's first process ended during its set-up: {status}")))
    }
}

fn given_away() -> Error {
    Error::new(Kind::System, "the process has been given away")
}

impl Drop for Newborn {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else { return };
        process.end();
        // It may have made its successor, and nobody has listened since.
        while let Some(Ok(word)) = self.line.said() {
            match word {
                Word::Forked(pid, pidfd) => Process::new(pid, pidfd).end(),
                Word::Closed => break,
                _ => {}
            }
        }
    }
}

/// The stub's op and errno, in words.
fn failure(told: &[Account], op: u32, errno: Errno) -> Error {
    let account = told.iter().find(|account| account.has(op));
    match account.and_then(|account| account.about_op(op)) {
        Some(About::Finding(program)) => program_error(program, errno),
        Some(About::Executing(program)) => Error::program(format!("exec {program}"), errno),
        Some(About::What(what)) => Error::system(what, errno),
        Some(About::Mounting { what, source, target }) => mount_error(source, target, Error::system(what, errno)),
        None => Error::system(account.map_or_else(|| "unknown op".into(), |account| account.op_text(op)), errno),
    }
}

/// The words of runc for a mount that cannot be made, which people and programs look for.
pub(crate) fn mount_error(source: &str, target: &str, error: Error) -> Error {
    error.during(format!("error during container init: error mounting {source:?} to rootfs at {target:?}"))
}

/// The texts that dockerd, podman and kubelet look for; they are those of Go's `exec.LookPath`, as runc passes them on.
fn program_error(program: &str, errno: Errno) -> Error {
    let why = match errno {
        _ if !program.contains('/') => "executable file not found in $PATH".to_owned(),
        Errno::NOENT => format!("stat {program}: no such file or directory"),
        Errno::NOTDIR => format!("stat {program}: not a directory"),
        Errno::ISDIR => "is a directory".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        errno => crate::error::name(errno),
    };
    Error::new(Kind::Program, format!("exec: {program:?}: {why}"))
}
