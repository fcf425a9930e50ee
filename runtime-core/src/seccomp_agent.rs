//! Handing the listener of a filter with `SCMP_ACT_NOTIFY` to the agent that answers for it: one connection, one message
//! with a ContainerProcessState and the descriptor (runtime-spec, config-linux.md, "The Container Process State").

use std::io::IoSlice;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, send, sendmsg, socket_with,
};
use serde_json::Value;

use crate::Error;

/// An agent that does not listen must not hold a create up for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose filter it is.
#[derive(Debug)]
pub(crate) struct Subject {
    /// The process that has installed it, in this process's pid namespace.
    pub(crate) pid: i32,
    /// The container's state.
    pub(crate) state: Value,
}

/// Sends `listener` to the agent at `path`; the texts are runc's.
pub(crate) fn tell(path: &Path, metadata: &str, subject: &Subject, listener: &OwnedFd) -> Result<(), Error> {
    let message = message(metadata, subject).to_string();
    let failed = |what: &str| {
        let what = format!("{what} ({})", path.display());
        move |errno| Error::system(what, errno)
    };
    let socket =
        reach(path).map_err(failed("failed to connect with seccomp agent specified in the seccomp profile"))?;
    deliver(&socket, message.as_bytes(), listener).map_err(failed("cannot send seccomp fd"))
}

fn message(metadata: &str, subject: &Subject) -> Value {
    let mut message = serde_json::json!({
        "ociVersion": subject.state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": subject.pid,
        "state": subject.state,
    });
    if !metadata.is_empty() {
        message["metadata"] = metadata.into();
    }
    message
}

/// A path that begins with `@` is an abstract name, as Go reads it.
fn reach(path: &Path) -> Result<OwnedFd, Errno> {
    let address = match path.as_os_str().as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        _ => SocketAddrUnix::new(path)?,
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    rustix::io::retry_on_intr(|| connect(&socket, &address))?;
    Ok(socket)
}

/// The descriptor goes with the first byte; a stream may take the rest in pieces.
fn deliver(socket: &OwnedFd, bytes: &[u8], listener: &OwnedFd) -> Result<(), Errno> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [listener.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let mut sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        sent += rustix::io::retry_on_intr(|| send(socket, rest, SendFlags::NOSIGNAL))?;
    }
    Ok(())
}
