//! `binary://`: a program of the host that takes a container's output on descriptors 3 and 4, and tells on 5 when it is
//! ready.
//!
//! The container writes straight into the program's pipes. The shim keeps their read ends too: when the program dies it
//! is started once more, and after that the output is dropped, counted, so that the container neither hangs nor is
//! killed by its log.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runtime_core::{Error, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Owner;
use super::uri::{Program, Readiness};
use crate::orphans::{Birth, Owned};
use crate::sys::{self, Watch};

/// How long a program may take to become ready.
const READY: Duration = Duration::from_secs(10);
/// How long it may take to end once its input has, and then once it was told to.
const STOP: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(12));

/// A running logging program, and the end of its life.
#[derive(Debug)]
pub(super) struct Logger {
    stop: oneshot::Sender<()>,
}

impl Logger {
    /// The container is done: the program has what it will get.
    pub(super) fn stop(self) {
        // A program that has died twice has nobody waiting for it any more.
        let _gone = self.stop.send(());
    }
}

/// Starts `program`; the write ends are for the container.
pub(super) async fn start(program: &Program, owner: &Owner) -> Result<(Logger, [OwnedFd; 2]), Error> {
    trusted(&program.path, &owner.bundle)?;
    log::info!("container {} logs to {}", owner.container, program.path.display());
    let (out_read, out_write) = super::pipe(owner)?;
    let (err_read, err_write) = super::pipe(owner)?;
    let reads = [out_read, err_read];
    let running = spawn(program, owner, &reads).await?;
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(supervise(program.clone(), owner.clone(), reads, running, stopped));
    Ok((Logger { stop }, [out_write, err_write]))
}

/// SECURITY: an image's label can end up as this URI (CVE-2026-53488), so the program must be one that only root can have
/// put there: absolute, nowhere in the bundle, owned by root and writable by nobody else.
fn trusted(path: &Path, bundle: &Path) -> Result<(), Error> {
    let refused = |why: &str| Err(Error::new(Kind::Invalid, format!("logging binary {}: {why}", path.display())));
    if !path.is_absolute() {
        return refused("not an absolute path");
    }
    let real = path
        .canonicalize()
        .map_err(|error| Error::new(Kind::Invalid, format!("logging binary {}: {error}", path.display())))?;
    if real.starts_with(bundle) {
        return refused("inside the bundle");
    }
    match real.metadata() {
        Ok(found) if !found.is_file() => refused("not a file"),
        Ok(found) if found.uid() != 0 || found.mode() & 0o022 != 0 => {
            refused("must be owned by root, and writable by root alone")
        }
        Ok(_) => Ok(()),
        Err(error) => refused(&error.to_string()),
    }
}

/// A started program.
struct Running {
    child: Child,
    pidfd: Watch<OwnedFd>,
    _owned: Owned,
}

impl Running {
    /// Waits for its end.
    async fn ended(&mut self) -> String {
        loop {
            let ready = self.pidfd.readable().await.map(|_| ());
            match self.child.try_wait() {
                Ok(None) if ready.is_ok() => tokio::task::yield_now().await,
                Ok(None) => return "cannot be waited for".into(),
                Ok(Some(status)) => return status.to_string(),
                Err(error) => return error.to_string(),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // It has just ended by itself.
        let _ended = pidfd_send_signal(self.pidfd.get_ref().as_fd(), signal);
    }
}

/// Starts the program and waits until it is ready.
async fn spawn(program: &Program, owner: &Owner, reads: &[OwnedFd; 2]) -> Result<Running, Error> {
    let failed = |what: &str, error: io::Error| {
        Error::new(Kind::System, format!("logging binary {}: {what}{error}", program.path.display()))
    };
    let (ready_read, ready_write) = super::pipe(owner)?;
    super::nonblocking(&ready_read)?;
    let descriptors =
        [&reads[0], &reads[1], &ready_write].map(OwnedFd::try_clone).into_iter().collect::<io::Result<_>>();
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).env_clear();
    command.env("CONTAINER_ID", &owner.container).env("CONTAINER_NAMESPACE", &owner.namespace);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sys::pass_descriptors(&mut command, descriptors.map_err(|error| failed("", error))?);
    let birth = Birth::expected();
    let child = command.spawn().map_err(|error| failed("", error))?;
    // The command holds copies of the descriptors.
    drop((command, ready_write));
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let owned = Owned::child(pid);
    drop(birth);
    let pidfd = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let pidfd = pidfd.map_err(|errno| Error::system("pidfd_open", errno))?;
    let pidfd = sys::watch(pidfd, Interest::READABLE).map_err(|error| failed("", error))?;
    let mut running = Running { child, pidfd, _owned: owned };
    match timeout(READY, readiness(ready_read)).await {
        Ok(Ok(1)) => Ok(running),
        Ok(Ok(0)) if program.ready == Readiness::Either => Ok(running),
        other => {
            running.signal(Signal::KILL);
            running.ended().await;
            let why = if other.is_err() { "was not ready in time" } else { "logging binary did not call ready" };
            Err(Error::new(Kind::System, format!("logging binary {}: {why}", program.path.display())))
        }
    }
}

/// The number of bytes with which it says it is ready: none when it only closed its end.
async fn readiness(ready: OwnedFd) -> io::Result<usize> {
    let ready = sys::watch(ready, Interest::READABLE)?;
    let mut byte = [0];
    loop {
        let mut guard = ready.readable().await?;
        match rustix::io::read(ready.get_ref().as_fd(), &mut byte) {
            Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
            other => return Ok(other?),
        }
    }
}

/// Keeps a program there as long as the container is.
async fn supervise(
    program: Program,
    owner: Owner,
    reads: [OwnedFd; 2],
    mut running: Running,
    mut stopped: oneshot::Receiver<()>,
) {
    for attempt in 0..2 {
        tokio::select! {
            biased;
            _ = &mut stopped => {
                drop(reads);
                return stop(running).await;
            }
            status = running.ended() => {
                if reads.iter().all(exhausted) {
                    return;
                }
                log::warn!("logging binary of {} ended before its container: {status}", owner.container);
            }
        }
        if attempt == 0 {
            match spawn(&program, &owner, &reads).await {
                Ok(again) => running = again,
                Err(error) => {
                    log::error!("{error}");
                    break;
                }
            }
        }
    }
    let dropping = async { tokio::join!(dropped(&reads[0]), dropped(&reads[1])) };
    tokio::select! {
        _ = stopped => {}
        (out, err) = dropping => log::warn!("container {}: {} bytes of output dropped", owner.container, out + err),
    }
}

/// Nobody writes to the pipe any more, and nothing is left in it: its reader was right to end.
fn exhausted(read: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(read, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents() == PollFlags::HUP
}

/// Reads and forgets until there are no more writers: the number of bytes.
async fn dropped(read: &OwnedFd) -> usize {
    let Ok(read) = read.try_clone() else { return 0 };
    if super::nonblocking(&read).is_err() {
        return 0;
    }
    let Ok(read) = sys::watch(read, Interest::READABLE) else { return 0 };
    let (mut total, mut buffer) = (0, vec![0; 4096]);
    loop {
        let Ok(mut guard) = read.readable().await else { return total };
        match rustix::io::read(read.get_ref().as_fd(), &mut buffer) {
            Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
            Ok(count) if count > 0 => total += count,
            _ => return total,
        }
    }
}

/// Lets the program finish, then tells it to, then ends it.
async fn stop(mut running: Running) {
    if timeout(STOP.0, running.ended()).await.is_ok() {
        return;
    }
    running.signal(Signal::TERM);
    if timeout(STOP.1, running.ended()).await.is_err() {
        running.signal(Signal::KILL);
        running.ended().await;
    }
}
