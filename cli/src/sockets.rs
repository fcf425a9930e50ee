//! Descriptors handed to the caller through a socket of his: a terminal's master (`--console-socket`) and a pidfd
//! (`--pidfd-socket`). One message each, with the descriptor as SCM_RIGHTS.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::failure::Failure;

/// Connects to `path` and sends `fd` there, named `name`.
pub(crate) fn hand_over(path: &str, fd: impl AsFd, name: &str) -> Result<(), Failure> {
    let stream = UnixStream::connect(path).map_err(|error| Failure::io(format!("dial unix {path}: connect"), error))?;
    send(stream.as_fd(), fd.as_fd(), name.as_bytes()).map_err(|errno| Failure::io(format!("send to {path}"), errno))
}

/// One message with one descriptor.
pub(crate) fn send(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>, text: &[u8]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    // The space is for exactly this.
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(text)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_descriptor_arrives_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        hand_over(path.to_str().unwrap(), &writer, "/dev/pts/0").unwrap();
        drop(writer);
        let (stream, _) = listener.accept().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 32];
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        let flags = rustix::net::RecvFlags::CMSG_CLOEXEC;
        let length = rustix::net::recvmsg(&stream, &mut parts, &mut ancillary, flags).unwrap().bytes;
        let received = ancillary.drain().find_map(|message| match message {
            rustix::net::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        assert_eq!(&bytes[..length], b"/dev/pts/0");
        rustix::io::write(received.as_ref().unwrap(), b"x").unwrap();
        drop(received);
        assert_eq!(std::io::read_to_string(reader).unwrap(), "x");
        assert!(hand_over("/nonexistent", std::io::stdin(), "x").is_err());
    }
}
