//! The global options, decoded once: what every command works with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime_core::CgroupDriver;

use crate::failure::Failure;
use crate::flags::{Flags, Given, switch, value};
use crate::log::{Format, Log, Verbosity};
use crate::store::{Privacy, Store};

/// Everything before the command.
pub(crate) const FLAGS: Flags = &[&[
    switch(&["debug"], "log more"),
    value(&["log"], "the file to log to (default: standard error)"),
    value(&["log-format"], "text or json (default: text)"),
    value(&["root"], "the folder of the containers' state (default: /run/tare, or tare in $XDG_RUNTIME_DIR)"),
    switch(&["systemd-cgroup"], "let systemd manage cgroups; cgroupsPath is \"slice:prefix:name\""),
    value(&["cgroup-manager"], "cgroupfs, systemd or disabled (default: cgroupfs)"),
    value(&["rootless"], "accepted for runc's callers, and without effect: tare sees by itself what it may do"),
    value(&["criu"], ""),
    switch(&["version", "v"], "print the version"),
]];

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Session {
    /// The name that this program was called by.
    pub(crate) name: String,
    pub(crate) log: Arc<Log>,
    pub(crate) store: Store,
    pub(crate) cgroup_driver: CgroupDriver,
}

impl Session {
    /// Decodes the global options.
    pub(crate) fn new(given: &Given, name: String) -> Result<Self, Failure> {
        let format = match given.filled("log-format").unwrap_or("text") {
            "text" => Format::Text,
            "json" => Format::Json,
            other => return Err(Failure::new(format!("invalid log-format: {other}"))),
        };
        let verbosity = if given.has("debug") { Verbosity::Debug } else { Verbosity::Normal };
        let log = Arc::new(Log::new(given.filled("log"), format, verbosity)?);
        let listener = log.clone();
        runtime_core::on_warning(move |message| listener.warn(message));
        if verbosity == Verbosity::Debug {
            let listener = log.clone();
            runtime_core::on_step(move |message| listener.debug(message));
        }
        let cgroup_driver = match given.filled("cgroup-manager") {
            None if given.has("systemd-cgroup") => CgroupDriver::Systemd,
            None | Some("cgroupfs") => CgroupDriver::Cgroupfs,
            Some("systemd") => CgroupDriver::Systemd,
            Some("disabled") => CgroupDriver::Disabled,
            Some(other) => return Err(Failure::new(format!("invalid cgroup-manager: {other}"))),
        };
        Ok(Self { name, log, store: store(given)?, cgroup_driver })
    }
}

fn store(given: &Given) -> Result<Store, Failure> {
    let Some(root) = given.filled("root") else { return Ok(default_store()) };
    let root = std::path::absolute(root).map_err(|error| Failure::io(root, error))?;
    if root == Path::new("/") {
        return Err(Failure::new("Option --root argument should not be set to /"));
    }
    Ok(Store { root, privacy: Privacy::Given })
}

/// An unprivileged user's containers live with the session, which `/run` is closed to.
fn default_store() -> Store {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) if is_unprivileged() => {
            Store { root: PathBuf::from(folder).join("tare"), privacy: Privacy::Session }
        }
        _ => Store { root: PathBuf::from("/run/tare"), privacy: Privacy::Default },
    }
}

/// Not root, or root of a user namespace that some other user has become. As runc decides it.
fn is_unprivileged() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_initial = map.split_whitespace().eq(["0", "0", "4294967295"]);
    !is_initial && std::env::var_os("USER").is_none_or(|user| user != "root")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Order, Parsed, parse};

    fn session(line: &str) -> Result<Session, String> {
        match parse(FLAGS, Order::BeforeFirst, line.split_whitespace().map(str::to_owned)) {
            Ok(Parsed::Given(given)) => Session::new(&given, "tare".to_owned()).map_err(|failure| failure.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_go_runc_passes_is_understood() {
        let session = session("--root /run/x --debug --log-format json --systemd-cgroup --rootless=auto list").unwrap();
        assert_eq!(session.store.root, Path::new("/run/x"));
        assert_eq!(session.cgroup_driver, CgroupDriver::Systemd);
    }

    #[test]
    fn wrong_values_are_refused() {
        for (line, expected) in [
            ("--log-format xml", "invalid log-format: xml"),
            ("--root /", "Option --root argument should not be set to /"),
            ("--cgroup-manager x", "invalid cgroup-manager: x"),
        ] {
            assert_eq!(session(line).unwrap_err(), expected);
        }
    }
}
