//! One errand of CRIU's: `criu swrk`, a socket, a request, what it tells on the way, and its answer. It is a process like
//! any other, born as the stub; it ends before this does.

use std::ffi::{CStr, CString};
use std::io::IoSliceMut;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType, recvmsg,
    send, socketpair,
};

use super::options::{NOTIFY, heard};
use super::wire::{Message, Part, fields};
use crate::cgroup::Entrance;
use crate::lower::{self, Criu};
use crate::process::{ExitStatus, Process};
use crate::spawn::{Stand, spawn};
use crate::{Error, Kind};

/// How long CRIU may take from one word to the next. Between two of them lies the memory of all processes: a slow disk
/// passes, a file system that does not answer does not.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How long CRIU may take to end when there is nothing left to say.
const LEAVING: Duration = Duration::from_secs(60);

/// The point from which on memory can be asked for.
pub(crate) const LAZY: &str = "status-ready";

/// The longest answer that is read; runc's is the same.
const LONGEST: usize = 10 * 4096;

/// Where CRIU works.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// Where this process is.
    Here,
    /// In the container's cgroup: what is restored is its child.
    Home(Home<'a>),
}

/// What a restoring CRIU is given.
#[derive(Debug)]
pub(crate) struct Home<'a> {
    pub(crate) entrance: &'a Entrance,
    /// The session keyring of the container, new: CRIU does not restore one, and what it restores would have ours.
    pub(crate) keyring: Option<&'a CStr>,
}

/// What there is to do for CRIU on the way.
#[derive(Debug)]
pub(crate) enum Event {
    /// Its process waits to be put into the container's cgroup, which it cannot enter by itself.
    Waits(i32),
    /// It has told something.
    Told(Notice),
}

/// What CRIU tells on the way.
#[derive(Debug)]
pub(crate) struct Notice {
    /// The point it has come to, under the name that an action script would be given.
    pub(crate) script: String,
    /// The first process that it restores.
    pub(crate) pid: Option<i32>,
    /// The master of a terminal.
    pub(crate) descriptor: Option<OwnedFd>,
}

/// CRIU's last word.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    kind: u64,
    success: bool,
    errno: i32,
    /// Dirty pages can be followed.
    pub(crate) mem_track: bool,
    /// Memory can be had on demand.
    pub(crate) lazy_pages: bool,
}

/// Runs one errand to its end; `listen` hears what CRIU tells on the way, and fails the errand by an error.
///
/// # Errors
/// CRIU cannot be run, `listen` failing, or CRIU's own failure; the caller adds what the log says.
pub(crate) fn run(
    request: &Message,
    inherit: &[BorrowedFd<'_>],
    place: &Place<'_>,
    listen: impl FnMut(Event) -> Result<(), Error>,
) -> Result<Answer, Error> {
    talk(&super::program()?, request, inherit, place, (PATIENCE, listen))
}

/// `hearing`: how long CRIU may be silent, and who hears it.
fn talk(
    program: &Path,
    request: &Message,
    inherit: &[BorrowedFd<'_>],
    place: &Place<'_>,
    hearing: (Duration, impl FnMut(Event) -> Result<(), Error>),
) -> Result<Answer, Error> {
    let (patience, mut listen) = hearing;
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.map_err(|errno| Error::system("make a socket for criu", errno))?;
    let program = CString::new(program.as_os_str().as_bytes()).unwrap_or_default();
    let process = start(program, theirs, inherit, place, &mut listen)?;
    let said = converse(&ours, request, patience, listen);
    // It ends when nobody is there to talk to; a pre-dump waits for the dump that is to follow until then.
    drop(ours);
    let leaves = !said.as_ref().is_err_and(|error| error.kind() == Kind::Timeout) && process.ends_within(LEAVING);
    if !leaves {
        process.end();
        return Err(said.err().unwrap_or_else(|| late("did not end when it had said its last word", LEAVING)));
    }
    let ended = process.wait()?;
    let answer = said?;
    if !answer.success {
        // Its own message is the first line of its log that says "Error", which the caller quotes.
        let why = match answer.errno {
            errno @ 1..4096 => crate::error::name(rustix::io::Errno::from_raw_os_error(errno)),
            _ => String::new(),
        };
        let why = if why.is_empty() { why } else { format!(": {why}") };
        return Err(Error::new(Kind::System, format!("criu failed{why}")));
    }
    if ended != ExitStatus::Code(0) && answer.kind != 4 {
        return Err(Error::new(Kind::System, format!("criu ended with {ended} after it had said that all was well")));
    }
    Ok(answer)
}

fn start(
    program: CString,
    socket: OwnedFd,
    inherit: &[BorrowedFd<'_>],
    place: &Place<'_>,
    listen: &mut impl FnMut(Event) -> Result<(), Error>,
) -> Result<Process, Error> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null: OwnedFd = null.map_err(|error| Error::io("open /dev/null", &error))?.into();
    let number = CString::new(socket.as_raw_fd().to_string()).unwrap_or_default();
    let kept: Vec<BorrowedFd<'_>> = inherit.iter().copied().chain([socket.as_fd()]).collect();
    // What CRIU calls (tar, iptables) it looks for as it was told to, and its own settings are in $HOME.
    let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        CString::new([name.into_vec(), value.into_vec()].join(&b'=')).ok()
    };
    let environment: Vec<CString> = std::env::vars_os().filter_map(variable).collect();
    let script = lower::criu(&Criu {
        program: &program,
        arguments: [c"criu", c"swrk", &number],
        environment: &environment,
        null: &null,
        kept: &kept,
        place,
    });
    let mut newborn = spawn(script)?;
    loop {
        match newborn.listen()? {
            Stand::Executed => return newborn.keep(),
            Stand::Waiting(lower::point::CGROUP) => listen(Event::Waits(newborn.process()?.pid()))?,
            Stand::Waiting(other) => {
                return Err(Error::new(Kind::System, format!("the stub waits at unknown point {other}")));
            }
        }
        newborn.go()?;
    }
}

fn converse(
    socket: &OwnedFd,
    request: &Message,
    mut patience: Duration,
    mut listen: impl FnMut(Event) -> Result<(), Error>,
) -> Result<Answer, Error> {
    say(socket, request)?;
    let mut failure = None;
    loop {
        let (bytes, descriptor) = hear(socket, patience).map_err(|error| failure.take().unwrap_or(error))?;
        let (answer, notice) = read(&bytes)?;
        let Some(notice) = notice else {
            return match failure {
                // CRIU was told, and has undone what it did.
                Some(error) => Err(error),
                None => Ok(answer),
            };
        };
        if notice.script == LAZY {
            // From here on it waits for whoever asks for memory.
            patience = Duration::MAX;
        }
        let heard_well = listen(Event::Told(Notice { descriptor, ..notice }));
        say(socket, &heard(&heard_well))?;
        failure = failure.or(heard_well.err());
    }
}

fn say(socket: &OwnedFd, message: &Message) -> Result<(), Error> {
    let sent = rustix::io::retry_on_intr(|| send(socket, &message.encode(), SendFlags::NOSIGNAL));
    sent.map(drop).map_err(|errno| Error::system("talk to criu", errno))
}

fn late(what: &str, limit: Duration) -> Error {
    let what = format!("criu {what} for {limit:?}, and was killed: the processes it worked on may be harmed");
    Error::new(Kind::Timeout, what)
}

fn hear(socket: &OwnedFd, patience: Duration) -> Result<(Vec<u8>, Option<OwnedFd>), Error> {
    let limit = Timespec::try_from(patience).ok();
    let mut watched = [PollFd::new(socket, PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| poll(&mut watched, limit.as_ref()));
    if ready.map_err(|errno| Error::system("wait for criu", errno))? == 0 {
        return Err(late("has said nothing", patience));
    }
    let mut bytes = vec![0; LONGEST];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let length = received.map_err(|errno| Error::system("listen to criu", errno))?.bytes;
    if length == 0 {
        return Err(Error::new(Kind::System, "criu ended without an answer"));
    }
    if length == LONGEST {
        return Err(Error::new(Kind::System, "criu's answer is too long"));
    }
    bytes.truncate(length);
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((bytes, descriptor))
}

/// `criu_resp`: an answer, or a notification.
fn read(bytes: &[u8]) -> Result<(Answer, Option<Notice>), Error> {
    let mut answer = Answer::default();
    let mut notice = None;
    for (number, part) in fields(bytes)? {
        match (number, part) {
            (1, Part::Number(kind)) => answer.kind = kind,
            (2, Part::Number(success)) => answer.success = success != 0,
            (5, Part::Bytes(bytes)) => notice = Some(read_notice(bytes)?),
            (7, Part::Number(errno)) => answer.errno = i32::try_from(errno).unwrap_or(0),
            (8, Part::Bytes(bytes)) => {
                let has = |wanted| Ok::<_, Error>(fields(bytes)?.contains(&(wanted, Part::Number(1))));
                (answer.mem_track, answer.lazy_pages) = (has(1)?, has(2)?);
            }
            _ => {}
        }
    }
    let notice = notice.filter(|_| answer.kind == NOTIFY);
    Ok((answer, notice))
}

fn read_notice(bytes: &[u8]) -> Result<Notice, Error> {
    let mut notice = Notice { script: String::new(), pid: None, descriptor: None };
    for (number, part) in fields(bytes)? {
        match (number, part) {
            (1, Part::Bytes(text)) => notice.script = String::from_utf8_lossy(text).into_owned(),
            (2, Part::Number(pid)) => notice.pid = i32::try_from(pid).ok(),
            _ => {}
        }
    }
    Ok(notice)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::options::feature_check;
    use super::{Answer, Duration, Kind, Place, read, talk};

    #[test]
    fn a_criu_that_does_not_answer_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let (program, number) = (folder.path().join("criu"), folder.path().join("pid"));
        std::fs::write(&program, format!("#!/bin/sh\necho $$ > {}\nexec sleep 100\n", number.display())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let hearing = (Duration::from_millis(300), |_| Ok(()));
        let error = talk(&program, &feature_check(), &[], &Place::Here, hearing).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout, "{error}");
        assert!(error.to_string().contains("criu has said nothing for 300ms, and was killed"), "{error}");
        let pid = std::fs::read_to_string(number).unwrap_or_default();
        assert!(pid.is_empty() || !std::path::Path::new("/proc").join(pid.trim()).exists(), "{pid}");
    }

    #[test]
    fn answers_and_notifications_are_told_apart() {
        let (answer, notice) = read(&[8, 2, 16, 1, 34, 2, 8, 42]).unwrap();
        assert_eq!((answer.kind, answer.success, notice.is_none()), (2, true, true));
        let (_, notice) = read(b"\x08\x06\x10\x01\x2a\x06\x0a\x02ab\x10\x07").unwrap();
        let notice = notice.unwrap();
        assert_eq!((notice.script.as_str(), notice.pid), ("ab", Some(7)));
        let (answer, _) = read(b"\x08\x01\x10\x00\x38\x10\x4a\x03why").unwrap();
        assert_eq!(answer, Answer { kind: 1, errno: 16, ..Answer::default() });
        let (answer, _) = read(&[8, 9, 16, 1, 66, 4, 8, 0, 16, 1]).unwrap();
        assert_eq!((answer.mem_track, answer.lazy_pages), (false, true));
    }
}
