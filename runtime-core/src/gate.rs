//! The gate of a container that any process may start, not only the one that made it: two FIFOs in the state folder. Init
//! holds both and waits at the first for a word; `start` writes it, and reads from the second why the program could not
//! be executed, or that it was: a successful execve closes it.
//!
//! FIFOs, because waiting at one asks a container's system call filter for `read` and `write` and nothing else. That
//! init still holds them is what "created" means: a crash of `start` cannot leave a file that says otherwise.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, flock, mknodat};
use rustix::io::Errno;
use tare_init::script::{Record, record};

use crate::{Error, Kind};

/// Read by init. The name is runc's, and so is that of the other: who looks at what a created container has open knows it.
const WORD: &str = "exec.fifo";
/// Written by init.
const ANSWER: &str = "answer/exec.fifo";
/// The other's folder.
const FOLDER: &str = "answer";
/// Seconds that init may take from the word to its program: as on the control socket.
const PATIENCE: i64 = 30;

/// Init's ends. Both are open for reading and writing, so that init neither reads an end of file nor writes into a FIFO
/// without a reader.
#[derive(Debug)]
pub(crate) struct Fifos {
    pub(crate) word: OwnedFd,
    pub(crate) answer: OwnedFd,
}

impl Fifos {
    /// Makes them in `state`.
    pub(crate) fn make(state: &Path) -> Result<Self, Error> {
        let make = |name: &str| {
            let path = state.join(name);
            let failed = |errno| Error::system(format!("make {}", path.display()), errno);
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(failed)?;
            rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed)
        };
        let folder = state.join(FOLDER);
        let made = rustix::fs::mkdir(&folder, Mode::RWXU);
        made.map_err(|errno| Error::system(format!("make {}", folder.display()), errno))?;
        Ok(Self { word: make(WORD)?, answer: make(ANSWER)? })
    }
}

/// Takes the FIFOs away; there may be none.
pub(crate) fn remove(state: &Path) -> Result<(), Error> {
    let paths = [(WORD, AtFlags::empty()), (ANSWER, AtFlags::empty()), (FOLDER, AtFlags::REMOVEDIR)];
    for (path, flags) in paths.map(|(name, flags)| (state.join(name), flags)) {
        match rustix::fs::unlinkat(CWD, &path, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::system(format!("remove {}", path.display()), errno)),
        }
    }
    Ok(())
}

/// Somebody waits at the gate.
pub(crate) fn is_shut(state: &Path) -> bool {
    write_end(state).is_ok()
}

/// The right to open the gate of the container in `state`, held by one process at a time.
#[derive(Debug)]
pub(crate) struct Key<'a> {
    state: &'a Path,
    word: OwnedFd,
    answer: OwnedFd,
    _lock: File,
}

impl<'a> Key<'a> {
    /// Waits for whoever else is starting the container. `None`: nobody waits at the gate.
    pub(crate) fn take(state: &'a Path) -> Result<Option<Self>, Error> {
        let failed = |errno| Error::system(format!("lock {}", state.display()), errno);
        let lock = File::open(state).map_err(|error| Error::io(format!("open {}", state.display()), &error))?;
        rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive)).map_err(failed)?;
        let Ok(word) = write_end(state) else { return Ok(None) };
        let path = state.join(ANSWER);
        let answer = rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let answer = answer.map_err(|errno| Error::system(format!("open {}", path.display()), errno))?;
        Ok(Some(Self { state, word, answer, _lock: lock }))
    }

    /// Lets init execute its program, and says why it could not: `Err` outside is the gate's failure, inside init's.
    pub(crate) fn open(self) -> Result<Result<(), Errno>, Error> {
        let told = rustix::io::write(&self.word, &[0; 16]);
        told.map_err(|errno| Error::system("tell init to go on", errno))?;
        let said = listen(&self.answer)?;
        remove(self.state)?;
        Ok(said)
    }
}

/// Opening a FIFO for writing without waiting succeeds only while somebody has it open for reading.
fn write_end(state: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(state.join(WORD), OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

fn listen(answer: impl AsFd) -> Result<Result<(), Errno>, Error> {
    let limit = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
    let mut watched = [PollFd::new(&answer, PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| poll(&mut watched, Some(&limit)));
    if ready.map_err(|errno| Error::system("wait for init", errno))? == 0 {
        let what = format!("init has not executed its program within {PATIENCE} s: stopped, frozen or stuck");
        return Err(Error::new(Kind::Timeout, what));
    }
    let mut bytes = [0; 16];
    match rustix::io::read(&answer, &mut bytes) {
        Ok(16) => {
            let said = Record::from_bytes(&bytes);
            let errno = if said.kind == record::FAILED { said.value } else { Errno::PROTO.raw_os_error() };
            Ok(Err(Errno::from_raw_os_error(errno)))
        }
        Ok(_) => Ok(Ok(())),
        Err(errno) => Err(Error::system("hear from init", errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Errno, Fifos, Key, Record, is_shut, record, remove};
    use std::os::fd::AsFd as _;

    /// What the stub does at the gate, in a thread.
    fn at_the_gate(name: &str, answer: impl FnOnce(&Fifos) + Send + 'static) -> (std::path::PathBuf, Fifos) {
        let state = std::env::temp_dir().join(format!("tare-gate-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&state).unwrap();
        let fifos = Fifos::make(&state).unwrap();
        let copy = |fd: &std::os::fd::OwnedFd| fd.as_fd().try_clone_to_owned().unwrap();
        let init = Fifos { word: copy(&fifos.word), answer: copy(&fifos.answer) };
        std::thread::spawn(move || {
            rustix::io::read(&init.word, &mut [0; 16]).unwrap();
            answer(&init);
        });
        (state, fifos)
    }

    #[test]
    fn a_closed_answer_is_a_program_executed() {
        let (state, fifos) = at_the_gate("executed", |_| ());
        assert!(is_shut(&state));
        let key = Key::take(&state).unwrap().unwrap();
        drop(fifos);
        assert_eq!(key.open().unwrap(), Ok(()));
        assert!(!is_shut(&state));
        assert!(Key::take(&state).unwrap().is_none(), "it is open");
        std::fs::remove_dir(&state).unwrap();
    }

    #[test]
    fn a_failure_comes_back() {
        let failed = Record { kind: record::FAILED, op: 3, value: 8, detail: 0 };
        let (state, fifos) = at_the_gate("failed", move |init| {
            rustix::io::write(&init.answer, &failed.to_bytes()).unwrap();
        });
        drop(fifos);
        assert_eq!(Key::take(&state).unwrap().unwrap().open().unwrap(), Err(Errno::NOEXEC));
        std::fs::remove_dir(&state).unwrap();
    }

    #[test]
    fn nobody_waits_once_init_is_gone() {
        let (state, fifos) = at_the_gate("gone", |_| ());
        rustix::io::write(&fifos.word, &[0; 16]).unwrap();
        drop(fifos);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_shut(&state) && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        assert!(Key::take(&state).unwrap().is_none());
        remove(&state).unwrap();
        std::fs::remove_dir(&state).unwrap();
    }
}
