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
        usage: CpuUsage {
            total: usage.total,
            percpu: usage.per_cpu,
            kernel: usage.kernel,
            user: usage.user,
            ..CpuUsage::default()
        },
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
        ..Memory::default()
    }
}

fn entry(entry: Option<Entry>) -> MemoryEntry {
    let entry = entry.unwrap_or_default();
    MemoryEntry { limit: entry.limit, usage: entry.usage, max: entry.max, failcnt: entry.failcnt }
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
             \"cpuset\":{{\"cpu_exclusive\":0,\"mem_hardwall\":0,\"mem_exclusive\":0,\"memory_migrate\":0,\
             \"memory_spread_page\":0,\"memory_spread_slab\":0,\"memory_pressure\":0,\"sched_load_balance\":0,\
             \"sched_relax_domain_level\":0}},\
             \"memory\":{{\"usage\":{zero},\"swap\":{zero},\"kernel\":{zero},\"kernelTCP\":{zero}}},\
             \"pids\":{{\"current\":2}},\
             \"blkio\":{{\"ioServicedRecursive\":[{{\"major\":254,\"op\":\"Read\",\"value\":3}}]}},\
             \"hugetlb\":{{}},\"intel_rdt\":{{}},\"network_interfaces\":null}}"
        );
        assert_eq!(serde_json::to_string(&statistics(&metrics)).unwrap(), expected);
    }
}
