//! The runtime's options, in the four forms in which they arrive: containerd's own message for runc, its older one for
//! any other runtime, the TOML that it passes to a runtime it does not know by name, and nothing.

use std::path::PathBuf;

use protos::protobuf::well_known_types::any::Any;
use protos::protobuf::{self, CodedInputStream, Message, rt};
use protos::{runc, runtimeoptions};
use runtime_core::{Error, Kind};
use serde::Deserialize;

/// What can be chosen for a container. The names in TOML are those of containerd's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Options {
    /// Do not pivot_root.
    pub(crate) no_pivot_root: bool,
    /// Do not make a new session keyring.
    pub(crate) no_new_keyring: bool,
    /// The cgroup to put the shim in.
    pub(crate) shim_cgroup: String,
    /// The owner of the standard streams' pipes.
    pub(crate) io_uid: u32,
    /// Their group.
    pub(crate) io_gid: u32,
    /// Manage cgroups through systemd.
    pub(crate) systemd_cgroup: bool,
    /// Where operators look for runtime state.
    pub(crate) root: PathBuf,
    /// Where CRIU writes its log when it restores; empty: in the bundle.
    pub(crate) criu_work_path: PathBuf,
    /// Another OCI runtime to execute.
    binary_name: String,
}

/// Reads the options of a request.
///
/// # Errors
/// [`Kind::Invalid`] for a type that is not known, for one that cannot be read, and for one that names another runtime.
pub(crate) fn read(any: &Any) -> Result<Options, Error> {
    let options = read_any(any)?;
    if options.binary_name.is_empty() {
        return Ok(options);
    }
    let name = options.binary_name;
    Err(Error::new(Kind::Invalid, format!("BinaryName {name:?}: tare is the runtime and executes no other")))
}

fn read_any(any: &Any) -> Result<Options, Error> {
    match any.type_url.rsplit('/').next() {
        None | Some("") => Ok(Options::default()),
        Some("containerd.runc.v1.Options") => runc::Options::parse_from_bytes(&any.value)
            .map(from_runc)
            .map_err(|error| Error::new(Kind::Invalid, format!("containerd.runc.v1.Options: {error}"))),
        Some("containerd.linux.runc.CreateOptions") => from_create_options(&any.value)
            .map_err(|error| Error::new(Kind::Invalid, format!("containerd.linux.runc.CreateOptions: {error}"))),
        Some("runtimeoptions.v1.Options") => runtimeoptions::Options::parse_from_bytes(&any.value)
            .map_err(|error| Error::new(Kind::Invalid, format!("runtimeoptions.v1.Options: {error}")))
            .and_then(|options| from_toml(&options)),
        Some(other) => Err(Error::new(Kind::Invalid, format!("options of unknown type {other:?}"))),
    }
}

fn from_runc(options: runc::Options) -> Options {
    Options {
        no_pivot_root: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
        shim_cgroup: options.shim_cgroup,
        io_uid: options.io_uid,
        io_gid: options.io_gid,
        systemd_cgroup: options.systemd_cgroup,
        root: options.root.into(),
        criu_work_path: options.criu_work_path.into(),
        binary_name: options.binary_name,
    }
}

/// What containerd's client library up to 1.7 sends to every runtime whose name is not one of runc's (`WithShimCgroup`,
/// `WithUIDOwner`, `WithNoPivotRoot` and the like). The choices are those of runc's message under other field numbers,
/// the rest is CRIU's; five fields do not earn a generated message.
fn from_create_options(bytes: &[u8]) -> protobuf::Result<Options> {
    let mut options = Options::default();
    let mut input = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        // A tag is the field's number and, in the low three bits, how it is written: 0 a number, 2 a text.
        match (tag >> 3, tag & 7) {
            (1, 0) => options.no_pivot_root = input.read_bool()?,
            (8, 0) => options.no_new_keyring = input.read_bool()?,
            (9, 2) => options.shim_cgroup = input.read_string()?,
            (10, 0) => options.io_uid = input.read_uint32()?,
            (11, 0) => options.io_gid = input.read_uint32()?,
            _ => rt::skip_field_for_tag(tag, &mut input)?,
        }
    }
    Ok(options)
}

/// A file wins over the text in the message, as containerd means it.
fn from_toml(options: &runtimeoptions::Options) -> Result<Options, Error> {
    let invalid = |what: &str, why: String| Error::new(Kind::Invalid, format!("{what}: {why}"));
    let text = if options.config_path.is_empty() {
        options.config_body.clone()
    } else {
        std::fs::read(&options.config_path).map_err(|error| invalid(&options.config_path, error.to_string()))?
    };
    basic_toml::from_slice(&text).map_err(|error| invalid("runtime options", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: &[u8]) -> Any {
        Any { type_url: type_url.into(), value: value.into(), ..Any::new() }
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(read(&Any::new()).unwrap(), Options::default());
        let expected = Options { no_pivot_root: true, systemd_cgroup: true, ..Options::default() };
        assert_eq!(read(&any("containerd.runc.v1.Options", b"\x08\x01\x48\x01")).unwrap(), expected);
        let body = "NoPivotRoot = true\nSystemdCgroup = true\nBinaryName = \"\"\n[Deep]\nx = 1\n";
        let mut options = runtimeoptions::Options::new();
        options.config_body = body.into();
        let bytes = options.write_to_bytes().unwrap();
        assert_eq!(read(&any("runtimeoptions.v1.Options", &bytes)).unwrap(), expected);
    }

    #[test]
    fn the_choices_of_the_older_message_are_read_and_the_rest_is_skipped() {
        let value = b"\x08\x01\x10\x01\x32\x03net\x40\x01\x4a\x05/shim\x50\xe8\x07\x58\xd0\x0f\x62\x01w";
        let expected = Options {
            no_pivot_root: true,
            no_new_keyring: true,
            shim_cgroup: "/shim".into(),
            io_uid: 1000,
            io_gid: 2000,
            ..Options::default()
        };
        assert_eq!(read(&any("containerd.linux.runc.CreateOptions", value)).unwrap(), expected);
    }

    #[test]
    fn another_runtime_is_refused_by_name() {
        let options = runc::Options { binary_name: "/usr/bin/runc".into(), ..runc::Options::new() };
        let any = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: options.write_to_bytes().unwrap(),
            ..Any::new()
        };
        assert!(read(&any).unwrap_err().to_string().contains("executes no other"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (type_url, value) in [
            ("kata.v1.Options", &b""[..]),
            ("containerd.runc.v1.Options", b"\xff\xff"),
            ("containerd.linux.runc.CreateOptions", b"\x4a\x09/shim"),
            ("runtimeoptions.v1.Options", b"\x1a\x04= = "),
        ] {
            assert_eq!(read(&any(type_url, value)).unwrap_err().kind(), Kind::Invalid, "{type_url}");
        }
    }
}
