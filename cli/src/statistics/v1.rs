//! From the hierarchies of cgroup v1.

use runtime_core::cgroup::stats::v1::{BlkIoEntry, BlkIoStat, CpuStat, MemoryEntry as Entry, MemoryStat, Metrics};

use super::{BlockIo, BlockIoEntry, Cpu, CpuUsage, HugePages, Memory, MemoryEntry, Statistics, Throttling};

/// In runc's terms.
pub(super) fn statistics(metrics: &Metrics) -> Statistics {
    let page = |one: &runtime_core::cgroup::stats::v1::HugetlbStat| {
        (one.pagesize.clone(), HugePages { usage: one.usage, max: one.max, failcnt: one.failcnt })
    };
    Statistics {
        cpu: metrics.cpu.as_ref().map(cpu).unwrap_or_default(),
        memory: metrics.memory.as_ref().map(memory).unwrap_or_default(),
        pids: metrics.pids.into(),
        blkio: metrics.blkio.as_ref().map(block_io).unwrap_or_default(),
        hugetlb: metrics.hugetlb.iter().map(page).collect(),
        ..Statistics::default()
    }
}

fn cpu(stat: &CpuStat) -> Cpu {
    let usage = stat.usage.clone().unwrap_or_default();
    let throttling = stat.throttling.unwrap_or_default();
    Cpu {
        usage: CpuUsage { total: usage.total, percpu: usage.per_cpu, kernel: usage.kernel, user: usage.user },
        throttling: Throttling {
            periods: throttling.periods,
            throttled_periods: throttling.throttled_periods,
            throttled_time: throttling.throttled_time,
        },
        psi: None,
    }
}

fn memory(stat: &MemoryStat) -> Memory {
    Memory {
        cache: stat.cache,
        usage: entry(stat.usage),
        swap: entry(stat.swap),
        kernel: entry(stat.kernel),
        kernel_tcp: entry(stat.kernel_tcp),
        raw: raw(stat).into(),
        psi: None,
    }
}

fn entry(entry: Option<Entry>) -> MemoryEntry {
    let entry = entry.unwrap_or_default();
    MemoryEntry { limit: entry.limit, usage: entry.usage, max: entry.max, failcnt: entry.failcnt }
}

/// The kernel's own names, as in `memory.stat`.
fn raw(stat: &MemoryStat) -> [(&'static str, u64); 32] {
    [
        ("cache", stat.cache),
        ("rss", stat.rss),
        ("rss_huge", stat.rss_huge),
        ("mapped_file", stat.mapped_file),
        ("dirty", stat.dirty),
        ("writeback", stat.writeback),
        ("pgpgin", stat.pg_pg_in),
        ("pgpgout", stat.pg_pg_out),
        ("pgfault", stat.pg_fault),
        ("pgmajfault", stat.pg_maj_fault),
        ("inactive_anon", stat.inactive_anon),
        ("active_anon", stat.active_anon),
        ("inactive_file", stat.inactive_file),
        ("active_file", stat.active_file),
        ("unevictable", stat.unevictable),
        ("hierarchical_memory_limit", stat.hierarchical_memory_limit),
        ("total_cache", stat.total_cache),
        ("total_rss", stat.total_rss),
        ("total_rss_huge", stat.total_rss_huge),
        ("total_mapped_file", stat.total_mapped_file),
        ("total_dirty", stat.total_dirty),
        ("total_writeback", stat.total_writeback),
        ("total_pgpgin", stat.total_pg_pg_in),
        ("total_pgpgout", stat.total_pg_pg_out),
        ("total_pgfault", stat.total_pg_fault),
        ("total_pgmajfault", stat.total_pg_maj_fault),
        ("total_inactive_anon", stat.total_inactive_anon),
        ("total_active_anon", stat.total_active_anon),
        ("total_inactive_file", stat.total_inactive_file),
        ("total_active_file", stat.total_active_file),
        ("total_unevictable", stat.total_unevictable),
        ("hierarchical_memsw_limit", stat.hierarchical_swap_limit),
    ]
}

fn block_io(stat: &BlkIoStat) -> BlockIo {
    let entry =
        |one: &BlkIoEntry| BlockIoEntry { major: one.major, minor: one.minor, op: one.op.clone(), value: one.value };
    let entries = |all: &[BlkIoEntry]| all.iter().map(entry).collect();
    BlockIo {
        io_service_bytes_recursive: entries(&stat.io_service_bytes_recursive),
        io_serviced_recursive: entries(&stat.io_serviced_recursive),
        io_queue_recursive: entries(&stat.io_queued_recursive),
        io_service_time_recursive: entries(&stat.io_service_time_recursive),
        io_wait_time_recursive: entries(&stat.io_wait_time_recursive),
        io_merged_recursive: entries(&stat.io_merged_recursive),
        io_time_recursive: entries(&stat.io_time_recursive),
        sectors_recursive: entries(&stat.sectors_recursive),
        psi: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::cgroup::stats::PidsStat;

    #[test]
    fn the_keys_are_runcs() {
        let metrics = Metrics {
            pids: Some(PidsStat { current: 2, limit: 0 }),
            blkio: Some(BlkIoStat {
                io_serviced_recursive: vec![BlkIoEntry {
                    op: "Read".into(),
                    device: "/dev/vda".into(),
                    major: 254,
                    minor: 0,
                    value: 3,
                }],
                ..BlkIoStat::default()
            }),
            ..Metrics::default()
        };
        let zero = r#"{"limit":0,"failcnt":0}"#;
        let expected = format!(
            "{{\"cpu\":{{\"usage\":{{\"kernel\":0,\"user\":0}},\"throttling\":{{}}}},\
             \"memory\":{{\"usage\":{zero},\"swap\":{zero},\"kernel\":{zero},\"kernelTCP\":{zero}}},\
             \"pids\":{{\"current\":2}},\
             \"blkio\":{{\"ioServicedRecursive\":[{{\"major\":254,\"op\":\"Read\",\"value\":3}}]}},\
             \"hugetlb\":{{}},\"intel_rdt\":{{}},\"network_interfaces\":null}}"
        );
        assert_eq!(serde_json::to_string(&statistics(&metrics)).unwrap(), expected);
    }
}
