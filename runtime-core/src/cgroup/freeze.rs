//! Freezing and thawing: the version 1 freezer where it is mounted, else `cgroup.freeze`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{Cgroup, file};
use crate::{Error, Kind};

/// How long a cgroup may take to freeze: a process in an uninterruptible wait holds it up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the processes of a cgroup may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They may.
    Thawed,
    /// They have been told to stop, and not all have.
    Freezing,
    /// None runs.
    Frozen,
}

/// The freezer of one of the two versions.
enum Freezer {
    Legacy(PathBuf),
    Unified { freeze: PathBuf, events: PathBuf },
}

impl Cgroup {
    fn freezer(&self) -> Result<Freezer, Error> {
        if self.legacy.is_empty()
            && let Some(place) = &self.unified
        {
            let directory = &place.directory;
            return Ok(Freezer::Unified {
                freeze: directory.join("cgroup.freeze"),
                events: directory.join("cgroup.events"),
            });
        }
        let directory = self.directory_of("freezer");
        let directory = directory.ok_or_else(|| Error::new(Kind::Unsupported, "no freezer hierarchy is mounted"))?;
        Ok(Freezer::Legacy(directory.join("freezer.state")))
    }

    /// Whether the container's processes may run.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the cgroup is gone, [`Kind::Unsupported`] without a freezer.
    pub fn state(&self) -> Result<State, Error> {
        match self.freezer()? {
            Freezer::Legacy(state) => legacy_state(&state),
            Freezer::Unified { freeze, events } => unified_state(&freeze, &events),
        }
    }

    /// Stops every process, and waits until all have stopped.
    ///
    /// # Errors
    /// [`Kind::Timeout`] after ten seconds, with everything running again; [`Kind::NotFound`] when the cgroup is gone.
    pub fn freeze(&self) -> Result<(), Error> {
        let freezer = self.freezer()?;
        let frozen = match &freezer {
            Freezer::Legacy(state) => freeze_legacy(state)?,
            Freezer::Unified { freeze, events } => {
                write(freeze, "1")?;
                await_frozen(events)?
            }
        };
        if frozen {
            return Ok(());
        }
        self.thaw()?;
        Err(Error::new(Kind::Timeout, format!("freezing took longer than {} s", PATIENCE.as_secs())))
    }

    /// Lets every process run.
    ///
    /// # Errors
    /// As [`Cgroup::state`].
    pub fn thaw(&self) -> Result<(), Error> {
        match self.freezer()? {
            Freezer::Legacy(state) => write(&state, "THAWED"),
            Freezer::Unified { freeze, .. } => write(&freeze, "0"),
        }
    }
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    file::write(path, value).map_err(|errno| match errno {
        Errno::NOENT | Errno::NODEV => gone(path),
        errno => Error::system(format_args!("write {value} to {}", path.display()), errno),
    })
}

fn gone(path: &Path) -> Error {
    Error::new(Kind::NotFound, format!("{}: no such file or directory", path.display()))
}

fn legacy_state(path: &Path) -> Result<State, Error> {
    let text = file::read(path)?.ok_or_else(|| gone(path))?;
    match text.trim() {
        "THAWED" => Ok(State::Thawed),
        "FREEZING" => Ok(State::Freezing),
        "FROZEN" => Ok(State::Frozen),
        other => Err(file::garbled(path, other)),
    }
}

fn unified_state(freeze: &Path, events: &Path) -> Result<State, Error> {
    if file::read(freeze)?.ok_or_else(|| gone(freeze))?.trim() == "0" {
        return Ok(State::Thawed);
    }
    let events = file::read(events)?.ok_or_else(|| gone(events))?;
    Ok(if says_frozen(&events) { State::Frozen } else { State::Freezing })
}

fn says_frozen(events: &str) -> bool {
    events.lines().any(|line| line == "frozen 1")
}

/// Version 1 tells nobody when it has frozen, so it is asked, after longer and longer pauses. A process that is being
/// forked can leave the freezer in FREEZING for good; writing again restarts it (kernel: freezer-subsystem.rst).
fn freeze_legacy(path: &Path) -> Result<bool, Error> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(20);
    while Instant::now() < end {
        write(path, "FROZEN")?;
        if legacy_state(path)? == State::Frozen {
            return Ok(true);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(false)
}

/// Version 2 announces the change of `cgroup.events` to whoever polls for it.
fn await_frozen(path: &Path) -> Result<bool, Error> {
    let file = file::open(path, OFlags::RDONLY).map_err(|_| gone(path))?;
    let end = Instant::now() + PATIENCE;
    loop {
        let events = file::text(&file, path)?.ok_or_else(|| gone(path))?;
        if says_frozen(&events) {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::system(format_args!("poll {}", path.display()), errno)),
        }
    }
}
