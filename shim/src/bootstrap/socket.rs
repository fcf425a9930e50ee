//! Claiming a shim's socket: exactly one shim for an address, however many starts race and whatever a dead one left.
//!
//! Whether a socket is stale is found out by connecting, not by age. All starts of one directory take turns through a
//! lock on it; without the turn, two that both found a stale socket would each remove the other's new one.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

/// Who serves an address.
#[derive(Debug)]
pub(crate) enum Claim {
    /// This process, from now on.
    Ours(Bound),
    /// Another shim, which answers.
    Theirs,
}

/// A bound socket, whose file is removed again unless it is kept.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: UnixListener,
    path: PathBuf,
    kept: bool,
}

impl Bound {
    /// The listener and its path, whose removal is now the caller's.
    pub(crate) fn keep(mut self) -> io::Result<(UnixListener, PathBuf)> {
        self.kept = true;
        Ok((self.listener.try_clone()?, self.path.clone()))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if !self.kept {
            // The error that led here is the one to report; a file left over is found stale by the next start.
            let _left = std::fs::remove_file(&self.path);
        }
    }
}

/// Claims `path`.
///
/// # Errors
/// The directory cannot be made or locked, or the path is too long for a socket.
pub(crate) fn claim(path: &Path) -> io::Result<Claim> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    private_directory(directory)?;
    let turn = File::open(directory)?;
    flock(&turn, FlockOperation::LockExclusive)?;
    match listener(path) {
        Err(Errno::ADDRINUSE) if UnixStream::connect(path).is_ok() => return Ok(Claim::Theirs),
        Err(Errno::ADDRINUSE) => gone(std::fs::remove_file(path))?,
        bound => return Ok(ours(bound?, path)),
    }
    Ok(ours(listener(path)?, path))
}

/// The last shim may have removed it in the meantime.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Removes this shim's own socket: whoever starts a shim of its name from here on makes a new one.
pub(crate) fn leave(path: &Path) {
    if let Err(error) = gone(std::fs::remove_file(path)) {
        log::warn!("remove {}: {error}", path.display());
    }
}

/// Removes the socket at `path` if nobody listens there any more.
pub(crate) fn remove_stale(path: &Path) {
    let refused = UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if refused {
        // Gone already, or in a directory that is gone: as wished.
        let _gone = std::fs::remove_file(path);
    }
}

fn ours(listener: OwnedFd, path: &Path) -> Claim {
    Claim::Ours(Bound { listener: listener.into(), path: path.to_path_buf(), kept: false })
}

/// A listening socket that only its owner can reach. The mode is set before the bind, which gives it to the file: there
/// is no moment at which the umask decides (CVE-2020-15257 is about sockets that others could reach).
fn listener(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, 128)?;
    Ok(socket)
}

/// Makes `directory` if it is missing, for this user alone.
fn private_directory(directory: &Path) -> io::Result<()> {
    match directory.metadata() {
        Ok(found) if found.permissions().mode() & 0o077 == 0 => Ok(()),
        Ok(_) => std::fs::set_permissions(directory, Permissions::from_mode(0o700)),
        Err(_) => DirBuilder::new().recursive(true).mode(0o700).create(directory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt;

    #[test]
    fn the_socket_and_its_directory_are_private() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s/one");
        let Claim::Ours(bound) = claim(&path).unwrap() else { panic!("a fresh path is ours") };
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(path.metadata().unwrap().file_type().is_socket());
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_taken_over_and_a_living_one_is_not() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s/one");
        let Claim::Ours(dead) = claim(&path).unwrap() else { panic!("a fresh path is ours") };
        drop(dead.keep().unwrap());
        let Claim::Ours(alive) = claim(&path).unwrap() else { panic!("a stale one too") };
        assert!(matches!(claim(&path).unwrap(), Claim::Theirs));
        remove_stale(&path);
        assert!(path.exists());
        drop(alive.keep().unwrap());
        remove_stale(&path);
        assert!(!path.exists());
    }

    #[test]
    fn of_many_racing_starts_one_wins() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("s/one");
        let Claim::Ours(dead) = claim(&path).unwrap() else { panic!("a fresh path is ours") };
        drop(dead.keep().unwrap());
        let claims: Vec<Claim> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..20).map(|_| scope.spawn(|| claim(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(claims.iter().filter(|claim| matches!(claim, Claim::Ours(_))).count(), 1);
    }
}
