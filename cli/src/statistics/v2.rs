//! From the one directory of cgroup v2, in the units and under the names of v1, as runc does.

use runtime_core::cgroup::stats::v2::{CpuStat, IoEntry, IoStat, MemoryStat, Metrics, PsiData, PsiStats};

use super::{
    BlockIo, BlockIoEntry, Cpu, CpuUsage, HugePages, Memory, MemoryEntry, Pressure, PressureLine, Statistics,
    Throttling,
};

/// In runc's terms.
pub(super) fn statistics(metrics: &Metrics) -> Statistics {
    let page = |one: &runtime_core::cgroup::stats::v2::HugeTlbStat| {
        (one.pagesize.clone(), HugePages { usage: one.current, max: one.max, failcnt: one.failcnt })
    };
    Statistics {
        cpu: metrics.cpu.as_ref().map(cpu).unwrap_or_default(),
        memory: metrics.memory.as_ref().map(memory).unwrap_or_default(),
        pids: metrics.pids.into(),
        blkio: metrics.io.as_ref().map(block_io).unwrap_or_default(),
        hugetlb: metrics.hugetlb.iter().map(page).collect(),
        ..Statistics::default()
    }
}

/// The kernel counts microseconds.
fn nanoseconds(microseconds: u64) -> u64 {
    microseconds.saturating_mul(1000)
}

fn cpu(stat: &CpuStat) -> Cpu {
    Cpu {
        usage: CpuUsage {
            total: nanoseconds(stat.usage_usec),
            kernel: nanoseconds(stat.system_usec),
            user: nanoseconds(stat.user_usec),
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: stat.nr_periods,
            throttled_periods: stat.nr_throttled,
            throttled_time: nanoseconds(stat.throttled_usec),
        },
        psi: stat.psi.as_ref().map(pressure),
    }
}

fn memory(stat: &MemoryStat) -> Memory {
    let entry = |usage, limit, max| MemoryEntry { limit, usage, max, failcnt: 0 };
    // With v1, swap means memory and swap together.
    let both = stat.swap_limit.saturating_add(if stat.swap_limit == u64::MAX { 0 } else { stat.usage_limit });
    Memory {
        cache: stat.file,
        usage: entry(stat.usage, stat.usage_limit, stat.max_usage),
        swap: entry(stat.swap_usage.saturating_add(stat.usage), both, 0),
        psi: stat.psi.as_ref().map(pressure),
        ..Memory::default()
    }
}

fn block_io(stat: &IoStat) -> BlockIo {
    let entries = |numbers: fn(&IoEntry) -> [u64; 2]| {
        let all = stat.usage.iter().flat_map(move |one| {
            let entry = |(op, value): (&str, u64)| BlockIoEntry {
                major: one.major,
                minor: one.minor,
                op: op.to_owned(),
                value,
            };
            ["Read", "Write"].into_iter().zip(numbers(one)).map(entry).collect::<Vec<_>>()
        });
        all.collect()
    };
    BlockIo {
        io_service_bytes_recursive: entries(|one| [one.rbytes, one.wbytes]),
        io_serviced_recursive: entries(|one| [one.rios, one.wios]),
        psi: stat.psi.as_ref().map(pressure),
        ..BlockIo::default()
    }
}

fn pressure(stats: &PsiStats) -> Pressure {
    let line = |one: PsiData| PressureLine { avg10: one.avg10, avg60: one.avg60, avg300: one.avg300, total: one.total };
    Pressure { some: line(stats.some), full: line(stats.full) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_core::cgroup::stats::PidsStat;

    #[test]
    fn numbers_come_in_the_units_of_version_1() {
        let metrics = Metrics {
            cpu: Some(CpuStat { usage_usec: 5, user_usec: 3, system_usec: 2, ..CpuStat::default() }),
            pids: Some(PidsStat { current: 1, limit: u64::MAX }),
            io: Some(IoStat {
                usage: vec![IoEntry { major: 8, minor: 0, rbytes: 512, wbytes: 0, rios: 1, wios: 0 }],
                psi: None,
            }),
            ..Metrics::default()
        };
        let value = serde_json::to_value(statistics(&metrics)).unwrap();
        assert_eq!(value["cpu"]["usage"], serde_json::json!({"total": 5000, "kernel": 2000, "user": 3000}));
        assert_eq!(value["pids"], serde_json::json!({"current": 1}));
        let expected = serde_json::json!([{"major": 8, "op": "Read", "value": 512}, {"major": 8, "op": "Write"}]);
        assert_eq!(value["blkio"]["ioServiceBytesRecursive"], expected);
    }
}
