//! `io.containerd.cgroups.v1.Metrics`, from the files of up to seven hierarchies.

use super::directory::{Directory, Table};
use super::{PidsStat, RdmaStat, page_sizes, rdma};
use crate::Error;

/// Everything; a controller that is not mounted is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Metrics {
    pub hugetlb: Vec<HugetlbStat>,
    pub pids: Option<PidsStat>,
    pub cpu: Option<CpuStat>,
    pub memory: Option<MemoryStat>,
    pub blkio: Option<BlkIoStat>,
    pub rdma: Option<RdmaStat>,
    pub memory_oom_control: Option<MemoryOomControl>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct HugetlbStat {
    pub usage: u64,
    pub max: u64,
    pub failcnt: u64,
    pub pagesize: String,
}

/// Use (`cpuacct`) and throttling (`cpu`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CpuStat {
    pub usage: Option<CpuUsage>,
    pub throttling: Option<Throttle>,
}

/// Nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CpuUsage {
    pub total: u64,
    pub kernel: u64,
    pub user: u64,
    pub per_cpu: Vec<u64>,
}

/// `cpu.stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Throttle {
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time: u64,
}

/// `memory.stat`, and the four families of single numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MemoryStat {
    pub cache: u64,
    pub rss: u64,
    pub rss_huge: u64,
    pub mapped_file: u64,
    pub dirty: u64,
    pub writeback: u64,
    pub pg_pg_in: u64,
    pub pg_pg_out: u64,
    pub pg_fault: u64,
    pub pg_maj_fault: u64,
    pub inactive_anon: u64,
    pub active_anon: u64,
    pub inactive_file: u64,
    pub active_file: u64,
    pub unevictable: u64,
    pub hierarchical_memory_limit: u64,
    pub hierarchical_swap_limit: u64,
    pub total_cache: u64,
    pub total_rss: u64,
    pub total_rss_huge: u64,
    pub total_mapped_file: u64,
    pub total_dirty: u64,
    pub total_writeback: u64,
    pub total_pg_pg_in: u64,
    pub total_pg_pg_out: u64,
    pub total_pg_fault: u64,
    pub total_pg_maj_fault: u64,
    pub total_inactive_anon: u64,
    pub total_active_anon: u64,
    pub total_inactive_file: u64,
    pub total_active_file: u64,
    pub total_unevictable: u64,
    pub usage: Option<MemoryEntry>,
    pub swap: Option<MemoryEntry>,
    pub kernel: Option<MemoryEntry>,
    pub kernel_tcp: Option<MemoryEntry>,
}

/// One family of memory numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MemoryEntry {
    pub limit: u64,
    pub usage: u64,
    pub max: u64,
    pub failcnt: u64,
}

/// `memory.oom_control`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MemoryOomControl {
    pub oom_kill_disable: u64,
    pub under_oom: u64,
    pub oom_kill: u64,
}

/// The tables of `blkio`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BlkIoStat {
    pub io_service_bytes_recursive: Vec<BlkIoEntry>,
    pub io_serviced_recursive: Vec<BlkIoEntry>,
    pub io_queued_recursive: Vec<BlkIoEntry>,
    pub io_service_time_recursive: Vec<BlkIoEntry>,
    pub io_wait_time_recursive: Vec<BlkIoEntry>,
    pub io_merged_recursive: Vec<BlkIoEntry>,
    pub io_time_recursive: Vec<BlkIoEntry>,
    pub sectors_recursive: Vec<BlkIoEntry>,
}

/// One line of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BlkIoEntry {
    pub op: String,
    pub device: String,
    pub major: u64,
    pub minor: u64,
    pub value: u64,
}

/// Reads everything that is there; `open` finds the directory of a controller.
pub(super) fn read(open: impl Fn(&str) -> Result<Option<Directory>, Error>) -> Result<Metrics, Error> {
    let (cpu, cpuacct, memory) = (open("cpu")?, open("cpuacct")?, open("memory")?);
    let throttling = cpu.as_ref().map_or(Ok(None), throttling)?;
    let usage = cpuacct.as_ref().map_or(Ok(None), usage)?;
    Ok(Metrics {
        hugetlb: open("hugetlb")?.as_ref().map_or(Ok(Vec::new()), hugetlb)?,
        pids: open("pids")?.as_ref().map_or(Ok(None), pids)?,
        cpu: (usage.is_some() || throttling.is_some()).then_some(CpuStat { usage, throttling }),
        memory: memory.as_ref().map_or(Ok(None), self::memory)?,
        blkio: open("blkio")?.as_ref().map(blkio).transpose()?,
        rdma: open("rdma")?.as_ref().map_or(Ok(None), rdma)?,
        memory_oom_control: memory.as_ref().map_or(Ok(None), oom_control)?,
    })
}

fn hugetlb(directory: &Directory) -> Result<Vec<HugetlbStat>, Error> {
    let mut stats = Vec::new();
    for pagesize in page_sizes() {
        let Some(usage) = directory.number(&format!("hugetlb.{pagesize}.usage_in_bytes"))? else { break };
        let max = directory.number(&format!("hugetlb.{pagesize}.max_usage_in_bytes"))?.unwrap_or(0);
        let failcnt = directory.number(&format!("hugetlb.{pagesize}.failcnt"))?.unwrap_or(0);
        stats.push(HugetlbStat { usage, max, failcnt, pagesize });
    }
    Ok(stats)
}

fn pids(directory: &Directory) -> Result<Option<PidsStat>, Error> {
    let Some(current) = directory.number("pids.current")? else { return Ok(None) };
    let limit = directory.number("pids.max")?.filter(|limit| *limit != u64::MAX);
    Ok(Some(PidsStat { current, limit: limit.unwrap_or(0) }))
}

fn throttling(directory: &Directory) -> Result<Option<Throttle>, Error> {
    let table = directory.table("cpu.stat")?;
    Ok(table.map(|table| Throttle {
        periods: table.get("nr_periods"),
        throttled_periods: table.get("nr_throttled"),
        throttled_time: table.get("throttled_time"),
    }))
}

fn usage(directory: &Directory) -> Result<Option<CpuUsage>, Error> {
    // cpuacct.stat counts in USER_HZ, which is 100 on every architecture we run on.
    const TICK: u64 = 10_000_000;
    let Some(total) = directory.number("cpuacct.usage")? else { return Ok(None) };
    let stat = directory.table("cpuacct.stat")?.unwrap_or_default();
    let text = directory.text("cpuacct.usage_percpu")?.unwrap_or_default();
    let per_cpu = text.split_whitespace().map(str::parse).collect::<Result<_, _>>();
    Ok(Some(CpuUsage {
        total,
        kernel: stat.get("system").saturating_mul(TICK),
        user: stat.get("user").saturating_mul(TICK),
        per_cpu: per_cpu.map_err(|_| directory.garbled("cpuacct.usage_percpu", &text))?,
    }))
}

fn oom_control(directory: &Directory) -> Result<Option<MemoryOomControl>, Error> {
    let table = directory.table("memory.oom_control")?;
    Ok(table.map(|table| MemoryOomControl {
        oom_kill_disable: table.get("oom_kill_disable"),
        under_oom: table.get("under_oom"),
        oom_kill: table.get("oom_kill"),
    }))
}

fn memory(directory: &Directory) -> Result<Option<MemoryStat>, Error> {
    let Some(table) = directory.table("memory.stat")? else { return Ok(None) };
    Ok(Some(MemoryStat {
        usage: family(directory, "memory")?,
        swap: family(directory, "memory.memsw")?,
        kernel: family(directory, "memory.kmem")?,
        kernel_tcp: family(directory, "memory.kmem.tcp")?,
        ..memory_table(&table)
    }))
}

fn family(directory: &Directory, name: &str) -> Result<Option<MemoryEntry>, Error> {
    let Some(usage) = directory.number(&format!("{name}.usage_in_bytes"))? else { return Ok(None) };
    let number = |what: &str| Ok::<_, Error>(directory.number(&format!("{name}.{what}"))?.unwrap_or(0));
    Ok(Some(MemoryEntry {
        limit: number("limit_in_bytes")?,
        usage,
        max: number("max_usage_in_bytes")?,
        failcnt: number("failcnt")?,
    }))
}

fn memory_table(table: &Table) -> MemoryStat {
    MemoryStat {
        cache: table.get("cache"),
        rss: table.get("rss"),
        rss_huge: table.get("rss_huge"),
        mapped_file: table.get("mapped_file"),
        dirty: table.get("dirty"),
        writeback: table.get("writeback"),
        pg_pg_in: table.get("pgpgin"),
        pg_pg_out: table.get("pgpgout"),
        pg_fault: table.get("pgfault"),
        pg_maj_fault: table.get("pgmajfault"),
        inactive_anon: table.get("inactive_anon"),
        active_anon: table.get("active_anon"),
        inactive_file: table.get("inactive_file"),
        active_file: table.get("active_file"),
        unevictable: table.get("unevictable"),
        hierarchical_memory_limit: table.get("hierarchical_memory_limit"),
        hierarchical_swap_limit: table.get("hierarchical_memsw_limit"),
        total_cache: table.get("total_cache"),
        total_rss: table.get("total_rss"),
        total_rss_huge: table.get("total_rss_huge"),
        total_mapped_file: table.get("total_mapped_file"),
        total_dirty: table.get("total_dirty"),
        total_writeback: table.get("total_writeback"),
        total_pg_pg_in: table.get("total_pgpgin"),
        total_pg_pg_out: table.get("total_pgpgout"),
        total_pg_fault: table.get("total_pgfault"),
        total_pg_maj_fault: table.get("total_pgmajfault"),
        total_inactive_anon: table.get("total_inactive_anon"),
        total_active_anon: table.get("total_active_anon"),
        total_inactive_file: table.get("total_inactive_file"),
        total_active_file: table.get("total_active_file"),
        total_unevictable: table.get("total_unevictable"),
        ..MemoryStat::default()
    }
}

/// Which scheduler counts is for the host to say: the first of a table's homes that has lines is taken. The throttling
/// layer counts bytes and requests whatever the scheduler.
fn blkio(directory: &Directory) -> Result<BlkIoStat, Error> {
    let scheduled = |name: &str| blkio_table(directory, &[&format!("blkio.{name}"), &format!("blkio.bfq.{name}")]);
    let counted = |name: &str| {
        blkio_table(
            directory,
            &[&format!("blkio.{name}"), &format!("blkio.bfq.{name}"), &format!("blkio.throttle.{name}")],
        )
    };
    let mut stat = BlkIoStat {
        io_service_bytes_recursive: counted("io_service_bytes_recursive")?,
        io_serviced_recursive: counted("io_serviced_recursive")?,
        io_queued_recursive: scheduled("io_queued_recursive")?,
        io_service_time_recursive: scheduled("io_service_time_recursive")?,
        io_wait_time_recursive: scheduled("io_wait_time_recursive")?,
        io_merged_recursive: scheduled("io_merged_recursive")?,
        io_time_recursive: scheduled("time_recursive")?,
        sectors_recursive: scheduled("sectors_recursive")?,
    };
    name_devices(&mut stat);
    Ok(stat)
}

fn blkio_table(directory: &Directory, files: &[&str]) -> Result<Vec<BlkIoEntry>, Error> {
    for file in files {
        let Some(text) = directory.text(file)? else { continue };
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("Total "));
        let entries = lines.map(|line| blkio_entry(line).ok_or_else(|| directory.garbled(file, line)));
        let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        if !entries.is_empty() {
            return Ok(entries);
        }
    }
    Ok(Vec::new())
}

/// `8:0 Read 4096`, or `8:0 12` in tables that do not tell operations apart.
fn blkio_entry(line: &str) -> Option<BlkIoEntry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, op, value) = match words.as_slice() {
        [name, op, value] => (name, *op, value),
        [name, value] => (name, "", value),
        _ => return None,
    };
    let (major, minor) = name.split_once(':')?;
    Some(BlkIoEntry {
        op: op.to_owned(),
        device: String::new(),
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        value: value.parse().ok()?,
    })
}

/// Fills in `/dev/sda` and the like. Only people read them, so a device that has gone meanwhile stays without a name.
fn name_devices(stat: &mut BlkIoStat) {
    let tables = [
        &mut stat.io_service_bytes_recursive,
        &mut stat.io_serviced_recursive,
        &mut stat.io_queued_recursive,
        &mut stat.io_service_time_recursive,
        &mut stat.io_wait_time_recursive,
        &mut stat.io_merged_recursive,
        &mut stat.io_time_recursive,
        &mut stat.sectors_recursive,
    ];
    let mut partitions = None;
    for entry in tables.into_iter().flatten() {
        let partitions =
            partitions.get_or_insert_with(|| std::fs::read_to_string("/proc/partitions").unwrap_or_default());
        let (major, minor) = (entry.major.to_string(), entry.minor.to_string());
        let name = partitions.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == major && words.next()? == minor).then(|| words.nth(1)).flatten()
        });
        entry.device = name.map(|name| format!("/dev/{name}")).unwrap_or_default();
    }
}
