//! Running OCI hooks: each is a process born like any other, with the container's state on its standard input, watched
//! until it ends or its time is up. What a failing one means is the caller's business.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;
use tare_plan::Hook;

use crate::process::{ExitStatus, Process};
use crate::spawn::spawn;
use crate::steps::step;
use crate::stub::sealed_bytes;
use crate::{Error, Kind, lower};

/// How much of a failing hook's output an error quotes.
const QUOTED: usize = 4096;

/// Where hooks that are programs of the host run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// On the host, in the bundle.
    Host(&'a Path),
    /// In the namespaces of this process (a pidfd), of these kinds; its root is still the host's.
    Inside(BorrowedFd<'a>, u32),
}

/// Runs hooks of one kind, in order, until one fails.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &Value, place: Place<'_>) -> Result<(), Error> {
    run_each(kind, hooks, state, |hook, streams| begin(hook, streams, place))
}

/// Runs hooks of one kind, in order, whether or not one fails: why those did that have.
pub(crate) fn run_all(kind: &str, hooks: &[Hook], state: &Value, place: Place<'_>) -> Vec<Error> {
    let state = state.to_string();
    let mut start = |hook: &Hook, streams: [&OwnedFd; 3]| begin(hook, streams, place);
    let run = |(index, hook)| numbered(kind, index, one(hook, &state, &mut start));
    hooks.iter().enumerate().map(run).filter_map(Result::err).collect()
}

/// Runs hooks of one kind, in order, until one fails; `start` brings each to life with these streams.
pub(crate) fn run_each(
    kind: &str,
    hooks: &[Hook],
    state: &Value,
    mut start: impl FnMut(&Hook, [&OwnedFd; 3]) -> Result<Process, Error>,
) -> Result<(), Error> {
    let state = state.to_string();
    let mut hooks = hooks.iter().enumerate();
    hooks.try_for_each(|(index, hook)| numbered(kind, index, one(hook, &state, &mut start)))
}

fn numbered(kind: &str, index: usize, ran: Result<(), Error>) -> Result<(), Error> {
    ran.map_err(|error| error.during(format!("error running {kind} hook #{index}")))
}

fn begin(hook: &Hook, streams: [&OwnedFd; 3], place: Place<'_>) -> Result<Process, Error> {
    let (cwd, inside) = match place {
        Place::Host(bundle) => (CString::new(bundle.as_os_str().as_bytes()).unwrap_or_default(), None),
        Place::Inside(process, kinds) => (c"/".to_owned(), Some((process, kinds))),
    };
    let script = lower::hook(hook, streams, &cwd, inside);
    let mut newborn = spawn(script)?;
    newborn.listen()?;
    newborn.keep()
}

/// The state that hooks and seccomp agents read (runtime-spec, runtime.md "State").
pub(crate) fn state(id: &str, status: &str, pid: i32, bundle: &Path, annotations: &[(String, String)]) -> Value {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    let mut state = serde_json::json!({
        "ociVersion": "1.3.0",
        "id": id,
        "status": status,
        "bundle": bundle,
        "annotations": annotations,
    });
    if pid > 0 {
        state["pid"] = pid.into();
    }
    state
}

fn one(
    hook: &Hook,
    state: &str,
    start: &mut impl FnMut(&Hook, [&OwnedFd; 3]) -> Result<Process, Error>,
) -> Result<(), Error> {
    let memory = |errno| Error::system("hold a hook's input and output", errno);
    let input = rewound(sealed_bytes("tare-state", state.as_bytes()).map_err(memory)?).map_err(memory)?;
    let output = memfd_create("tare-hook-output", MemfdFlags::CLOEXEC).map_err(memory)?;
    step(|| format!("run hook {}", hook.path.to_string_lossy()));
    let process = start(hook, [&input, &output, &output])?;
    match watch(process, hook.timeout)? {
        ExitStatus::Code(0) => Ok(()),
        status => Err(Error::new(Kind::System, format!("{status}, output: {}", quote(output)))),
    }
}

/// A memfd is read from its beginning by whoever opened it last, and that is the hook.
fn rewound(file: OwnedFd) -> Result<OwnedFd, rustix::io::Errno> {
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).map(|_| file)
}

/// Waits until the hook ends; past its time it is killed.
fn watch(process: Process, timeout: Option<u64>) -> Result<ExitStatus, Error> {
    let Some(seconds) = timeout else { return process.wait() };
    if process.ends_within(Duration::from_secs(seconds)) {
        return process.wait();
    }
    process.end();
    Err(Error::new(Kind::Timeout, format!("hook ran past timeout of {seconds}s")))
}

/// The end of what the hook said.
fn quote(output: OwnedFd) -> String {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::from(output);
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut text = vec![0; QUOTED];
    let read = file.read_at(&mut text, length.saturating_sub(QUOTED as u64)).unwrap_or(0);
    text.truncate(read);
    String::from_utf8_lossy(&text).trim_end().to_owned()
}
