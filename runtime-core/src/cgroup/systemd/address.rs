//! Where a service manager is reached. What the environment names wins; then its own socket, which needs no message bus;
//! then the bus. Chosen before anything is sent, and not changed afterwards.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Kind};

/// Whose service manager it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Whose {
    /// The host's: process 1.
    Hosts,
    /// The user's own.
    Users,
}

/// A socket, and what listens there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// The manager itself, as `systemctl` talks to it.
    Manager(PathBuf),
    /// A message bus.
    Bus(Socket),
}

/// The name of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Socket {
    Path(PathBuf),
    /// In the abstract name space.
    Abstract(Vec<u8>),
}

impl Address {
    /// # Errors
    /// [`Kind::Unsupported`] when there is nothing to talk to, [`Kind::Invalid`] for an address that makes no sense.
    pub(super) fn find(whose: Whose) -> Result<Self, Error> {
        choose(whose, |name| std::env::var_os(name).filter(|value| !value.is_empty()), Path::exists)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manager(path) | Self::Bus(Socket::Path(path)) => write!(f, "{}", path.display()),
            Self::Bus(Socket::Abstract(name)) => write!(f, "@{}", String::from_utf8_lossy(name)),
        }
    }
}

fn choose(
    whose: Whose,
    variable: impl Fn(&str) -> Option<OsString>,
    exists: impl Fn(&Path) -> bool,
) -> Result<Address, Error> {
    let (name, direct, bus) = match whose {
        Whose::Hosts => {
            let name = "DBUS_SYSTEM_BUS_ADDRESS";
            (name, Some("/run/systemd/private".into()), Some("/run/dbus/system_bus_socket".into()))
        }
        Whose::Users => {
            let folder = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
            let name = "DBUS_SESSION_BUS_ADDRESS";
            (name, folder.as_ref().map(|one| one.join("systemd/private")), folder.map(|one| one.join("bus")))
        }
    };
    if let Some(address) = variable(name) {
        let socket = address.as_bytes().split(|byte| *byte == b';').find_map(|one| socket(one, &variable));
        let invalid = || Error::new(Kind::Invalid, format!("{name}={address:?}: no address of a Unix socket in it"));
        return socket.map(Address::Bus).ok_or_else(invalid);
    }
    let there = |path: &PathBuf| exists(path);
    let direct = direct.filter(there).map(Address::Manager);
    let found = direct.or_else(|| bus.filter(there).map(|path| Address::Bus(Socket::Path(path))));
    found.ok_or_else(|| match whose {
        Whose::Hosts => {
            Error::new(Kind::Unsupported, "systemd not running on this host, cannot use systemd cgroups manager")
        }
        Whose::Users => Error::new(
            Kind::Unsupported,
            "no systemd of the user to be found: neither DBUS_SESSION_BUS_ADDRESS is set, nor is there a systemd/private or a \
             bus in XDG_RUNTIME_DIR",
        ),
    })
}

/// One address, `unix:path=/run/user/1000/bus,guid=…`; `None` when it is of a kind we do not know.
fn socket(address: &[u8], variable: impl Fn(&str) -> Option<OsString>) -> Option<Socket> {
    let pairs = address.strip_prefix(b"unix:")?;
    pairs.split(|byte| *byte == b',').find_map(|pair| {
        let value = |key: &[u8]| pair.strip_prefix(key).and_then(unescaped).filter(|value| !value.is_empty());
        if let Some(path) = value(b"path=") {
            return Some(Socket::Path(OsString::from_vec(path).into()));
        }
        if let Some(name) = value(b"abstract=") {
            return Some(Socket::Abstract(name));
        }
        let in_runtime = value(b"runtime=").is_some_and(|value| value == b"yes");
        in_runtime
            .then(|| variable("XDG_RUNTIME_DIR"))
            .flatten()
            .map(|one| Socket::Path(PathBuf::from(one).join("bus")))
    })
}

/// `%2f` is a slash.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            plain.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        rest = after;
        plain.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(whose: Whose, variables: &[(&str, &str)], files: &[&str]) -> Result<String, Kind> {
        let variable = |name: &str| variables.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).into());
        let address = choose(whose, variable, |path| files.iter().any(|file| Path::new(file) == path));
        address.map(|address| format!("{} {address}", matches!(address, Address::Bus(_)))).map_err(|error| error.kind())
    }

    #[test]
    fn the_environment_wins_then_the_manager_then_the_bus() {
        let (direct, bus) = ("/run/systemd/private", "/run/dbus/system_bus_socket");
        let named = ("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/x");
        let host = |variables: &[_], files: &[_]| chosen(Whose::Hosts, variables, files);
        assert_eq!(host(&[named], &[direct, bus]), Ok("true /x".to_owned()));
        assert_eq!(host(&[], &[direct, bus]), Ok(format!("false {direct}")));
        assert_eq!(host(&[], &[bus]), Ok(format!("true {bus}")));
        assert_eq!(host(&[], &[]), Err(Kind::Unsupported));
        let folder = ("XDG_RUNTIME_DIR", "/run/user/1");
        let (direct, bus) = ("/run/user/1/systemd/private", "/run/user/1/bus");
        let user = |variables: &[_], files: &[_]| chosen(Whose::Users, variables, files);
        assert_eq!(user(&[folder], &[direct, bus]), Ok(format!("false {direct}")));
        assert_eq!(user(&[folder], &[bus]), Ok(format!("true {bus}")));
        assert_eq!(user(&[], &[direct, bus]), Err(Kind::Unsupported));
    }

    #[test]
    fn an_address_is_read_as_the_specification_writes_it() {
        let user = |address| {
            let variables = [("DBUS_SESSION_BUS_ADDRESS", address), ("XDG_RUNTIME_DIR", "/run/user/1")];
            chosen(Whose::Users, &variables, &[])
        };
        assert_eq!(user("unix:path=/run/user/1000/bus,guid=00"), Ok("true /run/user/1000/bus".to_owned()));
        assert_eq!(user("unix:guid=00,path=/a%20b"), Ok("true /a b".to_owned()));
        assert_eq!(user("unix:abstract=/tmp/x"), Ok("true @/tmp/x".to_owned()));
        assert_eq!(user("unix:runtime=yes"), Ok("true /run/user/1/bus".to_owned()));
        assert_eq!(user("tcp:host=x,port=1;unix:path=/y"), Ok("true /y".to_owned()));
        for nothing in ["tcp:host=x", "unix:path=", "unix:path=/a%2", "garbage"] {
            assert_eq!(user(nothing), Err(Kind::Invalid), "{nothing}");
        }
    }
}
