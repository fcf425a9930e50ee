//! Standard streams as containerd's clients make them: FIFOs in a folder, read by a thread of their own.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::Containerd;

/// The streams of a Create or Exec request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Standard input: a FIFO's path, or empty.
    pub stdin: String,
    /// Standard output: a FIFO's path, a URI, or empty.
    pub stdout: String,
    /// Standard error, the same.
    pub stderr: String,
    /// One terminal instead of three streams.
    pub terminal: bool,
}

impl Stdio {
    /// No streams at all.
    #[must_use]
    pub fn null() -> Self {
        Self::default()
    }

    /// Both outputs to one URI, `file:///tmp/log` or `binary:///bin/logger?key=value`.
    #[must_use]
    pub fn to_uri(uri: &str) -> Self {
        Self { stdout: uri.to_owned(), stderr: uri.to_owned(), ..Self::default() }
    }
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Makes a FIFO with a new name in a containerd's home.
///
/// # Errors
/// When the folder cannot be written.
pub fn fifo(daemon: &Containerd) -> Result<PathBuf> {
    let folder = daemon.home().join("fifo");
    fs::create_dir_all(&folder)?;
    let path = folder.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &path, FileType::Fifo, mode, 0).with_context(|| format!("mkfifo {}", path.display()))?;
    Ok(path)
}

/// Output streams that are collected as they come.
#[derive(Debug)]
pub struct Pipes {
    /// Standard output.
    pub stdout: Collector,
    /// Standard error.
    pub stderr: Collector,
}

impl Pipes {
    /// Two new FIFOs, each with a reader.
    ///
    /// # Errors
    /// When the FIFOs cannot be made.
    pub fn new(daemon: &Containerd) -> Result<Self> {
        Ok(Self { stdout: Collector::new(daemon)?, stderr: Collector::new(daemon)? })
    }

    /// The request's streams.
    #[must_use]
    pub fn stdio(&self) -> Stdio {
        Stdio { stdout: self.stdout.path(), stderr: self.stderr.path(), ..Stdio::default() }
    }
}

#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<u8>,
    ended: bool,
}

/// A FIFO and the thread that reads it to its end.
#[derive(Debug)]
pub struct Collector {
    path: PathBuf,
    seen: Arc<Mutex<Stream>>,
}

impl Collector {
    /// A new FIFO, read from the moment the shim opens it.
    ///
    /// # Errors
    /// When the FIFO cannot be made.
    pub fn new(daemon: &Containerd) -> Result<Self> {
        let path = fifo(daemon)?;
        let seen = Arc::new(Mutex::new(Stream::default()));
        let (thread_path, thread_seen) = (path.clone(), Arc::clone(&seen));
        std::thread::spawn(move || {
            if let Ok(file) = File::open(thread_path) {
                read_to_end(file, &thread_seen);
            }
        });
        Ok(Self { path, seen })
    }

    /// The FIFO's path.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// What has come so far.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.seen).bytes.clone()
    }

    /// How many bytes have come so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.seen).bytes.len()
    }

    /// Every writer has closed the FIFO.
    #[must_use]
    pub fn ended(&self) -> bool {
        lock(&self.seen).ended
    }

    /// Everything, once the stream has ended; waits ten seconds for that.
    ///
    /// # Errors
    /// When the stream does not end.
    pub async fn text(&self) -> Result<String> {
        crate::events::until(10, || self.ended()).await.with_context(|| {
            format!("{} was not closed; so far: {}", self.path(), String::from_utf8_lossy(&self.bytes()))
        })?;
        Ok(String::from_utf8_lossy(&self.bytes()).into_owned())
    }

    /// Waits until a text has come.
    ///
    /// # Errors
    /// When it does not come within ten seconds.
    pub async fn expect(&self, text: &str) -> Result<()> {
        let seen = || String::from_utf8_lossy(&self.bytes()).contains(text);
        crate::events::until(10, seen)
            .await
            .with_context(|| format!("{text:?} did not come, but {:?}", String::from_utf8_lossy(&self.bytes())))
    }
}

impl Drop for Collector {
    /// Lets the reading thread go when no shim has ever opened the FIFO.
    fn drop(&mut self) {
        let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let _ = OpenOptions::new().write(true).custom_flags(nonblocking).open(&self.path);
        let _ = fs::remove_file(&self.path);
    }
}

fn read_to_end(mut file: File, seen: &Mutex<Stream>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = file.read(&mut buffer) {
        if count == 0 {
            break;
        }
        lock(seen).bytes.extend_from_slice(&buffer[..count]);
    }
    lock(seen).ended = true;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writing end of a standard input.
#[derive(Debug)]
pub struct Stdin {
    path: PathBuf,
    file: File,
}

impl Stdin {
    /// A new FIFO, open for writing.
    ///
    /// # Errors
    /// When the FIFO cannot be made.
    pub fn new(daemon: &Containerd) -> Result<Self> {
        let path = fifo(daemon)?;
        // Open for both, so that opening does not wait for the shim.
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self { path, file })
    }

    /// The FIFO's path.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Writes to the process.
    ///
    /// # Errors
    /// When nobody reads.
    pub fn write(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).context("write to stdin")
    }
}

/// Opens a FIFO as a client that never reads it: the writer fills the pipe and then waits.
///
/// # Errors
/// When the FIFO cannot be opened.
pub fn silent_reader(path: &Path) -> Result<File> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits())?;
    OpenOptions::new().read(true).custom_flags(nonblocking).open(path).context("open a FIFO without reading it")
}
