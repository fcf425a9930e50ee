//! Reading and writing control files: three system calls each, and errors that name the file. It knows no file by name.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::Error;

/// Opens a control file.
pub(super) fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Writes `value` in one `write(2)`, as control files want it.
pub(super) fn write(path: &Path, value: &str) -> Result<(), Errno> {
    let file = open(path, OFlags::WRONLY)?;
    rustix::io::write(&file, value.as_bytes()).map(drop)
}

/// The whole text of a control file, or `None` where there is none: its controller is not enabled.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    match open(path, OFlags::RDONLY) {
        Ok(file) => text(&file, path),
        Err(Errno::NOENT | Errno::NODEV) => Ok(None),
        Err(errno) => Err(Error::system(format_args!("open {}", path.display()), errno)),
    }
}

/// The whole text of an open control file, from its beginning; `None` once its cgroup has gone.
pub(super) fn text(file: &OwnedFd, path: &Path) -> Result<Option<String>, Error> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        bytes.reserve(1024);
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), offset) {
            Ok(0) => break,
            // One short read is the end of all single values; only long tables come in pieces, and those fill a page.
            Ok(count) if count < 2048 && offset == 0 => break,
            Ok(_) | Err(Errno::INTR) => {}
            // A control without a value for this cgroup (an unset limit, a disabled pressure file) says so when read.
            Err(Errno::NODEV | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(Error::system(format_args!("read {}", path.display()), errno)),
        }
    }
    String::from_utf8(bytes).map(Some).map_err(|_| garbled(path, "not UTF-8"))
}

/// A control file that does not say what its format promises.
pub(super) fn garbled(path: &Path, text: &str) -> Error {
    Error::new(crate::Kind::System, format!("read {}: cannot make sense of {text:?}", path.display()))
}

/// The directory exists.
pub(super) fn exists(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
}
