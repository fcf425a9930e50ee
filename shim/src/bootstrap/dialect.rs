//! The dialects in which containerd starts a shim, from 1.6 to 2.4, and CRI-O: which one is spoken is read off what
//! `start` is given, and it is answered in the same. Pure.
//!
//! containerd 2.3 and later write `BootstrapParams` on standard input. Before, it was an `Any` of options or nothing,
//! and an `Any` can parse as `BootstrapParams`: only ids that agree with the command line make it certain. 1.7 to 2.2
//! set `GRPC_ADDRESS` and read JSON; 1.7 refuses a version above 2, and nothing tells it from 2.0, so the answer is 2.

use protos::bootstrap::{BootstrapParams, BootstrapResult};
use protos::protobuf::Message;
use protos::protobuf::well_known_types::any::Any;

use crate::flags::Flags;

/// How the caller wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// containerd 1.6: the address alone.
    Plain,
    /// containerd 1.7 to 2.2, CRI-O: a JSON object.
    Json,
    /// containerd 2.3 and later: `BootstrapResult`.
    Protobuf,
}

/// What `start` was told, whatever the dialect.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// How to answer.
    pub(crate) dialect: Dialect,
    /// Where containerd takes events; empty when nobody does.
    pub(crate) events: String,
    /// containerd's gRPC address, the first part of a socket's name.
    pub(crate) grpc: String,
    /// Where sockets are made, when containerd chooses.
    pub(crate) socket_directory: Option<String>,
    /// The runtime's options.
    pub(crate) options: Option<Any>,
}

/// The environment that matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// `TTRPC_ADDRESS`.
    pub(crate) ttrpc_address: Option<String>,
    /// `GRPC_ADDRESS`.
    pub(crate) grpc_address: Option<String>,
}

/// Reads what containerd passed.
#[must_use]
pub(crate) fn read(flags: &Flags, environment: &Environment, input: &[u8]) -> Asked {
    if let Some(parameters) = parameters(flags, input) {
        return Asked {
            dialect: Dialect::Protobuf,
            events: parameters.containerd_ttrpc_address,
            grpc: first([parameters.containerd_grpc_address, flags.address.clone()]),
            socket_directory: parameters.socket_dir.filter(|directory| !directory.is_empty()),
            options: parameters.extensions.into_iter().filter_map(|one| one.value.into_option()).find(is_options),
        };
    }
    let (ttrpc, grpc) = (environment.ttrpc_address.clone(), environment.grpc_address.clone());
    Asked {
        dialect: if grpc.is_some() { Dialect::Json } else { Dialect::Plain },
        events: ttrpc.unwrap_or_default(),
        grpc: first([flags.address.clone(), grpc.unwrap_or_default()]),
        socket_directory: None,
        options: Any::parse_from_bytes(input).ok().filter(|any| !any.type_url.is_empty()),
    }
}

/// The answer: the bytes for standard output.
#[must_use]
pub(crate) fn answer(dialect: Dialect, address: &str) -> Vec<u8> {
    match dialect {
        Dialect::Plain => address.into(),
        Dialect::Json => {
            serde_json::json!({"version": 2, "address": address, "protocol": "ttrpc"}).to_string().into_bytes()
        }
        Dialect::Protobuf => {
            let mut result = BootstrapResult::new();
            result.version = 3;
            result.address = address.into();
            result.protocol = "ttrpc".into();
            // Writing a message of three short fields to memory has no way to go wrong.
            result.write_to_bytes().unwrap_or_default()
        }
    }
}

/// `input` as `BootstrapParams`, if that is what it is.
fn parameters(flags: &Flags, input: &[u8]) -> Option<BootstrapParams> {
    let parameters = BootstrapParams::parse_from_bytes(input).ok()?;
    let ours = parameters.instance_id == flags.id && parameters.namespace == flags.namespace;
    (ours && !flags.id.is_empty()).then_some(parameters)
}

/// An extension that carries the runtime's options.
fn is_options(any: &Any) -> bool {
    matches!(any.type_url.rsplit('/').next(), Some("containerd.runc.v1.Options" | "runtimeoptions.v1.Options"))
}

/// The first that is not empty.
fn first(candidates: [String; 2]) -> String {
    candidates.into_iter().find(|one| !one.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Flags {
        Flags { id: "c1".into(), namespace: "ns".into(), address: "/run/c.sock".into(), ..Flags::default() }
    }

    fn modern() -> Environment {
        Environment { ttrpc_address: Some("/run/c.sock.ttrpc".into()), grpc_address: Some("/run/c.sock".into()) }
    }

    /// An `Any` whose fields are also fields 1 and 2 of `BootstrapParams`.
    const ANY: &[u8] = b"\x0a\x1acontainerd.runc.v1.Options\x12\x02\x48\x01";

    #[test]
    fn containerd_1_6_is_answered_with_the_address() {
        let environment = Environment { grpc_address: None, ..modern() };
        let asked = read(&flags(), &environment, ANY);
        assert_eq!((asked.dialect, asked.grpc.as_str()), (Dialect::Plain, "/run/c.sock"));
        assert_eq!(asked.options.unwrap().value, b"\x48\x01");
        assert_eq!(answer(Dialect::Plain, "unix:///run/s/1"), b"unix:///run/s/1");
    }

    #[test]
    fn containerd_1_7_to_2_2_are_answered_in_json() {
        for input in [ANY, b""] {
            assert_eq!(read(&flags(), &modern(), input).dialect, Dialect::Json);
        }
        let expected = br#"{"address":"unix:///run/s/1","protocol":"ttrpc","version":2}"#;
        assert_eq!(answer(Dialect::Json, "unix:///run/s/1"), expected);
    }

    #[test]
    fn crio_has_no_containerd_at_all() {
        let crio = Flags { address: String::new(), ..flags() };
        let asked = read(&crio, &Environment::default(), b"");
        assert_eq!((asked.dialect, asked.events.as_str(), asked.grpc.as_str()), (Dialect::Plain, "", ""));
    }

    #[test]
    fn containerd_2_3_is_answered_in_protobuf() {
        // instance_id, namespace, ttrpc and grpc addresses, one extension with options, socket_dir.
        let mut input = b"\x0a\x02c1\x12\x02ns\x2a\x02/t\x32\x02/g".to_vec();
        input.extend(b"\x42\x22\x0a\x20");
        input.extend(ANY);
        input.extend(b"\x4a\x02/s");
        let asked = read(&flags(), &modern(), &input);
        assert_eq!((asked.dialect, asked.events.as_str(), asked.grpc.as_str()), (Dialect::Protobuf, "/t", "/g"));
        assert_eq!(asked.socket_directory.as_deref(), Some("/s"));
        assert_eq!(asked.options.unwrap().type_url, "containerd.runc.v1.Options");
        let expected = b"\x08\x03\x12\x0funix:///run/s/1\x1a\x05ttrpc";
        assert_eq!(answer(Dialect::Protobuf, "unix:///run/s/1"), expected);
    }

    #[test]
    fn parameters_for_another_container_are_not_believed() {
        let asked = read(&flags(), &modern(), b"\x0a\x02c2\x12\x02ns");
        assert_eq!(asked.dialect, Dialect::Json);
    }
}
