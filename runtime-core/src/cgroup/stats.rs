//! What a container has used, as containerd's `io.containerd.cgroups.v1` and `v2` messages have it, name by name, so
//! that encoding is mechanical. A file that is absent because its controller is not enabled reads as nothing; one that
//! cannot be read or makes no sense is an error. What no control file tells (network, task states) is not here.

pub mod v1;
pub mod v2;

mod details;
mod directory;

use super::Cgroup;
use crate::{Error, Kind};
use directory::Directory;

pub use details::{CpuSet, Details};

/// What a container has used.
#[derive(Debug, Clone, PartialEq)]
pub enum Stats {
    /// On a host with version 1 hierarchies.
    V1(Box<v1::Metrics>),
    /// On a host with cgroup v2 alone.
    V2(Box<v2::Metrics>),
}

/// Limits and use of processes; the same in both versions. On v1 no limit is 0, on v2 `u64::MAX`, as containerd has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PidsStat {
    pub current: u64,
    pub limit: u64,
}

/// RDMA use and limits; the same in both versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RdmaStat {
    pub current: Vec<RdmaEntry>,
    pub limit: Vec<RdmaEntry>,
}

/// One RDMA device; no limit is `u32::MAX`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RdmaEntry {
    pub device: String,
    pub hca_handles: u32,
    pub hca_objects: u32,
}

impl Cgroup {
    /// What the container has used.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when the cgroup is gone; a control file that does not say what its format promises.
    pub fn stats(&self) -> Result<Stats, Error> {
        let open = |controller: &str| self.directory_of(controller).map_or(Ok(None), Directory::open);
        if self.legacy.is_empty() {
            let directory = self.home().map_or(Ok(None), Directory::open)?;
            return Ok(Stats::V2(Box::new(v2::read(&directory.ok_or_else(gone)?)?)));
        }
        if !self.home().is_some_and(super::file::exists) {
            return Err(gone());
        }
        Ok(Stats::V1(Box::new(v1::read(open)?)))
    }
}

fn gone() -> Error {
    Error::new(Kind::NotFound, "the container's cgroup is gone")
}

/// `mlx4_0 hca_handle=2 hca_object=max`, in both versions.
fn rdma(directory: &Directory) -> Result<Option<RdmaStat>, Error> {
    let Some(current) = entries(directory, "rdma.current")? else { return Ok(None) };
    Ok(Some(RdmaStat { current, limit: entries(directory, "rdma.max")?.unwrap_or_default() }))
}

fn entries(directory: &Directory, file: &str) -> Result<Option<Vec<RdmaEntry>>, Error> {
    let Some(text) = directory.text(file)? else { return Ok(None) };
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let mut entry = RdmaEntry { device: words.next()?.to_owned(), ..RdmaEntry::default() };
        for word in words {
            let (key, value) = word.split_once('=')?;
            let value = if value == "max" { u32::MAX } else { value.parse().ok()? };
            match key {
                "hca_handle" => entry.hca_handles = value,
                "hca_object" => entry.hca_objects = value,
                _ => {}
            }
        }
        Some(entry)
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| entry(line).ok_or_else(|| directory.garbled(file, line))).collect::<Result<_, _>>().map(Some)
}

/// The sizes of huge pages that this host has, as control files are named for them: `2MB`.
fn page_sizes() -> Vec<String> {
    let Ok(folder) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let mut sizes: Vec<u64> = folder
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok())
        .collect();
    sizes.sort_unstable();
    let named = |size: &u64| match size {
        size if *size >= 1 << 20 => format!("{}GB", size >> 20),
        size if *size >= 1 << 10 => format!("{}MB", size >> 10),
        size => format!("{size}KB"),
    };
    sizes.iter().map(named).collect()
}
