//! What `create`, `run` and `restore` have in common: from flags and a bundle to a container that waits to be started, with the
//! caller told of it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use runtime_core::{Container, Create, Error, Gate, Kind, Process, Stdio, oci};

use crate::failure::Failure;
use crate::flags::{Flag, Given, switch, value};
use crate::session::Session;
use crate::store::Claim;
use crate::{descriptors, files, notify, sockets};

/// The flags of both.
pub(crate) const FLAGS: &[Flag] = &[
    value(&["bundle", "b"], "the folder of the bundle (default: the current one)"),
    value(&["config", "f"], "another file than the bundle's config.json"),
    value(&["console-socket"], "a socket to send the master of the container's terminal to"),
    value(&["pidfd-socket"], "a socket to send a pidfd of the container's first process to"),
    value(&["pid-file"], "a file to write the number of the container's first process to"),
    switch(&["no-pivot"], "do not pivot into the root file system, which a ramdisk does not allow"),
    switch(&["no-new-keyring"], "leave the container the caller's session keyring"),
    value(&["preserve-fds"], "hand over this many descriptors above the standard streams"),
];

/// Whether somebody stays with the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    /// This process does, until it ends.
    Foreground,
    /// Nobody does.
    Detached,
}

/// A container that waits to be started. Dropped before [`Launched::keep`], it is taken away again.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) container: Container,
    pub(crate) process: Process,
    /// The master of its terminal, unless that was sent to a socket.
    pub(crate) console: Option<OwnedFd>,
    pub(crate) claim: Claim,
}

impl Launched {
    /// The container stays.
    pub(crate) fn keep(self) -> (Container, Process) {
        self.claim.keep();
        (self.container, self.process)
    }
}

/// Makes the container that the flags describe, up to where it waits to be started.
pub(crate) fn launch(session: &Session, given: &Given, stay: Stay, gate: Gate) -> Result<Launched, Failure> {
    launch_by(session, given, stay, gate, Container::create)
}

/// The same, made by `make`.
pub(crate) fn launch_by(
    session: &Session,
    given: &Given,
    stay: Stay,
    gate: Gate,
    make: impl FnOnce(Create) -> Result<(Container, Process), Error>,
) -> Result<Launched, Failure> {
    let extra = descriptors::extra(given)?;
    // Before the folder changes: it is the caller's path. The sockets are not looked for until then, as with runc.
    let pid_file = given.filled("pid-file").map(files::absolute).transpose()?;
    let (bundle, mut spec) = bundle(given)?;
    let process = spec.process().as_ref().ok_or_else(|| Failure::new("process property must not be empty"))?;
    let stdio = stdio(session, process, stay, given)?;
    let id = given.id();
    let claim = session.store.claim(id)?;
    if notify::requested().is_some() {
        notify::add_to(&mut spec, &claim.folder);
        notify::make_folder(&claim.folder)?;
    }
    add_environment(&mut spec, extra.environment);
    let made = make(Create {
        preserve_fds: extra.count,
        gate,
        die_with_caller: stay == Stay::Foreground,
        no_pivot: given.has("no-pivot"),
        no_new_keyring: given.has("no-new-keyring"),
        cgroup_driver: session.cgroup_driver,
        ..Create::new(id, bundle, spec, claim.folder.clone(), stdio)
    });
    let (container, process) = made?;
    let mut launched = Launched { container, process, console: None, claim };
    match tell(&mut launched, given, pid_file) {
        Ok(()) => Ok(launched),
        Err(failure) => {
            launched.container.delete()?;
            Err(failure)
        }
    }
}

/// The bundle and its specification.
pub(crate) fn bundle(given: &Given) -> Result<(PathBuf, oci::Spec), Failure> {
    let config = given.filled("config").map(files::absolute).transpose()?;
    let bundle = enter(given.filled("bundle"))?;
    let spec = read(&bundle, config)?;
    Ok((bundle, spec))
}

/// The bundle becomes the working folder, as with runc: relative paths of sockets are looked for there.
fn enter(bundle: Option<&str>) -> Result<PathBuf, Failure> {
    if let Some(folder) = bundle {
        std::env::set_current_dir(folder).map_err(|error| Failure::io(format!("chdir {folder}"), error))?;
    }
    std::env::current_dir().map_err(|error| Failure::io("getwd", error))
}

fn read(bundle: &std::path::Path, config: Option<PathBuf>) -> Result<oci::Spec, Failure> {
    let read = match &config {
        Some(path) => runtime_core::read_spec_file(path),
        None => runtime_core::read_spec(bundle),
    };
    read.map_err(|error| match error.kind() {
        Kind::NotFound => {
            let name = config.map_or_else(|| "config.json".to_owned(), |path| path.display().to_string());
            Failure::new(format!("JSON specification file {name} not found"))
        }
        _ => error.into(),
    })
}

/// The caller's streams or a new terminal, and who will hold the latter's other side.
pub(crate) fn stdio(session: &Session, process: &oci::Process, stay: Stay, given: &Given) -> Result<Stdio, Failure> {
    let wants_terminal = process.terminal().unwrap_or(false);
    let has_socket = given.filled("console-socket").is_some();
    let name = &session.name;
    match (wants_terminal, stay, has_socket) {
        (true, Stay::Detached, false) => {
            Err(Failure::new(format!("cannot allocate tty if {name} will detach without setting console socket")))
        }
        (false, _, true) | (true, Stay::Foreground, true) => {
            Err(Failure::new(format!("cannot use console socket if {name} will not detach or allocate tty")))
        }
        (true, ..) => Ok(Stdio::Terminal),
        (false, ..) => Ok(descriptors::streams()),
    }
}

fn add_environment(spec: &mut oci::Spec, more: Vec<String>) {
    if let Some(process) = spec.process_mut().as_mut().filter(|_| !more.is_empty()) {
        process.env_mut().get_or_insert_default().extend(more);
    }
}

/// Hands the caller what he asked for.
fn tell(launched: &mut Launched, given: &Given, pid_file: Option<PathBuf>) -> Result<(), Failure> {
    launched.console = hand_out(&mut launched.process, given)?;
    match pid_file {
        Some(path) => files::write_pid(&path, launched.process.pid()),
        None => Ok(()),
    }
}

/// Sends console and pidfd to the sockets that were asked for. A console that nobody asked for comes back.
pub(crate) fn hand_out(process: &mut Process, given: &Given) -> Result<Option<OwnedFd>, Failure> {
    if let Some(path) = given.filled("pidfd-socket") {
        sockets::hand_over(path, &*process, "pidfd")?;
    }
    let console = process.take_console();
    match (console, given.filled("console-socket")) {
        (Some(master), Some(path)) => {
            let name = rustix::pty::ptsname(&master, Vec::new());
            let name = name.map_or_else(|_| "/dev/pts".to_owned(), |name| name.to_string_lossy().into_owned());
            sockets::hand_over(path, &master, &name)?;
            Ok(None)
        }
        (console, _) => Ok(console),
    }
}
