//! Requests as text, and their fields against CRIU's own definition.

use super::super::wire::{Message, Value};
use super::{CgroupMode, CriuOptions, Dump, Errand, Frame, NetworkLock, Restore, dump, feature_check, heard, restore};

const DEFINITION: &str = include_str!("../../../../protos/vendor/criu-rpc.proto");

fn text(message: &Message) -> String {
    let field = |(field, value): &(super::Field, Value)| match value {
        Value::Number(number) => format!("{} {number}\n", field.1),
        Value::Text(text) => format!("{} {}\n", field.1, String::from_utf8_lossy(text)),
        Value::Message(message) => {
            let lines: String = text(message).lines().map(|line| format!("  {line}\n")).collect();
            format!("{}\n{lines}", field.1)
        }
    };
    message.0.iter().map(field).collect()
}

/// What is asked beyond what is always asked.
fn check(message: &Message, always: &str, expected: &str) {
    let always: Vec<&str> = always.lines().map(str::trim).collect();
    let text = text(message);
    let asked: Vec<&str> = text.lines().map(str::trim).filter(|line| !always.contains(line)).collect();
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(asked, expected);
}

const ALWAYS: &str = "opts\nimages_dir_fd 5\nlog_level 4\nlog_file dump.log\nroot /b/rootfs\nnotify_scripts 1\n\
                      orphan_pts_master 1\nmanage_cgroups 1";

fn frame<'a>(options: &'a CriuOptions, external: &'a [String]) -> Frame<'a> {
    Frame { options, images: 5, work: None, log: "dump.log", root: "/b/rootfs", config_file: None, external }
}

const PLAIN: Dump<'_> = Dump { pid: 42, leave_running: false, freeze_cgroup: None, parent: None, page_server: None };

#[test]
fn a_dump_asks_for_what_was_chosen() {
    let nothing = CriuOptions::default();
    check(&dump(Errand::Dump, &frame(&nothing, &[]), &PLAIN), ALWAYS, "type 1\nmanage_cgroups_mode 6\npid 42");
    let options = CriuOptions {
        tcp_established: true,
        tcp_close: true,
        tcp_skip_in_flight: true,
        link_remap: true,
        ext_unix_sk: true,
        shell_job: true,
        file_locks: true,
        auto_dedup: true,
        lazy_pages: true,
        manage_cgroups: Some(CgroupMode::Full),
        network_lock: Some(NetworkLock::Nftables),
        empty_namespaces: 0x4000_0000,
    };
    let external = ["mnt[/a]:/a".to_owned(), "net[1]:extRootNetNS".to_owned()];
    let whole = Frame { work: Some(6), config_file: Some("/etc/criu/runc.conf"), ..frame(&options, &external) };
    let all = Dump {
        pid: 42,
        leave_running: true,
        freeze_cgroup: Some("/sys/fs/cgroup/freezer/x"),
        parent: Some("../old"),
        page_server: Some(("10.0.0.1", 99)),
    };
    let expected = "
        type 4
        tcp_established 1\ntcp_close 1\ntcp_skip_in_flight 1\nlink_remap 1\next_unix_sk 1\nshell_job 1
        file_locks 1\nauto_dedup 1\nlazy_pages 1
        manage_cgroups_mode 4
        work_dir_fd 6
        network_lock 2
        empty_ns 1073741824
        config_file /etc/criu/runc.conf
        external mnt[/a]:/a\nexternal net[1]:extRootNetNS
        pid 42\nleave_running 1\ntrack_mem 1
        freeze_cgroup /sys/fs/cgroup/freezer/x
        parent_img ../old
        ps\naddress 10.0.0.1\nport 99";
    check(&dump(Errand::PreDump, &whole, &all), ALWAYS, expected);
}

#[test]
fn a_restore_makes_a_child_of_the_caller_in_the_cgroup_of_the_container() {
    let options = CriuOptions { manage_cgroups: Some(CgroupMode::Strict), ..CriuOptions::default() };
    let restored = Restore {
        cgroups: &[("memory".into(), "/tare/a".into())],
        inherit: &[("pipe:[7]".into(), 9)],
        join: &[("ipc", "/proc/1/ns/ipc".into())],
        lsm_profile: Some("apparmor:x"),
        lsm_mount_context: Some("ctx"),
    };
    let expected = "
        type 2
        manage_cgroups_mode 5
        evasive_devices 1\nrst_sibling 1
        cg_root\nctrl memory\npath /tare/a
        inherit_fd\nkey pipe:[7]\nfd 9
        join_ns\nns ipc\nns_file /proc/1/ns/ipc
        lsm_profile apparmor:x\nlsm_mount_context ctx";
    check(&restore(&frame(&options, &[]), &restored), ALWAYS, expected);
}

/// The number of a field of a message, as CRIU defines it.
fn defined(message: &str, field: &str) -> Option<u32> {
    let body = DEFINITION.split(&format!("message {message} {{")).nth(1)?.split('}').next()?;
    let line = body.lines().find(|line| {
        let mut words = line.split_whitespace();
        words.nth(2) == Some(field) && words.next() == Some("=")
    })?;
    line.split('=').nth(1)?.trim().split([' ', ';']).next()?.parse().ok()
}

fn compare(name: &str, message: &Message) {
    for (field, value) in &message.0 {
        assert_eq!(defined(name, field.1), Some(field.0), "{name}.{}", field.1);
        if let Value::Message(inner) = value {
            let kind = match field.1 {
                "opts" => "criu_opts",
                "features" => "criu_features",
                "ps" => "criu_page_server_info",
                "cg_root" => "cgroup_root",
                "join_ns" => "join_namespace",
                other => other,
            };
            compare(kind, inner);
        }
    }
}

#[test]
fn every_field_has_the_number_that_criu_gives_it() {
    let options = CriuOptions {
        tcp_established: true,
        tcp_close: true,
        tcp_skip_in_flight: true,
        link_remap: true,
        ext_unix_sk: true,
        shell_job: true,
        file_locks: true,
        auto_dedup: true,
        lazy_pages: true,
        manage_cgroups: None,
        network_lock: Some(NetworkLock::Skip),
        empty_namespaces: 1,
    };
    let external = ["x".to_owned()];
    let whole = Frame { work: Some(6), config_file: Some("f"), ..frame(&options, &external) };
    let all =
        Dump { freeze_cgroup: Some("f"), parent: Some("p"), page_server: Some(("a", 1)), leave_running: true, ..PLAIN };
    let restored = Restore {
        cgroups: &[("c".into(), "p".into())],
        inherit: &[("k".into(), 1)],
        join: &[("ipc", "f".into())],
        lsm_profile: Some("p"),
        lsm_mount_context: Some("c"),
    };
    for message in
        [dump(Errand::Dump, &whole, &all), restore(&whole, &restored), feature_check(), heard(&Ok::<(), ()>(()))]
    {
        compare("criu_req", &message);
    }
}
