//! A cgroup's life on the real kernel, as root: in whatever hierarchies this host mounts, and once more with the
//! version 2 hierarchy alone where there is one.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use runtime_core::Kind;
use runtime_core::cgroup::{Cgroup, OomWatch, State, Stats, layout};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tare_plan::{CgroupLayout, Host, resources};

/// A cgroup of this test's own, whose directories are gone when the test is.
struct Scratch {
    cgroup: Cgroup,
    directories: Vec<PathBuf>,
}

impl Scratch {
    fn new(layout: &CgroupLayout) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tare-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let cgroup = Cgroup::plan(layout, &Path::new("/").join(&name)).unwrap();
        let mut mounts: Vec<PathBuf> = match layout {
            CgroupLayout::Unified { mountpoint, .. } => vec![mountpoint.clone()],
            CgroupLayout::Legacy { hierarchies, unified } => {
                hierarchies.iter().map(|one| one.mountpoint.clone()).chain(unified.clone()).collect()
            }
        };
        mounts.iter_mut().for_each(|mount| mount.push(&name));
        Self { cgroup, directories: mounts }
    }

    fn present(&self) -> usize {
        self.directories.iter().filter(|directory| directory.exists()).count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.cgroup.kill();
        let _ = self.cgroup.remove();
        assert_eq!(self.present(), 0, "left behind: {:?}", self.directories);
    }
}

impl Scratch {
    /// Starts a shell that moves itself into the cgroup by writing `0`, runs `script`, and has said so.
    fn run(&self, script: &str) -> Child {
        let entrance = self.cgroup.entrance().unwrap();
        // A version 1 process enters through `tasks`; a test has no CLONE_INTO_CGROUP, so there the child writes for itself.
        let unified = self.directories.iter().find(|directory| directory.join("cgroup.kill").exists());
        let mut files = Vec::new();
        for directory in &self.directories {
            files.push(directory.join(if Some(directory) == unified { "cgroup.procs" } else { "tasks" }));
        }
        assert_eq!(entrance.tasks.len() + usize::from(entrance.unified.is_some()), files.len());
        let enter: String = files.iter().map(|file| format!("echo 0 > {} && ", file.display())).collect();
        let script = format!("{enter} echo in && {{ {script}; }}");
        let mut child =
            Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(&said, b"in\n");
        child
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let directory = self.directories.iter().find(|one| one.parent().unwrap().ends_with(controller)).unwrap();
        std::fs::read_to_string(directory.join(file)).unwrap().trim().to_owned()
    }
}

fn host(cgroups: CgroupLayout) -> Host {
    Host {
        cgroups,
        last_capability: 40,
        euid: 0,
        egid: 0,
        setgroups_denied: false,
        apparmor: false,
        selinux: false,
        in_user_namespace: false,
    }
}

fn limits(json: &str, layout: &CgroupLayout) -> resources::Resources {
    resources::plan(&serde_json::from_str(json).unwrap(), &host(layout.clone())).unwrap()
}

fn changes(json: &str, layout: &CgroupLayout) -> resources::Resources {
    resources::update(&serde_json::from_str(json).unwrap(), &host(layout.clone())).unwrap()
}

fn is_hybrid(layout: &CgroupLayout) -> bool {
    matches!(layout, CgroupLayout::Legacy { .. })
}

fn readable(watch: &OomWatch, seconds: i64) -> bool {
    poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&Timespec { tv_sec: seconds, tv_nsec: 0 })).unwrap() > 0
}

/// This host's layout, and version 2 alone where a cgroup2 hierarchy is mounted at all.
fn layouts() -> Vec<CgroupLayout> {
    let host = layout().unwrap();
    let alone = match &host {
        CgroupLayout::Legacy { unified: Some(mountpoint), .. } => {
            Some(CgroupLayout::Unified { mountpoint: mountpoint.clone(), controllers: Vec::new() })
        }
        _ => None,
    };
    [Some(host), alone].into_iter().flatten().collect()
}

#[test]
fn what_is_created_is_removed_and_removing_again_is_no_error() {
    for layout in layouts() {
        let scratch = Scratch::new(&layout);
        scratch.cgroup.create().unwrap();
        assert_eq!(scratch.present(), scratch.directories.len());
        scratch.cgroup.remove().unwrap();
        assert_eq!(scratch.present(), 0);
        scratch.cgroup.remove().unwrap();
    }
}

#[test]
fn a_record_of_the_cgroup_is_enough_to_remove_it() {
    let scratch = Scratch::new(&layout().unwrap());
    let record = serde_json::to_string(&scratch.cgroup).unwrap();
    scratch.cgroup.create().unwrap();
    let read: Cgroup = serde_json::from_str(&record).unwrap();
    assert_eq!(read, scratch.cgroup);
    read.remove().unwrap();
    assert_eq!(scratch.present(), 0);
}

#[test]
fn the_top_of_the_hierarchy_and_unclean_paths_are_refused() {
    let layout = layout().unwrap();
    for path in ["/", "", "relative", "/a/../b", "/.."] {
        assert_eq!(Cgroup::plan(&layout, Path::new(path)).unwrap_err().kind(), Kind::Invalid, "{path:?}");
    }
}

#[test]
fn an_empty_cgroup_is_used_and_one_with_processes_is_refused() {
    for layout in layouts() {
        let scratch = Scratch::new(&layout);
        scratch.cgroup.create().unwrap();
        scratch.cgroup.create().unwrap();
        let mut child = scratch.run("sleep 100");
        let error = scratch.cgroup.create().unwrap_err();
        assert_eq!(error.kind(), Kind::Exists, "{error}");
        assert_eq!(scratch.present(), scratch.directories.len(), "what was there before stays");
        scratch.cgroup.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_frozen_cgroup_is_refused() {
    for layout in layouts() {
        let scratch = Scratch::new(&layout);
        scratch.cgroup.create().unwrap();
        scratch.cgroup.freeze().unwrap();
        assert_eq!(scratch.cgroup.create().unwrap_err().kind(), Kind::State);
        scratch.cgroup.thaw().unwrap();
    }
}

#[test]
fn processes_are_listed_frozen_thawed_and_killed_with_their_children() {
    for layout in layouts() {
        let scratch = Scratch::new(&layout);
        scratch.cgroup.create().unwrap();
        let mut child = scratch.run("sleep 101 & sleep 102 & wait");
        let pid = i32::try_from(child.id()).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while scratch.cgroup.pids().unwrap().len() < 3 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        let pids = scratch.cgroup.pids().unwrap();
        assert!(pids.contains(&pid) && pids.len() == 3, "{pids:?}");
        scratch.cgroup.freeze().unwrap();
        assert_eq!(scratch.cgroup.state().unwrap(), State::Frozen);
        scratch.cgroup.thaw().unwrap();
        assert_eq!(scratch.cgroup.state().unwrap(), State::Thawed);
        scratch.cgroup.freeze().unwrap();
        scratch.cgroup.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "killed although frozen");
        scratch.cgroup.remove().unwrap();
        scratch.cgroup.kill().unwrap();
        assert_eq!(scratch.cgroup.pids().unwrap_err().kind(), Kind::NotFound);
        assert_eq!(scratch.cgroup.stats().unwrap_err().kind(), Kind::NotFound);
    }
}

#[test]
fn without_cgroup_kill_a_fork_bomb_is_killed_all_the_same() {
    let CgroupLayout::Legacy { hierarchies, .. } = layout().unwrap() else { return };
    let layout = CgroupLayout::Legacy { hierarchies, unified: None };
    let scratch = Scratch::new(&layout);
    scratch.cgroup.create().unwrap();
    scratch.cgroup.apply(&limits(r#"{"pids": {"limit": 64}}"#, &layout)).unwrap();
    let mut child = scratch.run("bomb() { sleep 100 & bomb & wait; }; bomb");
    std::thread::sleep(Duration::from_millis(100));
    scratch.cgroup.kill().unwrap();
    child.wait().unwrap();
    scratch.cgroup.remove().unwrap();
}

#[test]
fn a_signal_reaches_every_process_and_a_paused_container_stays_paused() {
    for layout in layouts() {
        let scratch = Scratch::new(&layout);
        scratch.cgroup.create().unwrap();
        let mut child = scratch.run("exec sleep 103");
        scratch.cgroup.freeze().unwrap();
        scratch.cgroup.signal(15).unwrap();
        // Version 2 lets a process die in the ice, and may be busy with that; version 1 keeps it until it thaws.
        assert_ne!(scratch.cgroup.state().unwrap(), State::Thawed);
        scratch.cgroup.thaw().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(15));
        let mut child = scratch.run("exec sleep 104");
        scratch.cgroup.signal(34).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(34), "a realtime signal");
        assert_eq!(scratch.cgroup.signal(65).unwrap_err().kind(), Kind::Invalid);
    }
}

#[test]
fn cgroups_that_the_container_made_go_with_it() {
    for layout in layouts() {
        let scratch = Scratch::new(&layout);
        scratch.cgroup.create().unwrap();
        for directory in &scratch.directories {
            std::fs::create_dir_all(directory.join("a/b")).unwrap();
            std::fs::create_dir(directory.join("c")).unwrap();
        }
        scratch.cgroup.remove().unwrap();
        assert_eq!(scratch.present(), 0);
    }
}

#[test]
fn cgroups_nested_deeper_than_a_path_is_long_go_too() {
    let scratch = Scratch::new(&layout().unwrap());
    scratch.cgroup.create().unwrap();
    for directory in &scratch.directories[..1] {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let mut here = rustix::fs::open(directory, flags, rustix::fs::Mode::empty()).unwrap();
        let name = "n".repeat(250);
        for _ in 0..20 {
            rustix::fs::mkdirat(&here, &name, rustix::fs::Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, &name, flags, rustix::fs::Mode::empty()).unwrap();
        }
    }
    scratch.cgroup.pids().unwrap();
    scratch.cgroup.remove().unwrap();
    assert_eq!(scratch.present(), 0);
}

#[test]
fn a_process_joins_where_init_has_moved_to() {
    for layout in layouts() {
        let scratch = Scratch::new(&layout);
        let Some(unified) = scratch.directories.last().filter(|_| scratch.cgroup.create().is_ok()) else { return };
        let inner = unified.join("init");
        let mut child = scratch
            .run(&format!("mkdir {0} && echo 0 > {0}/cgroup.procs && echo moved && exec sleep 108", inner.display()));
        let mut said = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        let entrance = scratch.cgroup.entrance_beside(child.id().try_into().unwrap()).unwrap();
        let entered = rustix::fs::fstat(entrance.unified.unwrap()).unwrap().st_ino;
        assert_eq!(entered, std::os::unix::fs::MetadataExt::ino(&inner.metadata().unwrap()));
        let own = std::process::id().try_into().unwrap();
        assert_eq!(scratch.cgroup.entrance_beside(own).unwrap_err().kind(), Kind::State);
        scratch.cgroup.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_cgroup_is_handed_over_with_its_safe_files_only() {
    let Some(alone) = layouts().pop() else { return };
    let scratch = Scratch::new(&alone);
    scratch.cgroup.create().unwrap();
    scratch.cgroup.delegate(1234).unwrap();
    let owner = |file: &str| {
        let path = scratch.directories.last().unwrap().join(file);
        std::os::unix::fs::MetadataExt::uid(&path.metadata().unwrap())
    };
    assert_eq!(["", "cgroup.procs", "cgroup.subtree_control"].map(owner), [1234; 3]);
    assert_eq!(["cgroup.freeze", "cgroup.kill"].map(owner), [0; 2]);
}

#[test]
fn a_process_that_stays_is_named() {
    let scratch = Scratch::new(&layout().unwrap());
    scratch.cgroup.create().unwrap();
    let mut child = scratch.run("exec sleep 105");
    let error = scratch.cgroup.remove().unwrap_err();
    assert_eq!(error.errno(), Some(rustix::io::Errno::BUSY));
    let expected = format!("process {} (sleep) in state S", child.id());
    assert!(error.to_string().contains(&expected), "{error}");
    scratch.cgroup.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn limits_are_written_raised_and_lowered() {
    let layout = layout().unwrap();
    if !is_hybrid(&layout) {
        return;
    }
    let scratch = Scratch::new(&layout);
    scratch.cgroup.create().unwrap();
    let small = r#"{"memory": {"limit": 33554432, "swap": 33554432}, "cpu": {"shares": 512, "quota": 20000, "period": 100000,
        "burst": 10000, "cpus": "0", "mems": "0"}, "pids": {"limit": 7}, "devices": [{"allow": false}]}"#;
    let large = r#"{"memory": {"limit": 67108864, "swap": 134217728}, "cpu": {"shares": 1024, "quota": 500000, "period": 1000000,
        "burst": 50000}, "pids": {"limit": -1}}"#;
    let none = r#"{"memory": {"limit": -1, "swap": -1}, "cpu": {"quota": -1, "burst": 0}}"#;
    scratch.cgroup.apply(&limits(small, &layout)).unwrap();
    let values = || {
        let memory = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"].map(|file| scratch.read("memory", file));
        let cpu = ["cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.shares"];
        [memory.join(" "), cpu.map(|file| scratch.read("cpu", file)).join(" "), scratch.read("pids", "pids.max")]
    };
    let first = ["33554432 33554432", "20000 100000 10000 512", "7"];
    assert_eq!(values(), first);
    assert_eq!(scratch.read("cpuset", "cpuset.cpus"), "0");
    assert!(scratch.read("devices", "devices.list").contains("c 1:3 rwm"));
    scratch.cgroup.apply(&changes(large, &layout)).unwrap();
    assert_eq!(values(), ["67108864 134217728", "500000 1000000 50000 1024", "max"]);
    scratch.cgroup.apply(&changes(small, &layout)).unwrap();
    assert_eq!(values(), first);
    scratch.cgroup.apply(&changes(none, &layout)).unwrap();
    assert_eq!(values()[1], "-1 100000 0 512");
    let error = scratch.cgroup.apply(&changes(r#"{"cpu": {"cpus": "4000"}}"#, &layout)).unwrap_err().to_string();
    assert!(error.starts_with("linux.resources.cpu.cpus: write 4000 to /sys/fs/cgroup/cpuset/tare-test-"), "{error}");
    assert!(error.contains("/cpuset.cpus: "), "{error}");
}

#[test]
fn devices_are_ruled_in_both_versions() {
    for layout in layouts() {
        let scratch = Scratch::new(&layout);
        scratch.cgroup.create().unwrap();
        let rules = r#"{"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"}]}"#;
        // Twice: an attached program is replaced, not joined by another.
        scratch.cgroup.apply(&limits(r#"{"devices": []}"#, &layout)).unwrap();
        scratch.cgroup.apply(&limits(rules, &layout)).unwrap();
        let script =
            "exec 3</dev/null 4</dev/urandom && ! (exec 3</dev/kmsg) && (exec 3>/dev/kmsg) && ! (exec 3</dev/mem)";
        let status = scratch.run(script).wait().unwrap();
        assert!(status.success(), "{layout:?}: {status}");
    }
}

#[test]
fn a_device_list_is_replaced_without_a_gap() {
    // Version 1 has no program: there a list is rewritten rule by rule.
    let Some(alone) = layouts().pop().filter(|layout| !is_hybrid(layout)) else { return };
    let scratch = Scratch::new(&alone);
    scratch.cgroup.create().unwrap();
    let none = r#"{"devices": [{"allow": false, "access": "rwm"}]}"#;
    let one = r#"{"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]}"#;
    scratch.cgroup.apply(&limits(none, &alone)).unwrap();
    // What every list allows is allowed all the time, and what none allows is never.
    let mut child = scratch.run("while : </dev/null; do if (: </dev/mem); then exit 7; fi; done; exit 8");
    for _ in 0..200 {
        scratch.cgroup.update(&changes(one, &alone)).unwrap();
        scratch.cgroup.update(&changes(none, &alone)).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "{:?}", child.wait());
    }
    scratch.cgroup.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn use_is_counted() {
    for layout in layouts() {
        let scratch = Scratch::new(&layout);
        scratch.cgroup.create().unwrap();
        let mut child = scratch.run("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep 106");
        let mut said = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        match scratch.cgroup.stats().unwrap() {
            Stats::V1(stats) => {
                let (cpu, memory) = (stats.cpu.unwrap(), stats.memory.unwrap());
                let usage = cpu.usage.unwrap();
                assert!(usage.total > 0 && usage.per_cpu.iter().sum::<u64>() > 0, "{usage:?}");
                assert!(cpu.throttling.is_some());
                // The table beside it is flushed every two seconds only.
                assert!(memory.usage.unwrap().usage > 0 && memory.hierarchical_memory_limit > 0, "{memory:?}");
                assert!(memory.swap.is_some() && memory.kernel.is_some() && memory.kernel_tcp.is_some());
                assert_eq!(stats.pids.unwrap().current, 1);
                assert_eq!(stats.memory_oom_control.unwrap().oom_kill, 0);
                assert!(stats.blkio.is_some());
            }
            Stats::V2(stats) => {
                let cpu = stats.cpu.unwrap();
                assert!(cpu.usage_usec > 0 && cpu.psi.is_some(), "{cpu:?}");
                if !is_hybrid(&runtime_core::cgroup::layout().unwrap()) {
                    assert!(stats.memory.unwrap().usage > 0);
                    assert_eq!(stats.pids.unwrap().current, 1);
                }
            }
        }
        scratch.cgroup.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn killing_for_lack_of_memory_is_heard_of_and_counted() {
    let layout = layout().unwrap();
    let scratch = Scratch::new(&layout);
    scratch.cgroup.create().unwrap();
    scratch.cgroup.apply(&limits(r#"{"memory": {"limit": 16777216, "swap": 16777216}}"#, &layout)).unwrap();
    let mut watch = scratch.cgroup.oom_watch().unwrap();
    assert!(!readable(&watch, 0));
    assert_eq!(watch.take().unwrap(), 0);
    // The shell outlives the command that is killed.
    let mut child = scratch.run("head -c 100000000 /dev/zero | tail -c 100000000 > /dev/null; exec sleep 107");
    assert!(readable(&watch, 10));
    let mut killed = watch.take().unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while killed == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
        killed = watch.take().unwrap();
    }
    assert_eq!(killed, 1);
    assert!(!readable(&watch, 0));
    assert_eq!(watch.take().unwrap(), 0);
    scratch.cgroup.kill().unwrap();
    child.wait().unwrap();
    scratch.cgroup.remove().unwrap();
    assert!(readable(&watch, 5), "the end of the cgroup is seen");
    assert_eq!(watch.take().unwrap(), 0);
    assert_eq!(watch.take().unwrap(), 0);
    assert_eq!(scratch.cgroup.oom_watch().unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn without_a_memory_controller_there_is_nothing_to_watch() {
    let Some(alone) = layouts().into_iter().nth(1) else { return };
    let scratch = Scratch::new(&alone);
    scratch.cgroup.create().unwrap();
    assert_eq!(scratch.cgroup.oom_watch().unwrap_err().kind(), Kind::Unsupported);
}
