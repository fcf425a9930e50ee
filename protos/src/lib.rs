//! The wire types of containerd, generated; nothing else. Most come from `containerd-shim-protos`, whose names are kept;
//! `runtimeoptions` is generated here because that crate lacks it (see README.md for its origin).

pub use containerd_shim_protos::{
    api, bootstrap_api as bootstrap, cgroups::metrics as cgroup1, cgroups_v2::metrics as cgroup2,
    events::task as events, shim::event, shim::events as forward, shim::oci as runc, shim_async, topics, ttrpc, types,
};
pub use protobuf;

/// `runtimeoptions.v1`, the options of every runtime that containerd does not know by name.
pub mod runtimeoptions {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
    include!(concat!(env!("OUT_DIR"), "/generated/mod.rs"));
    pub use self::runtimeoptions::Options;
}
