//! `config.json` into a plan: whatever the text, it is refused or planned, without a panic, twice alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;
use tare_plan::{CgroupLayout, Choices, Hierarchy, Host, container, resources};

fn host(cgroups: CgroupLayout) -> Host {
    Host {
        cgroups,
        last_capability: 40,
        euid: 0,
        egid: 0,
        setgroups_denied: false,
        apparmor: true,
        selinux: true,
        in_user_namespace: false,
    }
}

fn hosts() -> [Host; 2] {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"].map(str::to_owned);
    let hierarchy = |name: &String| Hierarchy {
        controllers: vec![name.clone()],
        mountpoint: format!("/sys/fs/cgroup/{name}").into(),
        own: "/".into(),
    };
    let legacy = ["cpu", "cpuset", "memory", "pids", "devices", "blkio", "net_cls", "net_prio"].map(str::to_owned);
    let unified = CgroupLayout::Unified { mountpoint: "/sys/fs/cgroup".into(), controllers: controllers.to_vec() };
    [host(unified), host(CgroupLayout::Legacy { hierarchies: legacy.iter().map(hierarchy).collect(), unified: None })]
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(spec) = serde_json::from_slice::<Spec>(bytes) else { return };
    let choices =
        Choices { id: "c1".to_owned(), bundle: "/bundle".into(), default_cgroup_parent: "/tare".into(), systemd: None };
    for host in hosts() {
        let plan = container(&spec, &choices, &host);
        assert_eq!(plan, container(&spec, &choices, &host));
        match plan {
            Ok(plan) => assert!(plan.to_string().lines().count() > 5),
            Err(refusal) => assert!(!refusal.field.is_empty() && !refusal.problem.is_empty()),
        }
        if let Some(limits) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
            let _ = resources::update(limits, &host);
        }
    }
});
