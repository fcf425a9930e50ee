//! The one error that leaves the core: a [`Kind`] to branch on, and a chain of "while doing what to what" for people.
//! It neither logs nor knows status codes or exit codes; the faces map [`Kind`] to theirs.

use std::fmt;

/// What a caller can branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The specification, or an argument, cannot be honoured.
    Invalid,
    /// There is no such container, process or program.
    NotFound,
    /// There is one of that name already.
    Exists,
    /// The container is not in a state that allows it.
    State,
    /// The process has already ended.
    Finished,
    /// The program of a process cannot be executed: not found, not executable, a directory.
    Program,
    /// This host or this version of tare cannot do it.
    Unsupported,
    /// It took longer than it may.
    Timeout,
    /// A process was killed before it could do anything.
    Stillborn,
    /// The kernel refused.
    System,
}

/// A failure of the core.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    errno: Option<rustix::io::Errno>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), errno: None }
    }

    /// The kernel refused `what` ("mkdir /sys/fs/cgroup/x") with `errno`.
    pub fn system(what: impl fmt::Display, errno: rustix::io::Errno) -> Self {
        Self { kind: Kind::System, message: format!("{what}: {}", name(errno)), errno: Some(errno) }
    }

    /// The same, for what std did.
    pub(crate) fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        match rustix::io::Errno::from_io_error(error) {
            Some(errno) => Self::system(what, errno),
            None => Self::new(Kind::System, format!("{what}: {error}")),
        }
    }

    /// The program of a process could not be executed, at the very last: `exec format error` and its kin.
    pub(crate) fn program(what: impl fmt::Display, errno: rustix::io::Errno) -> Self {
        Self { kind: Kind::Program, message: format!("{what}: {}", words(errno)), errno: Some(errno) }
    }

    /// The same error, met while doing `what`.
    #[must_use]
    pub fn during(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The same error, with what else is known of it.
    pub(crate) fn followed_by(mut self, more: impl fmt::Display) -> Self {
        self.message = format!("{}: {more}", self.message);
        self
    }

    /// What a caller can branch on.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The errno at the bottom, if the kernel refused.
    #[must_use]
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        self.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<tare_plan::Refusal> for Error {
    fn from(refusal: tare_plan::Refusal) -> Self {
        Self::new(Kind::Invalid, format!("config.json: {refusal}"))
    }
}

/// An errno in words and by its name: `operation not permitted (EPERM)`. Clients match the words, which are glibc's and
/// Go's; musl, which the binaries are linked with, has others.
pub(crate) fn name(errno: rustix::io::Errno) -> String {
    match known(errno) {
        Some((symbol, words)) => format!("{words} ({symbol})"),
        None => strerror(errno),
    }
}

fn words(errno: rustix::io::Errno) -> String {
    known(errno).map_or_else(|| strerror(errno), |(_, words)| words.to_owned())
}

/// strerror(3) in lower case.
fn strerror(errno: rustix::io::Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The errors that the calls of this crate can meet: their names, and their words.
fn known(errno: rustix::io::Errno) -> Option<(&'static str, &'static str)> {
    use rustix::io::Errno;
    const NAMES: &[(Errno, &str, &str)] = &[
        (Errno::PERM, "EPERM", "operation not permitted"),
        (Errno::NOENT, "ENOENT", "no such file or directory"),
        (Errno::SRCH, "ESRCH", "no such process"),
        (Errno::IO, "EIO", "input/output error"),
        (Errno::NXIO, "ENXIO", "no such device or address"),
        (Errno::TOOBIG, "E2BIG", "argument list too long"),
        (Errno::NOEXEC, "ENOEXEC", "exec format error"),
        (Errno::BADF, "EBADF", "bad file descriptor"),
        (Errno::CHILD, "ECHILD", "no child processes"),
        (Errno::AGAIN, "EAGAIN", "resource temporarily unavailable"),
        (Errno::NOMEM, "ENOMEM", "cannot allocate memory"),
        (Errno::ACCESS, "EACCES", "permission denied"),
        (Errno::BUSY, "EBUSY", "device or resource busy"),
        (Errno::EXIST, "EEXIST", "file exists"),
        (Errno::XDEV, "EXDEV", "invalid cross-device link"),
        (Errno::NODEV, "ENODEV", "no such device"),
        (Errno::NOTDIR, "ENOTDIR", "not a directory"),
        (Errno::ISDIR, "EISDIR", "is a directory"),
        (Errno::INVAL, "EINVAL", "invalid argument"),
        (Errno::NFILE, "ENFILE", "too many open files in system"),
        (Errno::MFILE, "EMFILE", "too many open files"),
        (Errno::NOSPC, "ENOSPC", "no space left on device"),
        (Errno::ROFS, "EROFS", "read-only file system"),
        (Errno::RANGE, "ERANGE", "numerical result out of range"),
        (Errno::NAMETOOLONG, "ENAMETOOLONG", "file name too long"),
        (Errno::NOSYS, "ENOSYS", "function not implemented"),
        (Errno::NOTEMPTY, "ENOTEMPTY", "directory not empty"),
        (Errno::LOOP, "ELOOP", "too many levels of symbolic links"),
        (Errno::BADMSG, "EBADMSG", "bad message"),
        (Errno::OVERFLOW, "EOVERFLOW", "value too large for defined data type"),
        (Errno::USERS, "EUSERS", "too many users"),
        (Errno::OPNOTSUPP, "EOPNOTSUPP", "operation not supported"),
        (Errno::TIMEDOUT, "ETIMEDOUT", "connection timed out"),
        (Errno::CONNREFUSED, "ECONNREFUSED", "connection refused"),
    ];
    NAMES.iter().find(|(known, ..)| *known == errno).map(|(_, name, words)| (*name, *words))
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::{known, strerror};
    use rustix::io::Errno;

    #[test]
    fn the_words_are_those_of_glibc() {
        let errnos = (1..134).map(Errno::from_raw_os_error);
        let named: Vec<_> = errnos.filter_map(|errno| Some((errno, known(errno)?.1))).collect();
        assert!(named.len() > 30);
        for (errno, words) in named {
            assert_eq!(words, strerror(errno), "{errno:?}");
        }
    }
}
