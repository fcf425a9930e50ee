//! The control socket between the parent and a stub: what the stub says, and the word to go on. Message boundaries are
//! the kernel's (`SOCK_SEQPACKET`); a record is sixteen bytes.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use tare_init::script::{IN_ONE_MESSAGE, Record, record};

use crate::{Error, Kind};

/// Seconds that a stub may take from one word to the next: a slow network file system passes, a stopped stub does not.
const PATIENCE: i64 = 30;

/// The parent's end.
#[derive(Debug)]
pub(crate) struct Line(OwnedFd);

/// What a stub has said.
#[derive(Debug)]
pub(crate) enum Word {
    /// It waits at this point.
    Waiting(u32),
    /// It is past this point.
    Past(u32),
    /// Another process goes on in its place: its pid and pidfd.
    Forked(i32, OwnedFd),
    /// It has sent a descriptor, with this tag.
    Descriptor(u32, OwnedFd),
    /// An op could not be done.
    Failed {
        /// Which.
        op: u32,
        /// Why.
        errno: Errno,
    },
    /// It has executed its program, or ended without a word.
    Closed,
}

impl Line {
    /// Both ends: ours, and the stub's.
    pub(crate) fn pair() -> Result<(Self, OwnedFd), Error> {
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.map_err(|errno| Error::system("make a control socket", errno))?;
        Ok((Self(ours), theirs))
    }

    /// Waits for the next word, but not for ever: whoever shares a pid namespace with the stub can stop it.
    pub(crate) fn next(&self) -> Result<Word, Error> {
        if !self.is_ready(PATIENCE)? {
            let what =
                format!("the container's process has not got ready within {PATIENCE} s: stopped, frozen or stuck");
            return Err(Error::new(Kind::Timeout, what));
        }
        self.receive()
    }

    /// The next word, if it has been said.
    pub(crate) fn said(&self) -> Option<Result<Word, Error>> {
        match self.is_ready(0) {
            Ok(false) => None,
            Ok(true) => Some(self.receive()),
            Err(error) => Some(Err(error)),
        }
    }

    fn is_ready(&self, seconds: i64) -> Result<bool, Error> {
        let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut watched, Some(&limit)));
        Ok(ready.map_err(|errno| Error::system("wait on the control socket", errno))? > 0)
    }

    fn receive(&self) -> Result<Word, Error> {
        let mut bytes = [0; 16];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let mut receive =
            || rustix::io::retry_on_intr(|| recvmsg(&self.0, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC));
        let received = match receive() {
            // It has left something unread, of which the kernel tells first; what it said itself comes after.
            Err(Errno::CONNRESET) => receive(),
            other => other,
        };
        let length = match received {
            Ok(message) => message.bytes,
            Err(Errno::CONNRESET) => 0,
            Err(errno) => return Err(Error::system("read the control socket", errno)),
        };
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        if length == 0 {
            return Ok(Word::Closed);
        }
        let said = Record::from_bytes(&bytes);
        match (said.kind, descriptor) {
            (record::SYNC, _) => Ok(Word::Waiting(said.value.cast_unsigned())),
            (record::REPORT, _) => Ok(Word::Past(said.value.cast_unsigned())),
            (record::FORKED, Some(pidfd)) => Ok(Word::Forked(said.value, pidfd)),
            (record::DESCRIPTOR, Some(fd)) => Ok(Word::Descriptor(said.value.cast_unsigned(), fd)),
            (record::FAILED, _) => Ok(Word::Failed { op: said.op, errno: Errno::from_raw_os_error(said.value) }),
            (kind, _) => Err(Error::new(Kind::System, format!("the stub said {kind}, which means nothing"))),
        }
    }

    /// Hands the stub a script, the first of these, and what comes with it.
    pub(crate) fn hand(&self, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let count = u32::try_from(fds.len()).unwrap_or(u32::MAX).to_ne_bytes();
        for some in fds.chunks(IN_ONE_MESSAGE) {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(IN_ONE_MESSAGE))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            ancillary.push(SendAncillaryMessage::ScmRights(some));
            let sent = sendmsg(&self.0, &[IoSlice::new(&count)], &mut ancillary, SendFlags::NOSIGNAL);
            sent.map_err(|errno| Error::system("hand the stub its script", errno))?;
        }
        Ok(())
    }

    /// The same line once more.
    pub(crate) fn try_clone(&self) -> Result<Self, Error> {
        let copy = rustix::io::fcntl_dupfd_cloexec(&self.0, 0);
        copy.map(Self).map_err(|errno| Error::system("duplicate the control socket", errno))
    }

    /// Lets the stub go on from where it waits.
    pub(crate) fn go(&self) -> Result<(), Error> {
        let sent = send(&self.0, &[0; 16], SendFlags::NOSIGNAL);
        sent.map(drop).map_err(|errno| Error::system("tell the stub to go on", errno))
    }
}

impl std::os::fd::AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
