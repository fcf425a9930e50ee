//! `io.containerd.cgroups.v2.Metrics`, from the files of one directory.

use super::directory::{Directory, Table};
use super::{PidsStat, RdmaStat, page_sizes, rdma};
use crate::Error;

/// Everything; a controller that is not enabled is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Metrics {
    pub pids: Option<PidsStat>,
    pub cpu: Option<CpuStat>,
    pub memory: Option<MemoryStat>,
    pub rdma: Option<RdmaStat>,
    pub io: Option<IoStat>,
    pub hugetlb: Vec<HugeTlbStat>,
    pub memory_events: Option<MemoryEvents>,
}

/// `cpu.stat` and `cpu.pressure`.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct CpuStat {
    pub usage_usec: u64,
    pub user_usec: u64,
    pub system_usec: u64,
    pub nr_periods: u64,
    pub nr_throttled: u64,
    pub throttled_usec: u64,
    pub psi: Option<PsiStats>,
    pub nr_bursts: u64,
    pub burst_usec: u64,
}

/// `memory.stat`, and the files with single numbers.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct MemoryStat {
    pub anon: u64,
    pub file: u64,
    pub kernel_stack: u64,
    pub slab: u64,
    pub sock: u64,
    pub shmem: u64,
    pub file_mapped: u64,
    pub file_dirty: u64,
    pub file_writeback: u64,
    pub anon_thp: u64,
    pub inactive_anon: u64,
    pub active_anon: u64,
    pub inactive_file: u64,
    pub active_file: u64,
    pub unevictable: u64,
    pub slab_reclaimable: u64,
    pub slab_unreclaimable: u64,
    pub pgfault: u64,
    pub pgmajfault: u64,
    pub workingset_refault: u64,
    pub workingset_activate: u64,
    pub workingset_nodereclaim: u64,
    pub pgrefill: u64,
    pub pgscan: u64,
    pub pgsteal: u64,
    pub pgactivate: u64,
    pub pgdeactivate: u64,
    pub pglazyfree: u64,
    pub pglazyfreed: u64,
    pub thp_fault_alloc: u64,
    pub thp_collapse_alloc: u64,
    pub usage: u64,
    pub usage_limit: u64,
    pub swap_usage: u64,
    pub swap_limit: u64,
    pub max_usage: u64,
    pub swap_max_usage: u64,
    pub psi: Option<PsiStats>,
}

/// `memory.events`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MemoryEvents {
    pub low: u64,
    pub high: u64,
    pub max: u64,
    pub oom: u64,
    pub oom_kill: u64,
    pub oom_group_kill: u64,
}

/// A pressure file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub struct PsiStats {
    pub some: PsiData,
    pub full: PsiData,
}

/// One line of a pressure file: percentages, and microseconds altogether.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub struct PsiData {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

/// `io.stat` and `io.pressure`.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct IoStat {
    pub usage: Vec<IoEntry>,
    pub psi: Option<PsiStats>,
}

/// One device of `io.stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct IoEntry {
    pub major: u64,
    pub minor: u64,
    pub rbytes: u64,
    pub wbytes: u64,
    pub rios: u64,
    pub wios: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct HugeTlbStat {
    pub current: u64,
    pub max: u64,
    pub pagesize: String,
    pub failcnt: u64,
}

/// Reads everything that is there.
pub(super) fn read(directory: &Directory) -> Result<Metrics, Error> {
    let pids = match directory.number("pids.current")? {
        Some(current) => Some(PidsStat { current, limit: directory.number("pids.max")?.unwrap_or(0) }),
        None => None,
    };
    Ok(Metrics {
        pids,
        cpu: cpu(directory)?,
        memory: memory(directory)?,
        rdma: rdma(directory)?,
        io: io(directory)?,
        hugetlb: hugetlb(directory)?,
        memory_events: directory.table("memory.events")?.as_ref().map(events),
    })
}

fn cpu(directory: &Directory) -> Result<Option<CpuStat>, Error> {
    let Some(table) = directory.table("cpu.stat")? else { return Ok(None) };
    Ok(Some(CpuStat {
        usage_usec: table.get("usage_usec"),
        user_usec: table.get("user_usec"),
        system_usec: table.get("system_usec"),
        nr_periods: table.get("nr_periods"),
        nr_throttled: table.get("nr_throttled"),
        throttled_usec: table.get("throttled_usec"),
        psi: pressure(directory, "cpu.pressure")?,
        nr_bursts: table.get("nr_bursts"),
        burst_usec: table.get("burst_usec"),
    }))
}

fn memory(directory: &Directory) -> Result<Option<MemoryStat>, Error> {
    let Some(table) = directory.table("memory.stat")? else { return Ok(None) };
    let number = |name| Ok::<_, Error>(directory.number(name)?.unwrap_or(0));
    Ok(Some(MemoryStat {
        usage: number("memory.current")?,
        usage_limit: number("memory.max")?,
        swap_usage: number("memory.swap.current")?,
        swap_limit: number("memory.swap.max")?,
        max_usage: number("memory.peak")?,
        swap_max_usage: number("memory.swap.peak")?,
        psi: pressure(directory, "memory.pressure")?,
        ..memory_table(&table)
    }))
}

fn memory_table(table: &Table) -> MemoryStat {
    // Kernel 5.9 split these two by kind of page.
    let both = |key: &str| {
        table
            .find(key)
            .unwrap_or_else(|| table.get(&format!("{key}_anon")).saturating_add(table.get(&format!("{key}_file"))))
    };
    MemoryStat {
        anon: table.get("anon"),
        file: table.get("file"),
        kernel_stack: table.get("kernel_stack"),
        slab: table.get("slab"),
        sock: table.get("sock"),
        shmem: table.get("shmem"),
        file_mapped: table.get("file_mapped"),
        file_dirty: table.get("file_dirty"),
        file_writeback: table.get("file_writeback"),
        anon_thp: table.get("anon_thp"),
        inactive_anon: table.get("inactive_anon"),
        active_anon: table.get("active_anon"),
        inactive_file: table.get("inactive_file"),
        active_file: table.get("active_file"),
        unevictable: table.get("unevictable"),
        slab_reclaimable: table.get("slab_reclaimable"),
        slab_unreclaimable: table.get("slab_unreclaimable"),
        pgfault: table.get("pgfault"),
        pgmajfault: table.get("pgmajfault"),
        workingset_refault: both("workingset_refault"),
        workingset_activate: both("workingset_activate"),
        workingset_nodereclaim: table.get("workingset_nodereclaim"),
        pgrefill: table.get("pgrefill"),
        pgscan: table.get("pgscan"),
        pgsteal: table.get("pgsteal"),
        pgactivate: table.get("pgactivate"),
        pgdeactivate: table.get("pgdeactivate"),
        pglazyfree: table.get("pglazyfree"),
        pglazyfreed: table.get("pglazyfreed"),
        thp_fault_alloc: table.get("thp_fault_alloc"),
        thp_collapse_alloc: table.get("thp_collapse_alloc"),
        ..MemoryStat::default()
    }
}

fn events(table: &Table) -> MemoryEvents {
    MemoryEvents {
        low: table.get("low"),
        high: table.get("high"),
        max: table.get("max"),
        oom: table.get("oom"),
        oom_kill: table.get("oom_kill"),
        oom_group_kill: table.get("oom_group_kill"),
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with `full`, which `cpu.pressure` lacks before 5.13.
fn pressure(directory: &Directory, file: &str) -> Result<Option<PsiStats>, Error> {
    let Some(text) = directory.text(file)? else { return Ok(None) };
    let mut stats = PsiStats::default();
    for line in text.lines() {
        let parsed = line.split_once(' ').and_then(|(kind, words)| Some((kind, psi(words)?)));
        match parsed {
            Some(("some", data)) => stats.some = data,
            Some(("full", data)) => stats.full = data,
            _ => return Err(directory.garbled(file, line)),
        }
    }
    Ok(Some(stats))
}

fn psi(words: &str) -> Option<PsiData> {
    let mut data = PsiData::default();
    for word in words.split(' ') {
        let (key, value) = word.split_once('=')?;
        match key {
            "avg10" => data.avg10 = value.parse().ok()?,
            "avg60" => data.avg60 = value.parse().ok()?,
            "avg300" => data.avg300 = value.parse().ok()?,
            "total" => data.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(data)
}

fn io(directory: &Directory) -> Result<Option<IoStat>, Error> {
    let Some(text) = directory.text("io.stat")? else { return Ok(None) };
    let entries = text.lines().filter(|line| !line.trim().is_empty());
    let entries = entries.map(|line| io_entry(line).ok_or_else(|| directory.garbled("io.stat", line)));
    Ok(Some(IoStat { usage: entries.collect::<Result<_, _>>()?, psi: pressure(directory, "io.pressure")? }))
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`; a device without any has its name alone.
fn io_entry(line: &str) -> Option<IoEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let mut entry = IoEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, ..IoEntry::default() };
    for word in words {
        let (key, value) = word.split_once('=')?;
        match key {
            "rbytes" => entry.rbytes = value.parse().ok()?,
            "wbytes" => entry.wbytes = value.parse().ok()?,
            "rios" => entry.rios = value.parse().ok()?,
            "wios" => entry.wios = value.parse().ok()?,
            _ => {}
        }
    }
    Some(entry)
}

fn hugetlb(directory: &Directory) -> Result<Vec<HugeTlbStat>, Error> {
    let mut stats = Vec::new();
    for pagesize in page_sizes() {
        let Some(current) = directory.number(&format!("hugetlb.{pagesize}.current"))? else { break };
        let max = directory.number(&format!("hugetlb.{pagesize}.max"))?.unwrap_or(0);
        let events = directory.table(&format!("hugetlb.{pagesize}.events"))?;
        stats.push(HugeTlbStat { current, max, pagesize, failcnt: events.map_or(0, |events| events.get("max")) });
    }
    Ok(stats)
}
