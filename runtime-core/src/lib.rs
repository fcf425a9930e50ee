//! The runtime core: an OCI container, created and ruled, in process. Sync; it knows no tokio, no ttrpc and no flags.
//!
//! What a caller sees is small: [`Container`] with its verbs, [`Process`], which is owned by its pidfd, [`remove`],
//! which deletes a container from its record in whatever half-made state it is, and [`Error`].

mod any_case;
pub mod cgroup;
mod container;
mod criu;
mod error;
mod features;
mod gate;
mod hooks;
mod host;
mod id_map;
mod line;
mod lower;
mod net_devices;
mod netlink;
mod old_root;
mod oom_score;
mod patience;
mod prepare;
mod process;
mod record;
mod resctrl;
mod rooted;
mod rootfs;
mod script;
mod seccomp_agent;
mod spawn;
mod spec;
mod steps;
mod stub;
mod sys;
mod warnings;

pub use any_case::{AnyCase, read_json};
pub use container::{
    About, Afterwards, CgroupDriver, Checkpoint, Container, Create, Exec, Extent, Gate, IfPaused, Removed, Restore,
    Restoring, RootfsMount, Status, Step, dry_run, remove,
};
pub use criu::{CgroupMode, CriuOptions, NetworkLock};
pub use error::{Error, Kind};
pub use features::features;
pub use host::check_kernel;
pub use oci_spec::runtime as oci;
pub use process::{ExitStatus, Process, Stdio};
pub use spec::{read_process, read_spec, read_spec_file};
pub use steps::on_step;
pub use sys::inherited::{close_inherited_on_exec, is_inherited};
pub use sys::signals::Signals;
pub use warnings::on_warning;
