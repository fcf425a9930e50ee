//! The standard streams of a process: from the paths that a client names to descriptors for the core, and the relays in
//! between. What a scheme means is decided in [`uri`]; bytes are moved in [`relay`].
//!
//! Output FIFOs are opened for reading too, so that a client that goes away for a while neither ends nor kills the
//! container: it waits. Output is never dropped while its sink can take it, and only its own container waits for it.

mod binary;
mod relay;
mod uri;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runtime_core::{Error, Kind, Stdio};
use rustix::fs::{Gid, Uid, fchown};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::time::{Instant, sleep};

use relay::{Outlet, Relay};
use uri::Sink;

/// How long Delete may wait for a reader that does not read.
const DRAIN: Duration = Duration::from_secs(10);
/// A terminal that somebody still has open, without output for so long, has said what the ended process had to say.
const TERMINAL_QUIET: Duration = Duration::from_millis(500);

/// What a client asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    /// A FIFO, or nothing.
    pub(crate) stdin: String,
    /// A FIFO, a file, a `file://` or `binary://` URI, or nothing.
    pub(crate) stdout: String,
    /// As `stdout`; not used with a terminal.
    pub(crate) stderr: String,
    /// One terminal for all three.
    pub(crate) terminal: bool,
}

/// Whose streams they are.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// The container.
    pub(crate) container: String,
    /// Its bundle.
    pub(crate) bundle: PathBuf,
    /// Who owns the pipes.
    pub(crate) uid: u32,
    /// Their group.
    pub(crate) gid: u32,
}

/// The shim's side of streams whose process is about to be born.
#[derive(Debug)]
pub(crate) struct Prepared {
    stdin: Option<Input>,
    /// Where a terminal's output goes.
    terminal: Option<Outlet>,
    /// Read ends and their sinks.
    outputs: Vec<(OwnedFd, Outlet)>,
    logger: Option<binary::Logger>,
}

/// A client's stdin.
#[derive(Debug)]
struct Input {
    /// The FIFO, for reading.
    fifo: OwnedFd,
    /// The FIFO, for writing: until it is closed there is no end of file.
    keeper: OwnedFd,
    /// The process's pipe; a terminal has none.
    pipe: Option<OwnedFd>,
}

/// The streams of a living process.
#[derive(Debug, Default)]
pub(crate) struct Io {
    input: Option<Relay>,
    keeper: Option<OwnedFd>,
    stdin_closed: bool,
    console: Option<Arc<OwnedFd>>,
    outputs: Vec<Relay>,
    logger: Option<binary::Logger>,
}

/// Opens what `streams` names.
///
/// # Errors
/// [`Kind::Invalid`] for a scheme or a logger that is not accepted; else what could not be opened.
pub(crate) async fn open(streams: &Streams, owner: &Owner) -> Result<(Stdio, Prepared), Error> {
    let mut prepared = Prepared { stdin: None, terminal: None, outputs: Vec::new(), logger: None };
    if !streams.stdin.is_empty() {
        prepared.stdin = Some(input(Path::new(&streams.stdin))?);
    }
    if streams.terminal {
        prepared.terminal = match uri::read(&streams.stdout)? {
            Sink::Null => None,
            Sink::Path(path) => Some(by_path(&path)?),
            Sink::File(path) => Some(log_file(&path)?),
            Sink::Binary(program) => {
                let (logger, [stdout, _]) = binary::start(&program, owner).await?;
                prepared.logger = Some(logger);
                Some(Outlet::pipe(stdout)?)
            }
        };
        return Ok((Stdio::Terminal, prepared));
    }
    let stdin = match &mut prepared.stdin {
        Some(input) => Some(input.pipe(owner)?),
        None => None,
    };
    let [stdout, stderr] = match uri::read(&streams.stdout)? {
        Sink::Binary(program) => {
            let (logger, ends) = binary::start(&program, owner).await?;
            prepared.logger = Some(logger);
            ends.map(Some)
        }
        // Both go to the one file, whatever the client says of stderr.
        Sink::File(path) => {
            [prepared.output(log_file(&path)?, owner)?, prepared.output(log_file(&path)?, owner)?].map(Some)
        }
        first => [prepared.by_scheme(first, owner)?, prepared.by_scheme(uri::read(&streams.stderr)?, owner)?],
    };
    Ok((Stdio::Streams { stdin, stdout, stderr }, prepared))
}

impl Input {
    /// A pipe for the process: its read end.
    fn pipe(&mut self, owner: &Owner) -> Result<OwnedFd, Error> {
        let (read, write) = pipe(owner)?;
        nonblocking(&write)?;
        self.pipe = Some(write);
        Ok(read)
    }
}

impl Prepared {
    /// Relays a pipe to `outlet`, and gives its write end.
    fn output(&mut self, outlet: Outlet, owner: &Owner) -> Result<OwnedFd, Error> {
        let (read, write) = pipe(owner)?;
        nonblocking(&read)?;
        self.outputs.push((read, outlet));
        Ok(write)
    }

    fn by_scheme(&mut self, sink: Sink, owner: &Owner) -> Result<Option<OwnedFd>, Error> {
        match sink {
            Sink::Null => Ok(None),
            Sink::Path(path) => self.output(by_path(&path)?, owner).map(Some),
            Sink::File(path) => self.output(log_file(&path)?, owner).map(Some),
            Sink::Binary(_) => {
                Err(Error::new(Kind::Invalid, "a logging binary takes both streams, and is named for stdout"))
            }
        }
    }

    /// Starts the relays of a process that has been born, `console` being its terminal's master.
    ///
    /// # Errors
    /// The kernel refusing to watch a descriptor.
    pub(crate) fn connect(self, console: Option<OwnedFd>) -> Result<Io, Error> {
        let mut io = Io { logger: self.logger, ..Io::default() };
        if let Some(console) = &console {
            nonblocking(console)?;
        }
        let console = console.map(Arc::new);
        if let Some(input) = self.stdin {
            io.input = match (input.pipe, &console) {
                (Some(pipe), _) => Some(Relay::splice(input.fifo, Outlet::pipe(pipe)?)?),
                (None, Some(console)) => Some(Relay::into_terminal(input.fifo, console.clone())?),
                (None, None) => None,
            };
            io.keeper = Some(input.keeper);
        }
        for (read, outlet) in self.outputs {
            io.outputs.push(Relay::splice(read, outlet)?);
        }
        if let Some(console) = &console {
            // Without a sink it is read all the same: a terminal that nobody reads stops its writers.
            let outlet = self.terminal.unwrap_or(Outlet::Null);
            io.outputs.push(Relay::from_terminal(console.clone(), outlet)?);
        }
        io.console = console;
        Ok(io)
    }
}

impl Io {
    /// Lets the process see the end of its stdin, once the client has closed its side too. A client may ask for that
    /// while the process is still being born.
    pub(crate) fn close_stdin(&mut self) {
        self.keeper = None;
        self.stdin_closed = true;
    }

    /// A client has asked for the end of stdin.
    pub(crate) fn stdin_is_closed(&self) -> bool {
        self.stdin_closed
    }

    /// Changes the terminal's size; without one there is nothing to change.
    ///
    /// # Errors
    /// The kernel refusing.
    pub(crate) fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        let Some(console) = &self.console else { return Ok(()) };
        let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(console.as_fd(), size).map_err(|errno| Error::system("resize the terminal", errno))
    }

    /// Passes on what the process, which has ended, had written before, and closes everything. It does not wait for others
    /// that still hold the pipes: what is in them once the process is dead is what there is to pass on.
    pub(crate) async fn finish(self) {
        let deadline = Instant::now() + DRAIN;
        tokio::task::yield_now().await;
        let mut drained = self.quiet(deadline).await;
        // A terminal passes output on at its leisure (n_tty's work queue): that there is nothing to read now says little.
        // It ends by itself when nobody has it open any more; when somebody has, a while without output is the end.
        let mut silent_since = Instant::now();
        while drained && self.console.is_some() && !self.outputs.iter().all(Relay::is_finished) {
            if silent_since.elapsed() > TERMINAL_QUIET {
                break;
            }
            sleep(Duration::from_millis(1)).await;
            if !self.outputs.iter().all(Relay::is_quiet) {
                drained = self.quiet(deadline).await;
                silent_since = Instant::now();
            }
        }
        if !drained {
            log::warn!("output was not read within {} s and is lost", DRAIN.as_secs());
        }
        for relay in self.outputs.into_iter().chain(self.input) {
            relay.end().await;
        }
        if let Some(logger) = self.logger {
            logger.stop();
        }
    }

    /// Waits until there is nothing to pass on; whether that came before the deadline.
    async fn quiet(&self, deadline: Instant) -> bool {
        let mut pause = Duration::from_micros(200);
        while !self.outputs.iter().all(Relay::is_quiet) {
            if Instant::now() > deadline {
                return false;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        true
    }
}

/// A pipe for a process, owned as the options say.
fn pipe(owner: &Owner) -> Result<(OwnedFd, OwnedFd), Error> {
    let ends = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::system("pipe", errno))?;
    if owner.uid != 0 || owner.gid != 0 {
        fchown(&ends.0, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
            .map_err(|errno| Error::system("chown a pipe", errno))?;
    }
    Ok(ends)
}

fn nonblocking(fd: &OwnedFd) -> Result<(), Error> {
    rustix::io::ioctl_fionbio(fd, true).map_err(|errno| Error::system("set non-blocking", errno))
}

/// Opens a client's stdin FIFO from both sides; neither open waits.
fn input(path: &Path) -> Result<Input, Error> {
    let open = |options: &mut OpenOptions| {
        options.custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| io_error(path, &error))
    };
    let fifo = open(OpenOptions::new().read(true))?;
    let keeper = open(OpenOptions::new().write(true))?;
    Ok(Input { fifo: fifo.into(), keeper: keeper.into(), pipe: None })
}

/// Opens a path without a scheme: a FIFO, or a file that is there.
fn by_path(path: &Path) -> Result<Outlet, Error> {
    let found = path.metadata().map_err(|error| io_error(path, &error))?;
    if found.file_type().is_fifo() {
        return Ok(Outlet::Fifo(path.to_path_buf()));
    }
    File::options().append(true).open(path).map(Outlet::file).map_err(|error| io_error(path, &error))
}

/// Opens a log file, making it and the folders above it.
fn log_file(path: &Path) -> Result<Outlet, Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| io_error(folder, &error))?;
    }
    let file = File::options().append(true).create(true).mode(0o644).open(path);
    file.map(Outlet::file).map_err(|error| io_error(path, &error))
}

fn io_error(path: &Path, error: &io::Error) -> Error {
    match rustix::io::Errno::from_io_error(error) {
        Some(errno) => Error::system(format!("open {}", path.display()), errno),
        None => Error::new(Kind::System, format!("open {}: {error}", path.display())),
    }
}
