//! Moving bytes between a process and its client, on the shim's one thread.
//!
//! Pipes are spliced: pages change hands, nothing is copied. Terminals and files are copied through small buffers; files
//! on a thread of their own for as long as there is something to write, since a disk may take its time. A sink that
//! cannot be written to any more is replaced by nothing, so that the process does not wait for it for ever.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runtime_core::{Error, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;
use tokio::task::JoinHandle;

use crate::sys::{self, Steady, Watch};

/// As much as a pipe holds.
const PIPE: usize = 64 << 10;
/// As much as a terminal gives at once.
const TERMINAL: usize = 4 << 10;
/// How long a reader has for what is left when a process has ended.
const TAKEN: Duration = Duration::from_secs(1);
/// The end of a file, typed.
const END_OF_FILE: &[u8] = &[4];

/// Where bytes go.
#[derive(Debug)]
pub(super) enum Outlet {
    /// A pipe.
    Pipe(Watch<OwnedFd>),
    /// A FIFO, which is opened when its reader has opened it.
    Fifo(PathBuf),
    /// Anything that is always ready: a file, a device.
    File(Arc<File>),
    /// Nowhere.
    Null,
}

impl Outlet {
    /// A pipe's write end, non-blocking from here on.
    pub(super) fn pipe(fd: OwnedFd) -> Result<Self, Error> {
        super::nonblocking(&fd)?;
        watched(fd, Interest::WRITABLE).map(Self::Pipe)
    }

    pub(super) fn file(file: File) -> Self {
        Self::File(Arc::new(file))
    }
}

/// One direction of one stream. Dropping it ends it and closes its sink.
#[derive(Debug)]
pub(super) struct Relay {
    source: Arc<Watch<Arc<OwnedFd>>>,
    /// The sink has no reader yet, or bytes have left the source and not yet reached it.
    holding: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Moves what comes out of a pipe.
    pub(super) fn splice(source: OwnedFd, outlet: Outlet) -> Result<Self, Error> {
        Self::run(Arc::new(source), async |source, holding| match settled(outlet, &holding).await {
            Ok(Settled::Pipe(sink)) => {
                after(spliced(&source, &sink).await, &source).await;
                taken(&sink, &holding).await;
            }
            Ok(Settled::File(file)) => filed(source, file, holding).await,
            Ok(Settled::Null) => discarded(&source).await,
            Err(error) => after(Err(error), &source).await,
        })
    }

    /// Copies what a terminal shows.
    pub(super) fn from_terminal(console: Arc<OwnedFd>, outlet: Outlet) -> Result<Self, Error> {
        Self::run(console, async |source, holding| match settled(outlet, &holding).await {
            Ok(Settled::Pipe(sink)) => {
                after(copied(&source, &sink, &holding).await, &source).await;
                taken(&sink, &holding).await;
            }
            Ok(Settled::File(file)) => filed(source, file, holding).await,
            Ok(Settled::Null) => discarded(&source).await,
            Err(error) => after(Err(error), &source).await,
        })
    }

    /// Copies what is typed. At its end an end-of-file character is typed, so that a reader in line mode sees the end
    /// and nothing that was still to be shown is lost, as it would be by a hang-up.
    pub(super) fn into_terminal(source: OwnedFd, console: Arc<OwnedFd>) -> Result<Self, Error> {
        // A second registration of one description needs a number of its own.
        let console = console.try_clone().map_err(|error| system("duplicate the terminal", &error))?;
        let sink = watched(console, Interest::WRITABLE)?;
        Self::run(Arc::new(source), async move |source, holding| {
            holding.store(false, Ordering::Relaxed);
            if copied(&source, &sink, &holding).await.is_ok() {
                // The process may have ended, and its terminal with it.
                let _gone = written(&sink, END_OF_FILE).await;
            }
        })
    }

    fn run<F, R>(source: Arc<OwnedFd>, relay: F) -> Result<Self, Error>
    where
        F: FnOnce(Arc<Watch<Arc<OwnedFd>>>, Arc<AtomicBool>) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        let source = Arc::new(watched(source, Interest::READABLE)?);
        let holding = Arc::new(AtomicBool::new(true));
        let task = tokio::spawn(relay(source.clone(), holding.clone()));
        Ok(Self { source, holding, task })
    }

    /// The source has ended.
    pub(super) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it; its sink is closed when this returns.
    pub(super) async fn end(mut self) {
        self.task.abort();
        // Cancelled, as was asked.
        let _cancelled = (&mut self.task).await;
    }

    /// There is nothing to move right now.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_finished()
            || !(self.holding.load(Ordering::Relaxed) || ready(self.source.get_ref().as_fd(), PollFlags::IN))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Source = Watch<Arc<OwnedFd>>;

/// An outlet that can be written to.
enum Settled {
    Pipe(Watch<OwnedFd>),
    File(Arc<File>),
    Null,
}

/// Waits until there is somebody at the other end. A client opens its FIFOs on a thread of its own, which may be late:
/// what a quick process says would be gone with the last descriptor, and the client would wait for an end for ever.
async fn settled(outlet: Outlet, holding: &AtomicBool) -> io::Result<Settled> {
    let settled = match outlet {
        Outlet::Pipe(sink) => Settled::Pipe(sink),
        Outlet::Fifo(path) => Settled::Pipe(with_reader(&path).await?),
        Outlet::File(file) => Settled::File(file),
        Outlet::Null => Settled::Null,
    };
    holding.store(false, Ordering::Relaxed);
    Ok(settled)
}

/// Opens a FIFO once it has a reader, and from both sides, so that the reader may go and come back.
async fn with_reader(path: &Path) -> io::Result<Watch<OwnedFd>> {
    let mut pause = Duration::from_micros(500);
    loop {
        let open = |options: &mut OpenOptions| options.custom_flags(libc::O_NONBLOCK).open(path);
        match open(OpenOptions::new().write(true)) {
            Ok(_reader_is_there) => {
                let fifo = open(OpenOptions::new().read(true).write(true))?;
                return sys::watch(fifo.into(), Interest::WRITABLE);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// Waits, for a second at most, until the reader has taken what is in the pipe. containerd's client closes its FIFO as soon
/// as Delete is answered, whatever is still in it; whoever has asked for the end of a process wants to see its last words.
async fn taken(sink: &Watch<OwnedFd>, holding: &AtomicBool) {
    holding.store(true, Ordering::Relaxed);
    let deadline = tokio::time::Instant::now() + TAKEN;
    while rustix::io::ioctl_fionread(sink.get_ref().as_fd()).is_ok_and(|left| left > 0)
        && tokio::time::Instant::now() < deadline
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    holding.store(false, Ordering::Relaxed);
}

/// Splices until the source ends.
async fn spliced(source: &Source, sink: &Watch<OwnedFd>) -> io::Result<()> {
    loop {
        let mut readable = source.readable().await?;
        let mut writable = sink.writable().await?;
        match splice(
            source.get_ref().as_fd(),
            None,
            sink.get_ref().as_fd(),
            None,
            PIPE,
            SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
        ) {
            Ok(0) => return Ok(()),
            Ok(_) => tokio::task::yield_now().await,
            // It does not say which side; forgetting the readiness of one that is ready would be to wait for ever.
            Err(Errno::AGAIN) => {
                if !ready(sink.get_ref().as_fd(), PollFlags::OUT) {
                    writable.clear_ready();
                } else if !ready(source.get_ref().as_fd(), PollFlags::IN | PollFlags::HUP) {
                    readable.clear_ready();
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Copies until the source ends. A terminal ends with EIO, once nobody has it open.
async fn copied(source: &Source, sink: &Watch<OwnedFd>, holding: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; TERMINAL];
    loop {
        let count = read(source, &mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        holding.store(true, Ordering::Relaxed);
        written(sink, &buffer[..count]).await?;
        holding.store(false, Ordering::Relaxed);
    }
}

/// Appends to a file until the source ends.
async fn filed(source: Arc<Source>, file: Arc<File>, holding: Arc<AtomicBool>) {
    loop {
        let Ok(mut readable) = source.readable().await else { return };
        holding.store(true, Ordering::Relaxed);
        let (from, to) = (Arc::clone(source.get_ref()), file.clone());
        let done = tokio::task::spawn_blocking(move || burst(&from, &to)).await;
        holding.store(false, Ordering::Relaxed);
        match done {
            Ok(Ok(Burst::Empty)) => {
                if !ready(source.get_ref().as_fd(), PollFlags::IN | PollFlags::HUP) {
                    readable.clear_ready();
                }
            }
            Ok(Ok(Burst::Ended)) | Err(_) => return,
            Ok(Err(error)) => return after(Err(error), &source).await,
        }
    }
}

/// How far one burst of writing to a file got.
enum Burst {
    /// The source has no more for now.
    Empty,
    /// The source has ended.
    Ended,
}

/// Copies what is there.
fn burst(from: &OwnedFd, mut to: &File) -> io::Result<Burst> {
    let mut buffer = vec![0; PIPE];
    loop {
        match rustix::io::read(from, &mut buffer) {
            Ok(0) | Err(Errno::IO) => return Ok(Burst::Ended),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(Errno::AGAIN) => return Ok(Burst::Empty),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// What follows the end of a relay: nothing, unless it was the sink that failed.
async fn after(result: io::Result<()>, source: &Source) {
    if let Err(error) = result {
        log::warn!("output is dropped from now on: {error}");
        discarded(source).await;
    }
}

/// Reads until the source ends, for nobody.
async fn discarded(source: &Source) {
    let mut buffer = vec![0; TERMINAL];
    while read(source, &mut buffer).await.is_ok_and(|count| count > 0) {}
}

async fn read(source: &Source, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut guard = source.readable().await?;
        match rustix::io::read(source.get_ref().as_fd(), &mut *buffer) {
            Ok(count) => return Ok(count),
            Err(Errno::IO) => return Ok(0),
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

async fn written(sink: &Watch<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut guard = sink.writable().await?;
        match rustix::io::write(sink.get_ref().as_fd(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::AGAIN) => guard.clear_ready(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Whether `fd` is ready now.
fn ready(fd: BorrowedFd<'_>, events: PollFlags) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|_| fds[0].revents().intersects(events))
}

fn watched<T: Steady>(fd: T, interest: Interest) -> Result<Watch<T>, Error> {
    sys::watch(fd, interest).map_err(|error| system("watch a descriptor", &error))
}

fn system(what: &str, error: &io::Error) -> Error {
    match Errno::from_io_error(error) {
        Some(errno) => Error::system(what, errno),
        None => Error::new(Kind::System, format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests;
