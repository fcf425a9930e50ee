//! Cgroup v2 where this host has none of its controllers: an ordinary folder plays the hierarchy, with control files as a
//! kernel with all controllers shows them. What needs a kernel behind it is in `cgroup.rs`.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use runtime_core::cgroup::{Cgroup, Stats, stats};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tare_plan::{CgroupLayout, Host, resources};

/// A folder that plays a cgroup2 mount, gone with the test.
struct Stage(PathBuf);

impl Stage {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tare-cgroup2-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn layout(&self) -> CgroupLayout {
        let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc", "perf_event"];
        CgroupLayout::Unified { mountpoint: self.0.clone(), controllers: controllers.map(str::to_owned).to_vec() }
    }

    fn cgroup(&self) -> Cgroup {
        Cgroup::plan(&self.layout(), Path::new("/pod/c")).unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap()
    }

    fn limits(&self, json: &str) -> resources::Resources {
        let host = Host {
            cgroups: self.layout(),
            last_capability: 40,
            euid: 0,
            egid: 0,
            setgroups_denied: false,
            apparmor: false,
            selinux: false,
            in_user_namespace: false,
        };
        resources::update(&serde_json::from_str(json).unwrap(), &host).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn controllers_that_are_missing_are_enabled_from_the_top_down() {
    let stage = Stage::new("enable");
    stage.write("cgroup.subtree_control", "cpu pids\n");
    stage.write("pod/cgroup.subtree_control", "");
    stage.cgroup().create().unwrap();
    // A real control file would not keep the text; an ordinary one is written over from its beginning.
    assert_eq!(stage.read("cgroup.subtree_control"), "+cpuset +io +memory +hugetlb +rdma +misc");
    assert_eq!(stage.read("pod/cgroup.subtree_control"), "+cpuset +cpu +io +memory +hugetlb +pids +rdma +misc");
    assert!(stage.0.join("pod/c").is_dir());
}

#[test]
fn a_weight_goes_where_there_is_a_file_for_it() {
    let stage = Stage::new("absent");
    stage.write("pod/c/io.weight", "");
    let cgroup = stage.cgroup();
    cgroup.apply(&stage.limits(r#"{"blockIO": {"weight": 1000}}"#)).unwrap();
    assert_eq!(stage.read("pod/c/io.weight"), "10000");
    stage.write("pod/c/io.bfq.weight", "");
    cgroup.apply(&stage.limits(r#"{"blockIO": {"weight": 900}}"#)).unwrap();
    assert_eq!(stage.read("pod/c/io.bfq.weight"), "900");
    stage.write("pod/c/hugetlb.2MB.max", "");
    cgroup.apply(&stage.limits(r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}]}"#)).unwrap();
    assert_eq!(stage.read("pod/c/hugetlb.2MB.max"), "2097152");
    let error = cgroup.apply(&stage.limits(r#"{"cpu": {"shares": 1024}}"#)).unwrap_err().to_string();
    let (weight, control) = (stage.0.join("pod/c/cpu.weight"), stage.0.join("pod/cgroup.subtree_control"));
    let expected = format!(
        "linux.resources.cpu.shares: not enabled in {}: write 100 to {}: no such file or directory",
        control.display(),
        weight.display()
    );
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn an_update_of_one_half_reads_the_other() {
    let stage = Stage::new("halves");
    stage.write("pod/c/memory.max", "4096\n");
    stage.write("pod/c/memory.swap.max", "");
    stage.write("pod/c/cpu.max", "50000 100000\n");
    let cgroup = stage.cgroup();
    cgroup.apply(&stage.limits(r#"{"memory": {"swap": 12288}}"#)).unwrap();
    assert_eq!(stage.read("pod/c/memory.swap.max"), "8192");
    cgroup.apply(&stage.limits(r#"{"cpu": {"period": 20000}}"#)).unwrap();
    assert!(stage.read("pod/c/cpu.max").starts_with("50000 20000"));
    let error = cgroup.apply(&stage.limits(r#"{"memory": {"swap": 4095}}"#)).unwrap_err().to_string();
    assert!(error.starts_with("linux.resources.memory.swap: 4095 is below "), "{error}");
    stage.write("pod/c/memory.max", "max\n");
    let error = cgroup.apply(&stage.limits(r#"{"memory": {"swap": 12288}}"#)).unwrap_err().to_string();
    assert!(error.contains("which has no limit"), "{error}");
}

#[test]
fn a_limit_below_what_is_used_is_refused_when_asked() {
    let stage = Stage::new("floor");
    stage.write("pod/c/memory.max", "");
    stage.write("pod/c/memory.current", "8192\n");
    let cgroup = stage.cgroup();
    let error = cgroup.apply(&stage.limits(r#"{"memory": {"limit": 4096, "checkBeforeUpdate": true}}"#)).unwrap_err();
    let expected = "linux.resources.memory.limit: rejecting memory limit 4096 <= usage 8192";
    assert_eq!(error.to_string(), expected);
    stage.write("pod/c/memory.swap.max", "");
    let both = r#"{"memory": {"limit": 4096, "swap": 8192, "checkBeforeUpdate": true}}"#;
    let error = cgroup.apply(&stage.limits(both)).unwrap_err();
    assert!(error.to_string().contains("rejecting memory+swap limit 8192 <= usage 8192"), "{error}");
    assert_eq!(stage.read("pod/c/memory.max"), "");
    cgroup.apply(&stage.limits(r#"{"memory": {"limit": 16384, "checkBeforeUpdate": true}}"#)).unwrap();
    assert_eq!(stage.read("pod/c/memory.max"), "16384");
}

#[test]
fn kills_for_lack_of_memory_are_counted_from_the_watch_on() {
    let stage = Stage::new("oom");
    stage.write("pod/c/memory.events", "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n");
    stage.write("pod/c/cgroup.events", "populated 1\nfrozen 0\n");
    let mut watch = stage.cgroup().oom_watch().unwrap();
    let readable = |watch: &runtime_core::cgroup::OomWatch| {
        poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    };
    assert!(!readable(&watch));
    stage.write("pod/c/memory.events", "low 0\nhigh 0\nmax 4\noom 2\noom_kill 2\noom_group_kill 0\n");
    assert!(readable(&watch));
    assert_eq!(watch.take().unwrap(), 0, "the limit was touched, nobody died");
    stage.write("pod/c/memory.events", "low 0\nhigh 0\nmax 9\noom 5\noom_kill 5\noom_group_kill 1\n");
    assert_eq!(watch.take().unwrap(), 3);
    assert!(!readable(&watch));
    stage.write("pod/c/cgroup.events", "populated 0\nfrozen 0\n");
    assert!(readable(&watch), "the end is seen");
    assert_eq!(watch.take().unwrap(), 0);
}

const PRESSURE: &str =
    "some avg10=1.25 avg60=0.50 avg300=0.10 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.01 total=45\n";

/// The files of a container under every controller.
fn busy(stage: &Stage) {
    stage.write("pod/c/pids.current", "3\n");
    stage.write("pod/c/pids.max", "max\n");
    let cpu =
        "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnice_usec 0\nnr_periods 7\nnr_throttled 6\nthrottled_usec 5\n";
    stage.write("pod/c/cpu.stat", &format!("{cpu}nr_bursts 4\nburst_usec 3\n"));
    stage.write("pod/c/cpu.pressure", PRESSURE);
    let memory = "anon 1\nfile 2\nkernel 99\nkernel_stack 3\nslab 4\nsock 5\nworkingset_refault_anon 6\nworkingset_refault_file 7\n";
    stage.write("pod/c/memory.stat", memory);
    for (file, text) in [("current", "100"), ("max", "max"), ("swap.current", "8"), ("swap.max", "0"), ("peak", "200")]
    {
        stage.write(&format!("pod/c/memory.{file}"), &format!("{text}\n"));
    }
    stage.write("pod/c/memory.events", "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n");
    stage.write("pod/c/io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:1 \n");
    stage.write("pod/c/rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\n");
    stage.write("pod/c/rdma.max", "mlx4_0 hca_handle=max hca_object=3000\n");
}

#[test]
fn stats_have_every_number_that_the_files_have() {
    let stage = Stage::new("stats");
    busy(&stage);
    let Stats::V2(metrics) = stage.cgroup().stats().unwrap() else { panic!("not version 2") };
    let psi = stats::v2::PsiStats {
        some: stats::v2::PsiData { avg10: 1.25, avg60: 0.5, avg300: 0.1, total: 123 },
        full: stats::v2::PsiData { avg10: 0.0, avg60: 0.0, avg300: 0.01, total: 45 },
    };
    let entry = |hca_handles, hca_objects| stats::RdmaEntry { device: "mlx4_0".to_owned(), hca_handles, hca_objects };
    let disk = stats::v2::IoEntry { major: 8, minor: 0, rbytes: 1, wbytes: 2, rios: 3, wios: 4 };
    let idle = stats::v2::IoEntry { major: 253, minor: 1, ..Default::default() };
    let expected = stats::v2::Metrics {
        pids: Some(stats::PidsStat { current: 3, limit: u64::MAX }),
        cpu: Some(stats::v2::CpuStat {
            usage_usec: 30,
            user_usec: 20,
            system_usec: 10,
            nr_periods: 7,
            nr_throttled: 6,
            throttled_usec: 5,
            psi: Some(psi),
            nr_bursts: 4,
            burst_usec: 3,
        }),
        memory: Some(stats::v2::MemoryStat {
            anon: 1,
            file: 2,
            kernel_stack: 3,
            slab: 4,
            sock: 5,
            workingset_refault: 13,
            usage: 100,
            usage_limit: u64::MAX,
            swap_usage: 8,
            max_usage: 200,
            ..Default::default()
        }),
        rdma: Some(stats::RdmaStat { current: vec![entry(2, 2000)], limit: vec![entry(u32::MAX, 3000)] }),
        io: Some(stats::v2::IoStat { usage: vec![disk, idle], psi: None }),
        hugetlb: Vec::new(),
        memory_events: Some(stats::v2::MemoryEvents {
            low: 1,
            high: 2,
            max: 3,
            oom: 4,
            oom_kill: 5,
            oom_group_kill: 6,
        }),
    };
    assert_eq!(*metrics, expected);
}

#[test]
fn a_garbled_file_is_an_error_that_names_it() {
    let stage = Stage::new("garbled");
    busy(&stage);
    stage.write("pod/c/memory.stat", "anon one\n");
    let error = stage.cgroup().stats().unwrap_err().to_string();
    assert_eq!(
        error,
        format!("read {}: cannot make sense of \"anon one\"", stage.0.join("pod/c/memory.stat").display())
    );
}
