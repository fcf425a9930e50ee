//! What comes into the shim, checked and in the core's words.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use protos::api::{ExecProcessRequest, KillRequest};
use protos::protobuf::well_known_types::any::Any;
use runtime_core::{Error, Kind, oci};
use serde::de::DeserializeOwned;

use crate::task::Target;

/// A signal that the kernel knows, real-time ones included.
///
/// # Errors
/// [`Kind::Invalid`].
pub(crate) fn signal(number: u32) -> Result<i32, Error> {
    match i32::try_from(number) {
        Ok(signal @ 1..=64) => Ok(signal),
        _ => Err(Error::new(Kind::Invalid, format!("unknown signal {number}"))),
    }
}

/// Whom a signal is for. `all` says nothing about an exec.
#[must_use]
pub(crate) fn target(request: &KillRequest) -> Target<'_> {
    match (request.exec_id.as_str(), request.all) {
        ("", false) => Target::Init,
        ("", true) => Target::All,
        (exec, _) => Target::Exec(exec),
    }
}

/// A number of rows or columns.
///
/// # Errors
/// [`Kind::Invalid`]: the kernel has 16 bits for it.
pub(crate) fn cells(number: u32) -> Result<u16, Error> {
    u16::try_from(number).map_err(|_| Error::new(Kind::Invalid, format!("terminal size {number}")))
}

/// A payload in JSON, as containerd sends what is OCI's.
///
/// # Errors
/// [`Kind::Invalid`].
pub(crate) fn json<T: DeserializeOwned>(any: &Any) -> Result<T, Error> {
    serde_json::from_slice(&any.value).map_err(|error| Error::new(Kind::Invalid, format!("{}: {error}", any.type_url)))
}

/// The process of an exec. Whether it has a terminal is for the request to say.
///
/// # Errors
/// As [`json`].
pub(crate) fn process(request: &ExecProcessRequest) -> Result<oci::Process, Error> {
    let mut process = runtime_core::read_process(&request.spec.get_or_default().value)?;
    process.set_terminal(Some(request.terminal));
    Ok(process)
}

/// Makes the folder to mount a root file system on, unless it is there.
///
/// # Errors
/// The kernel refusing.
pub(crate) fn folder(path: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o711).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::new(Kind::System, format!("mkdir {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_1_to_64() {
        for number in 1..=64 {
            assert_eq!(signal(number).map(u32::try_from).unwrap(), Ok(number));
        }
        for number in [0, 65, u32::MAX] {
            assert_eq!(signal(number).unwrap_err().kind(), Kind::Invalid);
        }
    }
}
