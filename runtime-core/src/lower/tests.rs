//! Golden scripts: the ops that a plan becomes, in order, as text. Renew with `TARE_BLESS=1 cargo test -p runtime-core`.

use std::os::fd::OwnedFd;
use std::path::Path;

use tare_plan::{CgroupLayout, Choices, Host, Mount, MountUsers, Plan, Reach, Tree};

use super::{Becoming, Criu, Errand, Joining, Lowering, exec, init, join, porter};
use crate::cgroup::Entrance;
use crate::criu::session::{Home, Place};
use crate::oci;
use crate::prepare::{Handover, Origin, Prepared, Source, Streams, Users};

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
    Entrance { tasks: vec![null()], unified: Some(null()), by_parent: None }
}

fn streams() -> Streams {
    Streams::Open([null(), null(), null()])
}

fn source() -> Source {
    Source { origin: Origin::Cloned(null()), id_map: None, make: tare_init::script::make::FILE }
}

/// What a user namespace gets by its porter, with the ids mapped where the plan says so.
fn named(mount: &Mount) -> Option<Source> {
    let Tree::Bind { source, reach } = &mount.tree else { return None };
    let name = std::ffi::CString::new(source.to_str().unwrap()).unwrap();
    let id_map = mount.id_map.as_ref().map(|map| match map.users {
        MountUsers::Container => (Users::Container, map.reach),
        MountUsers::Own { .. } => (Users::Own(std::sync::Arc::new(null())), map.reach),
    });
    Some(Source { origin: Origin::Named(name, *reach), id_map, make: tare_init::script::make::DIRECTORY })
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

fn prepared(plan: &Plan) -> Prepared {
    let is_bind = |tree: &Tree| matches!(tree, Tree::Bind { .. });
    let streams = if plan.process.terminal.is_some() { Streams::Terminal } else { streams() };
    let by_parent = Prepared {
        rootfs: source(),
        sources: plan.mounts.iter().map(|mount| is_bind(&mount.tree).then(source)).collect(),
        devices: plan.devices.iter().map(|_| None).collect(),
        joined: vec![],
        null: source(),
        handover: None,
        entrance: entrance(),
        streams,
    };
    if !super::has_user(&plan.namespaces) {
        return by_parent;
    }
    let at =
        |path: &str| Source { origin: Origin::Named(std::ffi::CString::new(path).unwrap(), Reach::Tree), ..source() };
    Prepared {
        rootfs: at("/bundle/rootfs"),
        sources: plan.mounts.iter().map(named).collect(),
        devices: plan.devices.iter().map(|device| Some(at(device.path.as_c_str().to_str().unwrap()))).collect(),
        null: at("/dev/null"),
        handover: Some(Handover { porter: null(), child: null() }),
        ..by_parent
    }
}

fn init_text(config: &str) -> String {
    let plan = plan(config);
    let lowering = Lowering {
        id: "golden",
        no_new_keyring: false,
        last_capability: 40,
        euid: 0,
        fifos: None,
        preserve_fds: 0,
        old_root: crate::old_root::OldRoot::PutAway,
        die_with_caller: false,
    };
    super::first(&plan.namespaces).to_text() + &init(&plan, &prepared(&plan), &lowering).to_text()
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
fn a_porter_clones_everything_before_it_attaches_the_rootfs() {
    let plan = plan(include_str!("golden/userns.json"));
    let (prepared, process, users) = (prepared(&plan), null(), null());
    let (process, users) = (std::os::fd::AsFd::as_fd(&process), std::os::fd::AsFd::as_fd(&users));
    let errand = Errand { process, kinds: 0x2_0000, users };
    check("porter.ops", &porter(&plan, &prepared, prepared.handover.as_ref().unwrap(), &errand).to_text());
}

#[test]
fn without_no_new_privileges_the_filter_comes_before_the_last_capability_goes() {
    check("filter.ops", &init_text(include_str!("golden/filter.json")));
}

#[test]
fn with_a_listener_the_filter_comes_before_the_gate_whatever_the_privileges() {
    let mut config: serde_json::Value = serde_json::from_str(include_str!("golden/filter.json")).unwrap();
    config["linux"]["seccomp"] = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    });
    for no_new_privileges in [true, false] {
        config["process"]["noNewPrivileges"] = no_new_privileges.into();
        let text = init_text(&config.to_string());
        let (_, end) = text.split_once("close descriptors from 3\n").unwrap();
        let end: Vec<&str> = end.lines().filter(|line| !line.starts_with("set capabilities")).collect();
        let [install, rest @ ..] = end.as_slice() else { panic!("{text}") };
        assert!(install.starts_with("install seccomp filter"), "{text}");
        let close = rest.get(2).unwrap();
        assert!(close.starts_with("close "), "{text}");
        assert_eq!(rest, ["send descriptor 2", "wait at point 6", close, "wait at point 9", "exec sh"], "{text}");
    }
}

#[test]
fn an_exec_joins_before_it_becomes_the_user() {
    let plan = plan(include_str!("golden/small.json"));
    let (fd, entrance, streams) = (null(), entrance(), streams());
    let joining = Joining {
        init: std::os::fd::AsFd::as_fd(&fd),
        namespaces: plan.namespaces.new,
        personality: None,
        keyring: Some(c"_ses.golden"),
        is_root: true,
    };
    let becoming = Becoming {
        cgroup_namespace: Some(std::os::fd::AsFd::as_fd(&fd)),
        entrance: &entrance,
        streams: &streams,
        memory_policy: plan.memory_policy.as_ref(),
        filter: None,
        preserve_fds: 0,
        last_capability: 40,
        limits: super::Limits::BySelf,
    };
    check("exec.ops", &(join(&plan.process, &joining).to_text() + &exec(&plan.process, &becoming).to_text()));
}

#[test]
fn criu_is_in_the_containers_cgroup_before_it_restores() {
    let (null, entrance, socket) = (null(), entrance(), null());
    let place = Place::Home(Home { entrance: &entrance, keyring: Some(c"_ses.golden") });
    let kept = [std::os::fd::AsFd::as_fd(&socket)];
    let criu = Criu {
        program: c"/usr/sbin/criu",
        arguments: [c"criu", c"swrk", c"9"],
        environment: &[c"PATH=/bin".to_owned()],
        null: &null,
        kept: &kept,
        place: &place,
    };
    // Descriptors have the numbers that this process happens to give them.
    let text = super::criu(&criu).to_text();
    let number = std::os::fd::AsRawFd::as_raw_fd(&socket);
    check("criu.ops", &text.replace(&format!("to {number}\nexec"), "to its own\nexec"));
}

#[test]
fn mount_points_are_made_by_mounting_everything_once() {
    let plan = plan(include_str!("golden/small.json"));
    check("mount-points.ops", &super::mount_points(&plan, &prepared(&plan)).to_text());
}

/// Nothing here enforces SELinux: what is written, and where, is what can be known.
#[test]
fn an_selinux_label_is_written_bare_for_the_next_program() {
    const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";
    let mut plan = plan(include_str!("golden/small.json"));
    plan.process.apparmor = None;
    plan.process.selinux = Some(std::ffi::CString::new(LABEL).unwrap());
    let mut script = crate::script::Script::new();
    super::finish::security_label(&mut script, &plan.process);
    let about: Vec<_> = script.steps().map(|(about, _)| about).collect();
    assert!(about.iter().all(|about| *about == format!("set selinux label {LABEL}")), "{about:?}");
    let bytes = script.to_bytes(None);
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("thread-self/attr/exec\0") && text.contains(LABEL), "{text}");
    assert!(!text.contains(&format!("exec {LABEL}")), "that would be AppArmor's way");
}
