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

/// An errno in the words of libc and by its name: `operation not permitted (EPERM)`. Clients match the words.
pub(crate) fn name(errno: rustix::io::Errno) -> String {
    match symbol(errno) {
        Some(symbol) => format!("{} ({symbol})", words(errno)),
        None => words(errno),
    }
}

/// strerror(3) in lower case.
fn words(errno: rustix::io::Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The names of the errors that the calls of this crate can meet.
fn symbol(errno: rustix::io::Errno) -> Option<&'static str> {
    use rustix::io::Errno;
    const NAMES: &[(Errno, &str)] = &[
        (Errno::PERM, "EPERM"),
        (Errno::NOENT, "ENOENT"),
        (Errno::SRCH, "ESRCH"),
        (Errno::IO, "EIO"),
        (Errno::NXIO, "ENXIO"),
        (Errno::TOOBIG, "E2BIG"),
        (Errno::NOEXEC, "ENOEXEC"),
        (Errno::BADF, "EBADF"),
        (Errno::CHILD, "ECHILD"),
        (Errno::AGAIN, "EAGAIN"),
        (Errno::NOMEM, "ENOMEM"),
        (Errno::ACCESS, "EACCES"),
        (Errno::BUSY, "EBUSY"),
        (Errno::EXIST, "EEXIST"),
        (Errno::XDEV, "EXDEV"),
        (Errno::NODEV, "ENODEV"),
        (Errno::NOTDIR, "ENOTDIR"),
        (Errno::ISDIR, "EISDIR"),
        (Errno::INVAL, "EINVAL"),
        (Errno::NFILE, "ENFILE"),
        (Errno::MFILE, "EMFILE"),
        (Errno::NOSPC, "ENOSPC"),
        (Errno::ROFS, "EROFS"),
        (Errno::RANGE, "ERANGE"),
        (Errno::NAMETOOLONG, "ENAMETOOLONG"),
        (Errno::NOSYS, "ENOSYS"),
        (Errno::NOTEMPTY, "ENOTEMPTY"),
        (Errno::LOOP, "ELOOP"),
        (Errno::BADMSG, "EBADMSG"),
        (Errno::OVERFLOW, "EOVERFLOW"),
        (Errno::USERS, "EUSERS"),
        (Errno::OPNOTSUPP, "EOPNOTSUPP"),
        (Errno::TIMEDOUT, "ETIMEDOUT"),
        (Errno::CONNREFUSED, "ECONNREFUSED"),
    ];
    NAMES.iter().find(|(known, _)| *known == errno).map(|(_, name)| *name)
}
