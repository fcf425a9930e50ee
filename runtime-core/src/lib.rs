//! The runtime core: an OCI container, created and ruled, in process. Sync; it knows no tokio, no ttrpc and no flags.
//!
//! What a caller sees is small: [`Container`] with its verbs, [`Process`], which is owned by its pidfd, [`remove`],
//! which deletes a container from its record in whatever half-made state it is, and [`Error`].

mod container;
mod error;
mod process;
mod sys;

pub mod cgroup;

pub use container::{Container, Create, Exec, Removed, RootfsMount, remove};
pub use error::{Error, Kind};
pub use oci_spec::runtime as oci;
pub use process::{ExitStatus, Process, Stdio};
