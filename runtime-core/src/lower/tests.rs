//! Golden scripts: the ops that a plan becomes, in order, as text. Renew with `TARE_BLESS=1 cargo test -p runtime-core`.

use std::os::fd::OwnedFd;
use std::path::Path;

use tare_plan::{CgroupLayout, Choices, Host, Plan, Tree};

use super::{Joining, Lowering, exec, init};
use crate::cgroup::Entrance;
use crate::oci;
use crate::prepare::{Origin, Prepared, Source, Streams};

fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lower/golden").join(name);
    if std::env::var_os("TARE_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; if that is meant, run with TARE_BLESS=1");
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

fn entrance() -> Entrance {
    Entrance { tasks: vec![null()], unified: Some(null()) }
}

fn streams() -> Streams {
    Streams::Open([null(), null(), null()])
}

fn source() -> Source {
    Source { origin: Origin::Cloned(null()), make: tare_init::script::make::FILE }
}

fn host() -> Host {
    let cgroups = CgroupLayout::Unified { mountpoint: "/sys/fs/cgroup".into(), controllers: vec![] };
    let (apparmor, selinux, in_user_namespace) = (true, false, false);
    Host {
        cgroups,
        last_capability: 40,
        euid: 0,
        egid: 0,
        setgroups_denied: false,
        apparmor,
        selinux,
        in_user_namespace,
    }
}

fn plan(config: &str) -> Plan {
    let spec: oci::Spec = serde_json::from_str(config).unwrap();
    let choices =
        Choices { id: "golden".into(), bundle: "/bundle".into(), default_cgroup_parent: "/tare".into(), systemd: None };
    tare_plan::container(&spec, &choices, &host()).unwrap()
}

fn init_text(config: &str) -> String {
    let plan = plan(config);
    let is_bind = |tree: &Tree| matches!(tree, Tree::Bind { .. });
    let prepared = Prepared {
        rootfs: source(),
        sources: plan.mounts.iter().map(|mount| is_bind(&mount.tree).then(source)).collect(),
        devices: plan.devices.iter().map(|_| None).collect(),
        joined: vec![],
        null: source(),
        entrance: entrance(),
        streams: if plan.process.terminal.is_some() { Streams::Terminal } else { streams() },
    };
    let lowering = Lowering {
        id: "golden",
        no_new_keyring: false,
        last_capability: 40,
        fifos: None,
        preserve_fds: 0,
        die_with_caller: false,
    };
    init(&plan, &prepared, &lowering).to_text()
}

#[test]
fn a_container_is_built_in_this_order() {
    check("small.ops", &init_text(include_str!("golden/small.json")));
}

#[test]
fn a_user_namespace_waits_for_its_maps_before_anything_is_mounted() {
    check("userns.ops", &init_text(include_str!("golden/userns.json")));
}

#[test]
fn without_no_new_privileges_the_filter_comes_before_the_last_capability_goes() {
    check("filter.ops", &init_text(include_str!("golden/filter.json")));
}

#[test]
fn an_exec_joins_before_it_becomes_the_user() {
    let plan = plan(include_str!("golden/small.json"));
    let (fd, entrance, streams) = (null(), entrance(), streams());
    let joining = Joining {
        init: std::os::fd::AsFd::as_fd(&fd),
        namespaces: plan.namespaces.new,
        entrance: &entrance,
        streams: &streams,
        personality: None,
        memory_policy: plan.memory_policy.as_ref(),
        filter: None,
        keyring: Some(c"_ses.golden"),
        preserve_fds: 0,
        last_capability: 40,
    };
    check("exec.ops", &exec(&plan.process, &joining).to_text());
}
