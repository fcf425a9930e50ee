//! `linux.resources` as a list of writes into control files, and a device program. Pure.
//! It neither knows where hierarchies are mounted nor whether a file exists: the one writer is `runtime_core::cgroup`.
//!
//! The order of the list is not a promise that each write succeeds at once: the kernel checks some values against
//! others (`limit` against `memsw`, `burst` against `quota`), so the writer tries what was refused as invalid once more
//! after everything else. That makes one list serve both a new cgroup and an update that raises or lowers limits.

use std::borrow::Cow;

/// The limits of a control group, in the order they are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Writes into control files.
    pub writes: Vec<Write>,
    /// On cgroup v2, the eBPF device program (`BPF_PROG_TYPE_CGROUP_DEVICE` instructions, native endian); on v1 the
    /// rules are writes to `devices.deny` and `devices.allow`.
    pub device_program: Option<Vec<u8>>,
}

/// One write into one control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The controller whose hierarchy holds the file (`memory`); ignored on v2, where there is one hierarchy.
    pub controller: &'static str,
    /// File name in the container's cgroup: `memory.max`.
    pub file: String,
    /// What is written, in one `write(2)`.
    pub value: String,
    /// The field it comes from, for errors: `linux.resources.memory.limit`.
    pub field: Cow<'static, str>,
    /// What to do when there is no such file.
    pub absent: Absent,
    /// A file whose number the value must not be below (`memory.current`), checked just before the write.
    pub floor: Option<&'static str>,
}

/// What the writer does when a control file does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The limit cannot be honoured: an error.
    Refuse,
    /// Nothing is lost without it: the file sharpens another limit, or the value is what its absence means.
    PassOver,
    /// Another file takes the same limit, in its own scale.
    Instead {
        /// Its name.
        file: String,
        /// What is written into it.
        value: String,
    },
}
