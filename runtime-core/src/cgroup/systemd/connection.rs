//! A conversation with a service manager: one call after the other, all before one deadline. It waits for nothing longer,
//! whoever listens at the other end; and it knows messages, not units.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tare_plan::systemd::Property;

use super::address::{Address, Socket};
use super::wire::{Body, Call, Message, START, kind};
use crate::{Error, Kind};

/// Longer messages are not meant for us: a manager's answers are a few hundred bytes.
const LONGEST: usize = 4 << 20;
const MANAGER: &str = "org.freedesktop.systemd1";

/// Why a call was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The other side said no: the name of its error, and its words.
    Refused { name: String, words: String },
    /// There was no answer to make sense of.
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl Failure {
    /// It refused with this error of systemd's.
    pub(super) fn is(&self, short: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name.strip_prefix(MANAGER).is_some_and(|rest| rest.strip_prefix('.') == Some(short)))
    }

    /// As the error of trying to do `what`.
    pub(super) fn during(self, what: impl std::fmt::Display) -> Error {
        match self {
            Self::Refused { name, words } => Error::new(Kind::System, format!("{what}: {words} ({name})")),
            Self::Broken(error) => error.during(what),
        }
    }
}

/// A job of the manager's, whose end it will tell.
#[derive(Debug)]
pub(super) struct Job {
    path: String,
    /// Who may say so: on a bus, anybody may send signals.
    sender: String,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    address: Address,
    patience: Duration,
    until: Instant,
    serial: u32,
    /// The jobs that have ended while something else was waited for: path, sender, outcome.
    ended: Vec<(String, String, String)>,
}

impl Connection {
    /// Connects, says who we are, and makes sure that the ends of our jobs will be told.
    pub(super) fn open(address: Address, patience: Duration) -> Result<Self, Error> {
        let until = Instant::now() + patience;
        let stream = connected(&address, patience).map_err(|errno| match errno {
            Errno::AGAIN => silent(&address, patience),
            errno => Error::system(format_args!("connect to systemd at {address}"), errno),
        })?;
        let mut connection = Self { stream, address, patience, until, serial: 0, ended: Vec::new() };
        connection.authenticate()?;
        if matches!(connection.address, Address::Bus(_)) {
            connection.join_bus().map_err(|failure| failure.during("join the message bus"))?;
        }
        Ok(connection)
    }

    /// SASL's EXTERNAL without a name: the kernel tells the other side who we are, also out of a user namespace.
    ///
    /// In one piece, as systemd's own clients do it: when its server reads a message in one go with the `BEGIN` before it,
    /// it does not look at the message until there is another.
    fn authenticate(&mut self) -> Result<(), Error> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK"] {
            let answer = self.line()?;
            if !answer.starts_with(expected) {
                let (address, answer) = (&self.address, answer.trim());
                return Err(Error::new(Kind::System, format!("systemd at {address} does not know us: {answer:?}")));
            }
        }
        Ok(())
    }

    fn join_bus(&mut self) -> Result<(), Failure> {
        const BUS: &str = "org.freedesktop.DBus";
        const RULE: &str = "type='signal',sender='org.freedesktop.systemd1',\
                            interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        let mut rule = Body::default();
        rule.text(RULE).ok_or_else(too_long)?;
        for (member, signature, body) in [("Hello", "", Body::default()), ("AddMatch", "s", rule)] {
            let path = "/org/freedesktop/DBus";
            self.call(&Call { destination: BUS, path, interface: BUS, member, signature, body })?;
        }
        self.ask("Subscribe", "", Body::default()).map(drop)
    }

    /// Calls a method of the manager.
    pub(super) fn ask(&mut self, member: &str, signature: &str, body: Body) -> Result<Message, Failure> {
        let interface = "org.freedesktop.systemd1.Manager";
        let path = "/org/freedesktop/systemd1";
        self.call(&Call { destination: MANAGER, path, interface, member, signature, body })
    }

    /// A text property of the manager or of a unit.
    pub(super) fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<String, Failure> {
        let mut body = Body::default();
        body.text(&format!("{MANAGER}.{interface}")).and_then(|()| body.text(name)).ok_or_else(too_long)?;
        let call = Call {
            destination: MANAGER,
            path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            signature: "ss",
            body,
        };
        let answer = self.call(&call)?;
        Ok(answer.variant_text().ok_or_else(|| self.garbled())?.to_owned())
    }

    /// Calls a method whose answer is a job.
    pub(super) fn job(&mut self, member: &str, signature: &str, body: Body) -> Result<Job, Failure> {
        let answer = self.ask(member, signature, body)?;
        let path = answer.text().ok_or_else(|| self.garbled())?.to_owned();
        Ok(Job { path, sender: self.speaker(&answer) })
    }

    /// Waits until a job has ended, and says how: `done`, or what went wrong.
    pub(super) fn outcome(&mut self, job: &Job) -> Result<String, Error> {
        loop {
            let ours = self.ended.iter().position(|(path, sender, _)| *path == job.path && *sender == job.sender);
            if let Some(at) = ours {
                return Ok(self.ended.swap_remove(at).2);
            }
            let message = self.receive()?;
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Message) {
        if let Some((job, outcome)) = message.job_removed() {
            self.ended.push((job.to_owned(), self.speaker(message), outcome.to_owned()));
        }
    }

    /// Who a message comes from; without a bus in between there is only one.
    fn speaker(&self, message: &Message) -> String {
        if matches!(self.address, Address::Bus(_)) { message.sender.clone() } else { String::new() }
    }

    fn call(&mut self, call: &Call<'_>) -> Result<Message, Failure> {
        self.serial += 1;
        let serial = self.serial;
        let bytes = call.to_bytes(serial).ok_or_else(too_long)?;
        self.send(&bytes)?;
        loop {
            let message = self.receive()?;
            match message.kind {
                kind::RETURN if message.reply_to == serial => return Ok(message),
                kind::ERROR if message.reply_to == serial => {
                    let words = message.text().unwrap_or_default().to_owned();
                    return Err(Failure::Refused { name: message.error, words });
                }
                _ => self.note(&message),
            }
        }
    }

    fn receive(&mut self) -> Result<Message, Error> {
        let mut start = [0; START];
        self.fill(&mut start)?;
        let rest = Message::rest(&start).filter(|rest| *rest <= LONGEST).ok_or_else(|| self.garbled())?;
        let mut bytes = start.to_vec();
        bytes.resize(START + rest, 0);
        let mut body = bytes.split_off(START);
        self.fill(&mut body)?;
        bytes.append(&mut body);
        Message::parse(&bytes).ok_or_else(|| self.garbled())
    }

    /// One line of the conversation before the messages.
    fn line(&mut self) -> Result<String, Error> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.fill(&mut byte)?;
            line.extend(byte);
            if line.len() > 512 {
                return Err(self.garbled());
            }
        }
        String::from_utf8(line).map_err(|_| self.garbled())
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), Error> {
        while !buffer.is_empty() {
            self.stream.set_read_timeout(Some(self.left()?)).map_err(|error| self.failed(&error))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(self.failed(&ErrorKind::UnexpectedEof.into())),
                Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?)).map_err(|error| self.failed(&error))?;
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    fn left(&self) -> Result<Duration, Error> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(silent(&self.address, self.patience)) } else { Ok(left) }
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => silent(&self.address, self.patience),
            ErrorKind::UnexpectedEof => Error::new(Kind::System, format!("systemd at {} has hung up", self.address)),
            _ => Error::io(format_args!("talk to systemd at {}", self.address), error),
        }
    }

    fn garbled(&self) -> Error {
        Error::new(Kind::System, format!("systemd at {}: cannot make sense of what it says", self.address))
    }
}

/// `a(sv)` and what surrounds it, for the calls that take properties.
pub(super) fn with_properties(mut body: Body, properties: &[Property]) -> Result<Body, Error> {
    body.properties(properties).map(|()| body).ok_or_else(too_long)
}

pub(super) fn too_long() -> Error {
    Error::new(Kind::Invalid, "too long for a message to systemd")
}

fn silent(address: &Address, patience: Duration) -> Error {
    let seconds = patience.as_secs_f32();
    Error::new(Kind::Timeout, format!("systemd at {address} has not done it within {seconds} s"))
}

/// A socket whose queue is full makes connect(2) wait; so it has the deadline before.
fn connected(address: &Address, patience: Duration) -> Result<UnixStream, Errno> {
    let name = match address {
        Address::Manager(path) | Address::Bus(Socket::Path(path)) => SocketAddrUnix::new(path)?,
        Address::Bus(Socket::Abstract(name)) => SocketAddrUnix::new_abstract_name(name)?,
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    connect(&socket, &name)?;
    Ok(UnixStream::from(socket))
}
