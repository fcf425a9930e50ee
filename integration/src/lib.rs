//! The harness: a private containerd, an image made on the spot, and a small typed client over gRPC.
//!
//! It knows containerd and the kernel, and nothing of tare's code: what it drives is chosen by name, so that every test
//! can be proved against runc and crun before it judges tare (`TARE_UNDER_TEST=runc|crun|tare`, default `tare`).
//! `TARE_CONTAINERD` names a folder with another containerd; `TARE_SHIM` names another shim binary; `FULL=1` runs the
//! long forms of the tests; `TARE_SLOW=8` says that the machine is eight times slower than usual.

mod client;
mod container;
mod containerd;
mod criu;
pub mod docker;
mod events;
pub mod home;
mod image;
pub mod leftovers;
pub mod machine;
pub mod oci;
pub mod pace;
pub mod podman;
mod runtime;
pub mod spec;
mod stdio;
mod task;

pub use client::Client;
pub use container::{Container, Output};
pub use containerd::{Containerd, shared, shim_binary};
pub use criu::{criu, skip_without_criu};
pub use events::{Event, Happening, Recorder, until};
pub use image::{busybox_links, unpack as unpack_image};
pub use runtime::{CgroupDriver, Product, Runtime, full, skip_unless_tare};
pub use stdio::{Collector, Pipes, Stdin, Stdio, fifo, silent_reader};
pub use task::{Exit, Process, Task};

pub use containerd_client::tonic::{Code, Status};
pub use containerd_client::types::v1::Status as Phase;

/// What an error says, without the status code's decoration when it came from containerd.
#[must_use]
pub fn message(error: &anyhow::Error) -> String {
    let status = error.chain().find_map(|cause| cause.downcast_ref::<Status>());
    status.map_or_else(|| format!("{error:#}"), |status| status.message().to_owned())
}
