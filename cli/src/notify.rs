//! `NOTIFY_SOCKET` (sd_notify(3)): the container tells a socket of ours that it is ready, and we tell the caller's service
//! manager. Only that one word passes: a container must not speak for the service in anything else.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use runtime_core::oci;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::failure::Failure;
use crate::sockets;

/// Where the container finds it.
const INSIDE: &str = "/run/notify";
const SOCKET: &str = "notify.sock";
/// Seconds that the service manager may take to say that it has heard all.
const PATIENCE: i64 = 30;
/// Messages that are read before anything else gets its turn.
const AT_ONCE: usize = 64;

/// Our socket, and the caller's.
#[derive(Debug)]
pub(crate) struct Notify {
    ours: UnixDatagram,
    theirs: UnixDatagram,
}

/// The caller's socket, if he has one.
pub(crate) fn requested() -> Option<String> {
    std::env::var("NOTIFY_SOCKET").ok().filter(|path| !path.is_empty())
}

/// Shows the folder `notify` of the container's state to the container.
pub(crate) fn add_to(spec: &mut oci::Spec, state: &Path) {
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
    let mut mount = oci::Mount::default();
    mount.set_destination(INSIDE.into());
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some(state.join("notify")));
    mount.set_options(Some(options));
    spec.mounts_mut().get_or_insert_default().push(mount);
    if let Some(process) = spec.process_mut() {
        process.env_mut().get_or_insert_default().push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
    }
}

/// Makes the folder that [`add_to`] shows.
pub(crate) fn make_folder(state: &Path) -> Result<(), Failure> {
    let folder = state.join("notify");
    let made = std::fs::DirBuilder::new().mode(0o755).create(&folder);
    made.map_err(|error| Failure::io(format!("mkdir {}", folder.display()), error))
}

impl Notify {
    /// Listens in the container's state folder for what goes to the caller's socket `theirs`.
    pub(crate) fn bind(state: &Path, theirs: &str) -> Result<Self, Failure> {
        let path = state.join("notify").join(SOCKET);
        let ours = UnixDatagram::bind(&path).and_then(|socket| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let ours = ours.map_err(|error| Failure::io(format!("listen on {}", path.display()), error))?;
        let theirs = connect(theirs).map_err(|error| Failure::io(format!("dial unixgram {theirs}: connect"), error))?;
        Ok(Self { ours, theirs })
    }

    /// Reads what the container has said; true once it has said that it is ready and the caller knows.
    pub(crate) fn pass(&self, main_pid: u32) -> bool {
        let mut bytes = [0; 4096];
        // Not without end: whoever looks after the container has more to look after than what it says here.
        for _ in 0..AT_ONCE {
            let Ok(length) = self.ours.recv(&mut bytes) else { return false };
            let said = bytes.get(..length).unwrap_or_default();
            if let Some(ready) = said.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY=")) {
                // A service manager that has gone away is nothing to stop a container for.
                let _ = self.tell(ready, main_pid);
                return true;
            }
        }
        false
    }

    /// Waits until the container has said that it is ready, or `process` has ended.
    pub(crate) fn wait(&self, process: impl AsFd, main_pid: u32) {
        loop {
            let mut watched = [PollFd::new(&self.ours, PollFlags::IN), PollFd::new(&process, PollFlags::IN)];
            if rustix::io::retry_on_intr(|| poll(&mut watched, None)).is_err() {
                return;
            }
            let ended = watched.last().is_some_and(|one| !one.revents().is_empty());
            if self.pass(main_pid) || ended {
                return;
            }
        }
    }

    fn tell(&self, ready: &[u8], main_pid: u32) -> std::io::Result<()> {
        self.theirs.send(&[ready, b"\n"].concat())?;
        self.theirs.send(format!("MAINPID={main_pid}\n").as_bytes())?;
        // The service manager closes the descriptor once it has read everything before it.
        let (reader, writer) = std::io::pipe()?;
        sockets::send(self.theirs.as_fd(), writer.as_fd(), b"BARRIER=1")?;
        drop(writer);
        let mut watched = [PollFd::new(&reader, PollFlags::HUP)];
        rustix::io::retry_on_intr(|| poll(&mut watched, Some(&Timespec { tv_sec: PATIENCE, tv_nsec: 0 })))?;
        Ok(())
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ours.as_fd()
    }
}

/// A path, or with `@` a name in the abstract namespace.
fn connect(address: &str) -> std::io::Result<UnixDatagram> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(Duration::from_secs(PATIENCE.unsigned_abs())))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_without_end_keeps_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let _manager = UnixDatagram::bind(state.join("manager")).unwrap();
        make_folder(state).unwrap();
        let notify = Notify::bind(state, state.join("manager").to_str().unwrap()).unwrap();
        let (container, place) = (UnixDatagram::unbound().unwrap(), state.join("notify").join(SOCKET));
        // Until its socket is gone with the folder.
        let speaking = std::thread::spawn(move || while container.send_to(b"STATUS=x", &place).is_ok() {});
        assert!(!notify.pass(7));
        drop((notify, folder));
        speaking.join().unwrap();
    }

    #[test]
    fn ready_passes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let manager = UnixDatagram::bind(state.join("manager")).unwrap();
        make_folder(state).unwrap();
        let notify = Notify::bind(state, state.join("manager").to_str().unwrap()).unwrap();
        let container = UnixDatagram::unbound().unwrap();
        let say = |text: &[u8]| container.send_to(text, state.join("notify").join(SOCKET)).unwrap();
        say(b"STATUS=starting\nMAINPID=1");
        assert!(!notify.pass(7));
        say(b"STATUS=up\nREADY=1");
        let listening = std::thread::spawn(move || {
            let mut bytes = [0; 64];
            // What is received without room for its descriptor closes it, which answers the barrier.
            [(); 3].map(|()| {
                let length = manager.recv(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes[..length]).into_owned()
            })
        });
        assert!(notify.pass(7));
        assert_eq!(listening.join().unwrap(), ["READY=1\n", "MAINPID=7\n", "BARRIER=1"]);
    }
}
