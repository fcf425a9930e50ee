//! Reads the machine: processes, mounts, control groups, memory. It changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every process number of the host.
#[must_use]
pub fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process's command line, its arguments separated by spaces; empty when it is gone.
#[must_use]
pub fn command_line(pid: u32) -> String {
    fs::read(format!("/proc/{pid}/cmdline")).map_or_else(|_| String::new(), |bytes| text(&bytes))
}

/// A process's environment, its entries separated by spaces.
#[must_use]
pub fn environment(pid: u32) -> String {
    fs::read(format!("/proc/{pid}/environ")).map_or_else(|_| String::new(), |bytes| text(&bytes))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', " ").trim().to_owned()
}

/// A field of `/proc/PID/status`, without its name: `field(1, "Threads")`.
#[must_use]
pub fn status(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.split(':').next() == Some(field))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The processes that are neither gone nor waiting to be reaped.
#[must_use]
pub fn alive(pid: u32) -> bool {
    status(pid, "State").is_some_and(|state| !state.starts_with('Z') && !state.starts_with('X'))
}

/// How many descriptors a process holds.
#[must_use]
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// A process's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Pages in memory, in KiB.
    pub rss: u64,
    /// The same with shared pages divided among their users, in KiB.
    pub pss: u64,
    /// Pages only this process has written, in KiB.
    pub private_dirty: u64,
    /// Threads.
    pub threads: u64,
}

/// What a process weighs, from `smaps_rollup`.
#[must_use]
pub fn memory(pid: u32) -> Option<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let fields: BTreeMap<&str, u64> = rollup.lines().filter_map(kibibytes).collect();
    Some(Memory {
        rss: *fields.get("Rss")?,
        pss: *fields.get("Pss")?,
        private_dirty: *fields.get("Private_Dirty")?,
        threads: status(pid, "Threads")?.parse().ok()?,
    })
}

fn kibibytes(line: &str) -> Option<(&str, u64)> {
    let (name, rest) = line.split_once(':')?;
    Some((name, rest.trim().strip_suffix(" kB")?.parse().ok()?))
}

/// User and system time of a process and its reaped children, in clock ticks (hundredths of a second).
#[must_use]
pub fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<u64> =
        stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    Some(fields.iter().sum())
}

/// Time the whole machine has spent working, in clock ticks.
#[must_use]
pub fn busy_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal: all but idle, iowait and steal.
    [0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum()
}

/// The mount points of this mount namespace that lie below a folder, deepest last.
#[must_use]
pub fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ")))
        .filter(|point| point.starts_with(folder))
        .collect()
}

/// How many mounts this mount namespace has.
#[must_use]
pub fn mount_count() -> usize {
    fs::read_to_string("/proc/self/mountinfo").map_or(0, |table| table.lines().count())
}

/// Where control groups are mounted: one folder on a unified host, one for each hierarchy otherwise.
#[must_use]
pub fn hierarchies() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_cgroup = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    table.lines().filter(is_cgroup).filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// Controllers of version 1 that have a hierarchy which is mounted nowhere: it stays as long as a group is in it.
#[must_use]
pub fn unmounted() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let options: Vec<&str> =
        mounts.lines().filter_map(|line| line.split_once(" - cgroup ")).map(|(_, tail)| tail).collect();
    let mounted = |name: &str| options.iter().any(|tail| tail.split([' ', ',']).any(|word| word == name));
    let controllers = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let attached = controllers.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, hierarchy) = (words.next()?, words.next()?);
        (hierarchy != "0" && !unified()).then(|| name.to_owned())
    });
    attached.filter(|name| !mounted(name)).collect()
}

/// Whether the host has the unified hierarchy only.
#[must_use]
pub fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Every control group of that path, one for each hierarchy that has it.
#[must_use]
pub fn cgroups(path: &str) -> Vec<PathBuf> {
    let folders = hierarchies().into_iter().map(|mount| mount.join(path.trim_start_matches('/')));
    folders.filter(|folder| folder.is_dir()).collect()
}

/// A file of a control group: `cgroup_file("/ns/id", "memory", "memory.limit_in_bytes")`.
#[must_use]
pub fn cgroup_file(path: &str, controller: &str, file: &str) -> Option<String> {
    let mount = if unified() { PathBuf::from("/sys/fs/cgroup") } else { Path::new("/sys/fs/cgroup").join(controller) };
    let text = fs::read_to_string(mount.join(path.trim_start_matches('/')).join(file)).ok()?;
    Some(text.trim().to_owned())
}

/// The processes of a control group, in whichever hierarchy.
#[must_use]
pub fn cgroup_processes(path: &str) -> Vec<u32> {
    let mut found: Vec<u32> = cgroups(path)
        .iter()
        .filter_map(|folder| fs::read_to_string(folder.join("cgroup.procs")).ok())
        .flat_map(|list| list.lines().filter_map(|line| line.parse().ok()).collect::<Vec<u32>>())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// How many processes wanted a processor in the last minute, on average.
#[must_use]
pub fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default()
}
