//! What is under test: the runtime's containerd name, and the options it is given. Not how it is driven.

use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::Any;

/// The programs the tests can be pointed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// `io.containerd.tare.v2`.
    Tare,
    /// containerd's own shim, with runc.
    Runc,
    /// containerd's own shim, with crun.
    Crun,
}

impl Product {
    /// The one that `TARE_UNDER_TEST` names, tare when it is unset.
    ///
    /// # Panics
    /// When the variable holds anything else: a test run of the wrong thing would be worse.
    #[must_use]
    pub fn under_test() -> Self {
        match std::env::var("TARE_UNDER_TEST").as_deref() {
            Err(_) | Ok("tare") => Self::Tare,
            Ok("runc") => Self::Runc,
            Ok("crun") => Self::Crun,
            Ok(other) => unreachable!("TARE_UNDER_TEST is {other:?}, not runc, crun or tare"),
        }
    }

    /// A short name for tables and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tare => "tare",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }
}

/// A runtime as containerd knows it.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Which program it is.
    pub product: Product,
    /// The name in the container's record, `io.containerd.tare.v2`.
    pub name: String,
    /// The OCI runtime that containerd's own shim shall execute.
    pub binary: Option<PathBuf>,
    /// Who makes the control groups.
    pub cgroup_driver: CgroupDriver,
}

/// Who makes a container's control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The runtime.
    Cgroupfs,
    /// systemd, as the CRI's `SystemdCgroup = true` asks for.
    Systemd,
}

impl Runtime {
    /// The shim and OCI runtime of a product.
    #[must_use]
    pub fn of(product: Product) -> Self {
        let (name, binary) = match product {
            Product::Tare => ("io.containerd.tare.v2", None),
            Product::Runc => ("io.containerd.runc.v2", std::env::var_os("TARE_RUNC").map(PathBuf::from)),
            Product::Crun => {
                let crun = std::env::var_os("TARE_CRUN").map_or_else(|| PathBuf::from("/usr/bin/crun"), PathBuf::from);
                ("io.containerd.runc.v2", Some(crun))
            }
        };
        Self { product, name: name.to_owned(), binary, cgroup_driver: CgroupDriver::Cgroupfs }
    }

    /// `containerd.runc.v1.Options` that keep the runtime's state under `root`.
    #[must_use]
    pub fn options(&self, root: &Path) -> Any {
        let binary = self.binary.as_deref().unwrap_or(Path::new(""));
        let systemd_cgroup = self.cgroup_driver == CgroupDriver::Systemd;
        let options = RuncOptions { binary_name: text(binary), root: text(root), systemd_cgroup };
        Any { type_url: "containerd.runc.v1.Options".to_owned(), value: options.encode_to_vec() }
    }
}

/// The fields of `containerd.runc.v1.Options` that the tests set.
#[derive(Clone, PartialEq, Eq, Message)]
struct RuncOptions {
    #[prost(string, tag = "6")]
    binary_name: String,
    #[prost(string, tag = "7")]
    root: String,
    #[prost(bool, tag = "9")]
    systemd_cgroup: bool,
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Whether the long forms of the tests were asked for (`FULL=1`).
#[must_use]
pub fn full() -> bool {
    std::env::var("FULL").is_ok_and(|value| value == "1")
}

/// Says, and counts, that a test holds only for tare: `true` when the test shall return at once.
#[must_use]
pub fn skip_unless_tare(reason: &str) -> bool {
    let product = Product::under_test();
    let skip = product != Product::Tare;
    if skip {
        eprintln!("SKIPPED against {}: {reason}", product.name());
    }
    skip
}
