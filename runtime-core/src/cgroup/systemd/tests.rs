//! Conversations with a manager that says what the test tells it to: refusals, silence, and hanging up. The real one is
//! met in `tests/systemd.rs`.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::address::Socket;
use super::wire::{Message, START, kind};
use super::*;

/// What the fake manager does when a method is called.
#[derive(Clone, Copy)]
enum Says {
    /// Returns a text.
    Text(&'static str),
    /// Returns a text in a variant.
    Variant(&'static str),
    /// Refuses with this error of systemd's.
    No(&'static str),
    /// Returns a job, and tells how it ended: whoever says so, and what.
    Job(&'static str, &'static str),
    /// Nothing at all.
    Nothing,
    /// Closes the connection.
    HangsUp,
}

const JOB: &str = "/org/freedesktop/systemd1/job/1";

/// A manager that answers each call by what comes next for it in the script; it notes who was called.
struct Fake {
    address: Address,
    called: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

fn fake(script: &[(&'static str, Says)], address: fn(PathBuf) -> Address) -> Fake {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("manager");
    let listener = UnixListener::bind(&path).expect("a socket");
    let called = Arc::new(Mutex::new(Vec::new()));
    let (mut script, noted) = (script.to_vec(), Arc::clone(&called));
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        authenticate(&mut stream);
        while let Some((serial, call)) = next(&mut stream) {
            noted.lock().expect("a lock").push(call.member.clone());
            let at = script.iter().position(|(member, _)| *member == call.member);
            match at.map_or(Says::Text(""), |at| script.remove(at).1) {
                Says::HangsUp => return,
                says => answer(&mut stream, serial, says),
            }
        }
    });
    Fake { address: address(path), called, thread, _folder: folder }
}

fn authenticate(stream: &mut UnixStream) {
    let mut bytes = [0; 64];
    let count = stream.read(&mut bytes).expect("what a client says first");
    assert_eq!(bytes.get(..count), Some(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".as_slice()));
    stream.write_all(b"DATA\r\nOK 00\r\n").expect("a client that listens");
}

fn next(stream: &mut UnixStream) -> Option<(u32, Message)> {
    let mut bytes = vec![0; START];
    stream.read_exact(&mut bytes).ok()?;
    let rest = Message::rest(bytes.first_chunk()?)?;
    bytes.resize(START + rest, 0);
    stream.read_exact(bytes.get_mut(START..)?).ok()?;
    let serial = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    Some((serial, Message::parse(&bytes)?))
}

/// A message with fields of the types `u` and `s`, `g` being the signature.
fn message(kind: u8, fields: &[(u8, Field<'_>)], body: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    for (number, field) in fields {
        written.resize(written.len().next_multiple_of(8), 0);
        written.push(*number);
        match field {
            Field::Number(serial) => {
                written.extend(b"\x01u\0");
                written.extend(serial.to_le_bytes());
            }
            Field::Text(text) => {
                written.extend(b"\x01s\0");
                written.extend(text_bytes(text));
            }
            Field::Signature(types) => {
                written.extend(b"\x01g\0");
                written.push(u8::try_from(types.len()).expect("short"));
                written.extend(types.as_bytes());
                written.push(0);
            }
        }
    }
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("short").to_le_bytes();
    let mut bytes = vec![b'l', kind, 0, 1];
    bytes.extend(length(body));
    bytes.extend([9, 0, 0, 0]);
    bytes.extend(length(&written));
    bytes.extend(written);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    bytes
}

enum Field<'a> {
    Number(u32),
    Text(&'a str),
    Signature(&'a str),
}

fn text_bytes(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).expect("short").to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn answer(stream: &mut UnixStream, serial: u32, says: Says) {
    let reply = |types, body: &[u8]| {
        let fields = [(5, Field::Number(serial)), (7, Field::Text("systemd")), (8, Field::Signature(types))];
        message(kind::RETURN, &fields, body)
    };
    let bytes = match says {
        Says::Text(text) => reply("s", &text_bytes(text)),
        Says::Variant(text) => reply("v", &[b"\x01s\0\0".as_slice(), &text_bytes(text)].concat()),
        Says::No(error) => {
            let name = format!("org.freedesktop.systemd1.{error}");
            let fields = [(5, Field::Number(serial)), (4, Field::Text(&name)), (8, Field::Signature("s"))];
            message(kind::ERROR, &fields, &text_bytes("no, because"))
        }
        Says::Job(sender, outcome) => {
            let mut body = vec![1, 0, 0, 0];
            for text in [JOB, "a.scope", outcome] {
                body.resize(body.len().next_multiple_of(4), 0);
                body.extend(text_bytes(text));
            }
            let fields = [(3, Field::Text("JobRemoved")), (7, Field::Text(sender)), (8, Field::Signature("uoss"))];
            // The end is told before the job is known: it must not be lost.
            [message(kind::SIGNAL, &fields, &body), reply("s", &text_bytes(JOB))].concat()
        }
        Says::Nothing | Says::HangsUp => Vec::new(),
    };
    stream.write_all(&bytes).expect("a client that listens");
}

const SHORT: Duration = Duration::from_millis(300);

fn unit() -> Unit {
    Unit { name: "a.scope".to_owned(), whose: Whose::Hosts }
}

fn scope() -> Scope {
    let description = Property { name: "Description".into(), value: Value::Text("x".to_owned()) };
    Scope { name: "a.scope".to_owned(), properties: vec![description] }
}

/// Runs `talk` with a manager that follows `script`; tells what came of it and who was called.
fn with<T>(script: &[(&'static str, Says)], talk: impl FnOnce(&mut Connection) -> T) -> (T, Vec<String>) {
    let fake = fake(script, Address::Manager);
    let outcome = talk(&mut Connection::open(fake.address, SHORT).expect("a connection"));
    fake.thread.join().expect("a script that was followed");
    let called = fake.called.lock().expect("a lock").clone();
    (outcome, called)
}

#[test]
fn a_unit_is_started_when_its_job_is_done() {
    let script = [("StartTransientUnit", Says::Job("systemd", "done"))];
    let (started, called) = with(&script, |connection| unit().start(connection, &scope(), 1));
    started.expect("a unit");
    assert_eq!(called, ["StartTransientUnit"]);
}

#[test]
fn a_job_that_fails_and_a_refusal_are_errors_that_say_so() {
    let script = [("StartTransientUnit", Says::Job("systemd", "failed"))];
    let (started, _) = with(&script, |connection| unit().start(connection, &scope(), 1));
    assert_eq!(started.expect_err("a failed job").to_string(), "start unit a.scope: the job ended as \"failed\"");
    let script = [("StartTransientUnit", Says::No("PropertyUnknown"))];
    let (started, _) = with(&script, |connection| unit().start(connection, &scope(), 1));
    let words = "start unit a.scope: no, because (org.freedesktop.systemd1.PropertyUnknown)";
    assert_eq!(started.expect_err("a refusal").to_string(), words);
}

#[test]
fn a_unit_left_by_a_crash_is_reset_and_started_again() {
    let script = [("StartTransientUnit", Says::No("UnitExists")), ("StartTransientUnit", Says::Job("systemd", "done"))];
    let (started, called) = with(&script, |connection| unit().start(connection, &scope(), 1));
    started.expect("a unit");
    assert_eq!(called, ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]);
}

#[test]
fn a_unit_that_stays_is_refused_and_left_alone() {
    let script = [("StartTransientUnit", Says::No("UnitExists")); 6];
    let patient = |address| Connection::open(address, Duration::from_secs(5)).expect("a connection");
    let fake = fake(&script, Address::Manager);
    let started = unit().start(&mut patient(fake.address), &scope(), 1);
    assert_eq!(started.expect_err("a unit in use").kind(), Kind::Exists);
    let called = fake.called.lock().expect("a lock").clone();
    assert!(!called.iter().any(|member| member == "StopUnit"), "{called:?}");
    let script = [("GetUnit", Says::Text("/u")), ("Get", Says::Variant("active"))];
    let (refused, _) = with(&script, |connection| unit().refuse_active(connection));
    assert_eq!(refused.expect_err("a unit in use").kind(), Kind::Exists);
    let script = [("GetUnit", Says::Text("/u")), ("Get", Says::Variant("failed"))];
    with(&script, |connection| unit().refuse_active(connection)).0.expect("one that may be reset");
}

#[test]
fn a_unit_is_stopped_when_it_has_the_container_s_cgroup() {
    let found = [("GetUnit", Says::Text("/u")), ("Get", Says::Variant("/system.slice/a.scope"))];
    let script = [found[0], found[1], ("StopUnit", Says::Job("systemd", "done"))];
    let (stopped, called) = with(&script, |connection| unit().stop(connection, Path::new("/system.slice/a.scope")));
    stopped.expect("stopped");
    assert_eq!(called, ["GetUnit", "Get", "StopUnit", "ResetFailedUnit"]);
    let (stopped, called) = with(&found, |connection| unit().stop(connection, Path::new("/other.slice/a.scope")));
    stopped.expect("somebody else's is nothing to stop");
    assert_eq!(called, ["GetUnit", "Get"]);
    let (stopped, called) =
        with(&[("GetUnit", Says::No("NoSuchUnit"))], |connection| unit().stop(connection, Path::new("/x")));
    stopped.expect("none is nothing to stop");
    assert_eq!(called, ["GetUnit"]);
}

#[test]
fn a_manager_that_says_nothing_is_waited_for_until_the_deadline() {
    let began = Instant::now();
    let script = [("StartTransientUnit", Says::Nothing)];
    let (started, _) = with(&script, |connection| unit().start(connection, &scope(), 1));
    let error = started.expect_err("silence");
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    assert!(began.elapsed() >= SHORT && began.elapsed() < SHORT * 20, "{:?}", began.elapsed());
    // A job that never ends.
    let script = [("StartTransientUnit", Says::Text(JOB))];
    let (started, _) = with(&script, |connection| unit().start(connection, &scope(), 1));
    assert_eq!(started.expect_err("silence").kind(), Kind::Timeout);
}

#[test]
fn a_socket_that_nobody_answers_is_waited_for_until_the_deadline() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deaf");
    let listener = UnixListener::bind(&path).expect("a socket");
    let refused = Connection::open(Address::Manager(path.clone()), SHORT).expect_err("silence");
    assert_eq!(refused.kind(), Kind::Timeout, "{refused}");
    assert!(refused.to_string().contains("within 0.3 s"), "{refused}");
    drop(listener);
    let refused = Connection::open(Address::Manager(path), SHORT).expect_err("nobody");
    assert!(refused.to_string().starts_with("connect to systemd at /"), "{refused}");
}

#[test]
fn a_manager_that_hangs_up_is_an_error_at_once() {
    let began = Instant::now();
    let script = [("StartTransientUnit", Says::HangsUp)];
    let (started, _) = with(&script, |connection| unit().start(connection, &scope(), 1));
    assert!(started.expect_err("an end").to_string().contains("has hung up"));
    assert!(began.elapsed() < SHORT, "{:?}", began.elapsed());
}

#[test]
fn on_a_bus_only_the_manager_ends_a_job() {
    let script = [("StartTransientUnit", Says::Job("somebody", "done"))];
    let fake = fake(&script, |path| Address::Bus(Socket::Path(path)));
    let mut connection = Connection::open(fake.address, SHORT).expect("a connection");
    let error = unit().start(&mut connection, &scope(), 1).expect_err("a stranger's word");
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    drop(connection);
    fake.thread.join().expect("a script that was followed");
    let called = fake.called.lock().expect("a lock").clone();
    assert_eq!(called, ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"]);
}

#[test]
fn a_version_is_the_first_number() {
    for (text, expected) in [("252.38-1~deb12u1", Some(252)), ("v245", Some(245)), ("257", Some(257)), ("x", None)] {
        assert_eq!(number(text), expected, "{text}");
    }
}

#[test]
fn the_systemd_driver_is_refused_on_cgroup_version_1() {
    let cgroups = CgroupLayout::Legacy { hierarchies: Vec::new(), unified: Some("/sys/fs/cgroup/unified".into()) };
    let host = Host { cgroups, ..crate::host::host().expect("a host").clone() };
    let refused = manager(&host).expect_err("version 1");
    assert_eq!(refused.kind(), Kind::Unsupported);
    assert!(refused.to_string().contains("cgroup v2"), "{refused}");
}
