//! What a container has used, as containerd's metrics messages. The core's structs have the messages' names and fields, so
//! this is a table of them: what is copied, cloned, a message in a message, or a list of such.

use protos::protobuf::MessageField;
use protos::protobuf::well_known_types::any::Any;
use runtime_core::cgroup::Stats;

use crate::encode as payload;

/// The message that fits the host's cgroup version.
#[must_use]
pub(crate) fn encode(stats: &Stats) -> Any {
    match stats {
        Stats::V1(metrics) => payload::any("io.containerd.cgroups.v1.Metrics", &legacy::wire(&**metrics)),
        Stats::V2(metrics) => payload::any("io.containerd.cgroups.v2.Metrics", &unified::wire(&**metrics)),
    }
}

/// Something of the core that has a message of its own, in the package where this is expanded.
macro_rules! messages {
    ($($core:path => $message:ident {
        $(copied: $($copied:ident),+;)?
        $(cloned: $($cloned:ident),+;)?
        $(nested: $($nested:ident),+;)?
        $(listed: $($listed:ident),+;)?
    })*) => {
        use super::MessageField;

        /// Has a message.
        pub(super) trait Wire {
            type Message;
            fn wire(&self) -> MessageField<Self::Message>;
        }

        /// The message of `one`.
        pub(super) fn wire<T: Wire>(one: &T) -> T::Message
        where
            T::Message: Default,
        {
            one.wire().0.map(|message| *message).unwrap_or_default()
        }

        impl<T: Wire> Wire for Option<T> {
            type Message = T::Message;
            fn wire(&self) -> MessageField<T::Message> {
                self.as_ref().map(Wire::wire).unwrap_or_default()
            }
        }

        $(impl Wire for $core {
            type Message = message::$message;
            fn wire(&self) -> MessageField<message::$message> {
                MessageField::some(message::$message {
                    $($($copied: self.$copied,)+)?
                    $($($cloned: self.$cloned.clone(),)+)?
                    $($($nested: self.$nested.wire(),)+)?
                    $($($listed: self.$listed.iter().map(wire).collect(),)+)?
                    ..Default::default()
                })
            }
        })*
    };
}

/// `io.containerd.cgroups.v1`.
mod legacy {
    use protos::cgroup1 as message;
    use runtime_core::cgroup::stats::{self as core, v1};

    messages! {
        v1::Metrics => Metrics {
            nested: pids, cpu, memory, blkio, rdma, memory_oom_control;
            listed: hugetlb;
        }
        v1::HugetlbStat => HugetlbStat {
            copied: usage, max, failcnt;
            cloned: pagesize;
        }
        v1::CpuStat => CPUStat {
            nested: usage, throttling;
        }
        v1::CpuUsage => CPUUsage {
            copied: total, kernel, user;
            cloned: per_cpu;
        }
        v1::Throttle => Throttle {
            copied: periods, throttled_periods, throttled_time;
        }
        v1::MemoryStat => MemoryStat {
            copied: cache, rss, rss_huge, mapped_file, dirty, writeback, pg_pg_in, pg_pg_out, pg_fault, pg_maj_fault, inactive_anon, active_anon, inactive_file, active_file, unevictable, hierarchical_memory_limit, hierarchical_swap_limit, total_cache, total_rss, total_rss_huge, total_mapped_file, total_dirty, total_writeback, total_pg_pg_in, total_pg_pg_out, total_pg_fault, total_pg_maj_fault, total_inactive_anon, total_active_anon, total_inactive_file, total_active_file, total_unevictable;
            nested: usage, swap, kernel, kernel_tcp;
        }
        v1::MemoryEntry => MemoryEntry {
            copied: limit, usage, max, failcnt;
        }
        v1::MemoryOomControl => MemoryOomControl {
            copied: oom_kill_disable, under_oom, oom_kill;
        }
        v1::BlkIoStat => BlkIOStat {
            listed: io_service_bytes_recursive, io_serviced_recursive, io_queued_recursive, io_service_time_recursive, io_wait_time_recursive, io_merged_recursive, io_time_recursive, sectors_recursive;
        }
        v1::BlkIoEntry => BlkIOEntry {
            copied: major, minor, value;
            cloned: op, device;
        }
        core::PidsStat => PidsStat {
            copied: current, limit;
        }
        core::RdmaStat => RdmaStat {
            listed: current, limit;
        }
        core::RdmaEntry => RdmaEntry {
            copied: hca_handles, hca_objects;
            cloned: device;
        }
    }
}

/// `io.containerd.cgroups.v2`.
mod unified {
    use protos::cgroup2 as message;
    use runtime_core::cgroup::stats::{self as core, v2};

    messages! {
        v2::Metrics => Metrics {
            nested: pids, cpu, memory, rdma, io, memory_events;
            listed: hugetlb;
        }
        v2::CpuStat => CPUStat {
            copied: usage_usec, user_usec, system_usec, nr_periods, nr_throttled, throttled_usec, nr_bursts, burst_usec;
            nested: psi;
        }
        v2::MemoryStat => MemoryStat {
            copied: anon, file, kernel_stack, slab, sock, shmem, file_mapped, file_dirty, file_writeback, anon_thp, inactive_anon, active_anon, inactive_file, active_file, unevictable, slab_reclaimable, slab_unreclaimable, pgfault, pgmajfault, workingset_refault, workingset_activate, workingset_nodereclaim, pgrefill, pgscan, pgsteal, pgactivate, pgdeactivate, pglazyfree, pglazyfreed, thp_fault_alloc, thp_collapse_alloc, usage, usage_limit, swap_usage, swap_limit, max_usage, swap_max_usage;
            nested: psi;
        }
        v2::MemoryEvents => MemoryEvents {
            copied: low, high, max, oom, oom_kill, oom_group_kill;
        }
        v2::PsiStats => PSIStats {
            nested: some, full;
        }
        v2::PsiData => PSIData {
            copied: avg10, avg60, avg300, total;
        }
        v2::IoStat => IOStat {
            nested: psi;
            listed: usage;
        }
        v2::IoEntry => IOEntry {
            copied: major, minor, rbytes, wbytes, rios, wios;
        }
        v2::HugeTlbStat => HugeTlbStat {
            copied: current, max, failcnt;
            cloned: pagesize;
        }
        core::PidsStat => PidsStat {
            copied: current, limit;
        }
        core::RdmaStat => RdmaStat {
            listed: current, limit;
        }
        core::RdmaEntry => RdmaEntry {
            copied: hca_handles, hca_objects;
            cloned: device;
        }
    }
}
