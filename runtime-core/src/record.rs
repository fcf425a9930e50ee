//! The intent record: `state.json`. It is on disk before the first side effect, so that whatever a crash leaves can be
//! found and taken away by a process that knows nothing else (law 9). One file, written beside and renamed into place.

use std::ffi::CString;
use std::io::ErrorKind;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tare_plan::Hook;

use crate::cgroup::Cgroup;
use crate::net_devices::Lent;
use crate::process::ExitStatus;
use crate::resctrl::Resctrl;
use crate::{Error, Kind};

const NAME: &str = "state.json";
const BESIDE: &str = ".state.json";

/// What is known of a container outside of any process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    /// 0 until it is born.
    pub(crate) init_process_pid: i32,
    /// In clock ticks since boot (proc(5), field 22): tells a pid from a later process of the same number. 0 where procfs
    /// hides it from the one who made it.
    pub(crate) init_process_start: u64,
    /// The inode of its pidfd, which no other process has had since boot; 0 before Linux 6.9.
    #[serde(default)]
    pub(crate) init_process_inode: u64,
    /// RFC 3339 is the faces' business; seconds and nanoseconds since 1970 here.
    pub(crate) created: (u64, u32),
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// The namespaces that are its own, as `CLONE_NEW*` bits.
    pub(crate) own_namespaces: u32,
    pub(crate) no_new_keyring: bool,
    /// Mount points of the rootfs that were handed over, outermost first.
    pub(crate) rootfs_mounts: Vec<PathBuf>,
    /// The cgroup that has been made or taken: who is in it is the container's.
    pub(crate) cgroup: Cgroup,
    /// The cgroup that was about to be made, when the record ends here: it may be nobody's yet, or somebody else's.
    #[serde(default)]
    pub(crate) cgroup_to_be: Option<Cgroup>,
    /// Network devices on their way into a namespace that outlives the container.
    #[serde(default)]
    pub(crate) lent: Option<Lent>,
    #[serde(default)]
    pub(crate) resctrl: Option<Resctrl>,
    /// What runs when the container is gone, whoever takes it away.
    pub(crate) poststop: Vec<StoredHook>,
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) exit: Option<Exit>,
}

/// A hook as text: what came from JSON goes back to JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredHook {
    path: String,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<u64>,
}

impl StoredHook {
    pub(crate) fn new(hook: &Hook) -> Self {
        let text = |string: &CString| string.to_string_lossy().into_owned();
        let texts = |strings: &[CString]| strings.iter().map(text).collect();
        Self {
            path: text(&hook.path),
            args: texts(&hook.args),
            env: texts(hook.env.as_deref().unwrap_or_default()),
            timeout: hook.timeout,
        }
    }

    pub(crate) fn to_hook(&self) -> Hook {
        let text = |string: &String| CString::new(string.as_str()).unwrap_or_default();
        let texts = |strings: &[String]| strings.iter().map(text).collect();
        Hook { path: text(&self.path), args: texts(&self.args), env: Some(texts(&self.env)), timeout: self.timeout }
    }
}

/// How init ended, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    code: u8,
    signal: i32,
    at: (u64, u32),
}

impl Exit {
    pub(crate) fn new(status: ExitStatus, at: SystemTime) -> Self {
        let (code, signal) = match status {
            ExitStatus::Code(code) => (code, 0),
            ExitStatus::Signal(signal) => (0, signal),
        };
        Self { code, signal, at: since_1970(at) }
    }

    pub(crate) fn status(self) -> (ExitStatus, SystemTime) {
        let status = if self.signal == 0 { ExitStatus::Code(self.code) } else { ExitStatus::Signal(self.signal) };
        (status, time(self.at))
    }
}

/// The time that a record has as seconds and nanoseconds since 1970.
pub(crate) fn time((seconds, nanoseconds): (u64, u32)) -> SystemTime {
    UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

/// A clock before 1970 is taken for 1970.
pub(crate) fn since_1970(time: SystemTime) -> (u64, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_nanos())
}

/// Writes a file that is its owner's alone: environments hold secrets.
pub(crate) fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text)
}

impl Record {
    /// Writes it into `folder`, whole or not at all.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Error> {
        let (path, beside) = (folder.join(NAME), folder.join(BESIDE));
        let text = serde_json::to_vec(self).map_err(|error| Error::new(Kind::System, error.to_string()))?;
        let written = write_private(&beside, &text).and_then(|()| std::fs::rename(&beside, &path));
        written.map_err(|error| {
            // A half-written file is no record; that it could not be removed either changes nothing.
            drop(std::fs::remove_file(&beside));
            Error::io(format!("write {}", path.display()), &error)
        })
    }

    /// Reads it from `folder`; `None` when there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(NAME);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::io(format!("read {}", path.display()), &error))?,
        };
        let parsed = serde_json::from_slice(&text);
        parsed.map(Some).map_err(|error| Error::new(Kind::System, format!("{}: {error}", path.display())))
    }

    /// Takes it away; it may be gone.
    pub(crate) fn remove(folder: &Path) -> Result<(), Error> {
        for path in [folder.join(BESIDE), folder.join(NAME)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io(format!("remove {}", path.display()), &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What tells a process from all others since boot, whoever asks; 0 before Linux 6.9, where all pidfds are one file.
pub(crate) fn inode(pidfd: impl AsFd) -> u64 {
    const PIDFS: i64 = 0x5049_4446;
    let on_pidfs = rustix::fs::fstatfs(&pidfd).is_ok_and(|found| found.f_type == PIDFS);
    if on_pidfs { rustix::fs::fstat(&pidfd).map_or(0, |found| found.st_ino) } else { 0 }
}

/// When a process began, in clock ticks since boot; `None` when it is gone. Field 22 of proc(5)'s stat, counted from
/// the last parenthesis, because a program may call itself anything.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let mut text = [0; 1024];
    let mut file = std::fs::File::open(format!("/proc/{pid}/stat")).ok()?;
    let length = std::io::Read::read(&mut file, &mut text).ok()?;
    let stat = String::from_utf8_lossy(text.get(..length)?);
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}
