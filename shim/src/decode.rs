//! What comes into the shim, checked and in the core's words.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use protos::api::{CheckpointTaskRequest, ExecProcessRequest, KillRequest};
use protos::protobuf::Message as _;
use protos::protobuf::well_known_types::any::Any;
use protos::runc;
use runtime_core::{Afterwards, CgroupMode, Checkpoint, CriuOptions, Error, Extent, Kind, oci};
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
    runtime_core::read_json(&any.value).map_err(|error| Error::new(Kind::Invalid, format!("{}: {error}", any.type_url)))
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

/// Where CRIU works, in the bundle, unless a request says where.
pub(crate) const CRIU_WORK: &str = "criu-work";

/// A checkpoint. Both of containerd's messages for its choices have the same fields; without one, it is a dump that the
/// container survives.
///
/// # Errors
/// [`Kind::Invalid`].
pub(crate) fn checkpoint(request: &CheckpointTaskRequest, bundle: &Path) -> Result<Checkpoint, Error> {
    let any = request.options.clone().unwrap_or_default();
    let chosen = match any.type_url.rsplit('/').next() {
        None | Some("") => runc::CheckpointOptions::new(),
        Some(name @ ("containerd.runc.v1.CheckpointOptions" | "containerd.linux.runc.CheckpointOptions")) => {
            runc::CheckpointOptions::parse_from_bytes(&any.value)
                .map_err(|error| Error::new(Kind::Invalid, format!("{name}: {error}")))?
        }
        Some(other) => return Err(Error::new(Kind::Invalid, format!("options of unknown type {other:?}"))),
    };
    let named = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
    let images = named(&request.path).or_else(|| named(&chosen.image_path));
    Ok(Checkpoint {
        images: images.ok_or_else(|| Error::new(Kind::Invalid, "a checkpoint without the path of an image"))?,
        work: Some(named(&chosen.work_path).unwrap_or_else(|| bundle.join(CRIU_WORK))),
        parent: None,
        extent: Extent::Whole,
        afterwards: if chosen.exit { Afterwards::Ends } else { Afterwards::RunsOn },
        page_server: None,
        status: None,
        options: CriuOptions {
            tcp_established: chosen.open_tcp,
            ext_unix_sk: chosen.external_unix_sockets,
            shell_job: chosen.terminal,
            file_locks: chosen.file_locks,
            manage_cgroups: cgroups_mode(&chosen.cgroups_mode)?,
            empty_namespaces: chosen
                .empty_namespaces
                .iter()
                .try_fold(0, |all, name| Ok::<_, Error>(all | bit(name)?))?,
            ..CriuOptions::default()
        },
    })
}

fn cgroups_mode(word: &str) -> Result<Option<CgroupMode>, Error> {
    match word {
        "" => Ok(None),
        "soft" => Ok(Some(CgroupMode::Soft)),
        "full" => Ok(Some(CgroupMode::Full)),
        "strict" => Ok(Some(CgroupMode::Strict)),
        "ignore" => Ok(Some(CgroupMode::Ignore)),
        other => Err(Error::new(Kind::Invalid, format!("cgroups mode {other:?}"))),
    }
}

/// A namespace of the specification, as in clone(2).
fn bit(name: &str) -> Result<u32, Error> {
    match name {
        "network" => Ok(0x4000_0000),
        other => Err(Error::new(Kind::Invalid, format!("namespace {other:?}: only a network can be left empty"))),
    }
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

    fn asked(name: &str, options: &[u8]) -> CheckpointTaskRequest {
        let options = Any { type_url: name.into(), value: options.into(), ..Any::new() };
        CheckpointTaskRequest { path: "/image".into(), options: Some(options).into(), ..CheckpointTaskRequest::new() }
    }

    #[test]
    fn a_checkpoint_is_read_from_either_message() {
        let plain = checkpoint(&asked("", b""), Path::new("/b")).unwrap();
        assert_eq!((plain.afterwards, plain.work.unwrap()), (Afterwards::RunsOn, "/b/criu-work".into()));
        let options = b"\x08\x01\x10\x01\x18\x01\x20\x01\x28\x01\x32\x07network\x3a\x06strict\x4a\x02/w";
        for name in ["containerd.runc.v1.CheckpointOptions", "types/containerd.linux.runc.CheckpointOptions"] {
            let read = checkpoint(&asked(name, options), Path::new("/b")).unwrap();
            assert_eq!((read.afterwards, read.work.unwrap()), (Afterwards::Ends, "/w".into()));
            let expected = CriuOptions {
                tcp_established: true,
                ext_unix_sk: true,
                shell_job: true,
                file_locks: true,
                manage_cgroups: Some(CgroupMode::Strict),
                empty_namespaces: 0x4000_0000,
                ..CriuOptions::default()
            };
            assert_eq!(read.options, expected);
        }
        for (name, options) in [("x.Options", &b""[..]), ("containerd.runc.v1.CheckpointOptions", b"\x3a\x01x")] {
            assert_eq!(checkpoint(&asked(name, options), Path::new("/b")).unwrap_err().kind(), Kind::Invalid);
        }
    }

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
