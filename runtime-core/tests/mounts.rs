//! Mounts that change whose the files are, and mounts into user namespaces. Runs as root.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use bundle::{Bundle, captured, config, push, silent, text, wait, with_user_namespace};
use runtime_core::{Container, Create, Exec, ExitStatus, Kind};
use serde_json::{Value, json};

/// A folder that everybody may write, with a file that belongs to this user and group of the host.
fn volume(bundle: &Bundle, owner: u32) -> PathBuf {
    let volume = bundle.folder("volume");
    std::fs::set_permissions(&volume, Permissions::from_mode(0o777)).unwrap();
    std::fs::write(volume.join("file"), "text").unwrap();
    for path in [volume.clone(), volume.join("file")] {
        chown(path, Some(owner), Some(owner)).unwrap();
    }
    volume
}

fn bind(source: &Path, options: &[&str]) -> Value {
    json!({ "destination": "/mnt", "type": "bind", "source": source, "options": options })
}

fn with_maps(mut mount: Value, inside: u32, outside: u32) -> Value {
    let map = json!([{ "containerID": inside, "hostID": outside, "size": 1000 }]);
    mount["uidMappings"] = map.clone();
    mount["gidMappings"] = map;
    mount
}

const OWNERS: &str = "busybox stat -c '%u %g' /mnt/file; echo more > /mnt/made; busybox stat -c '%u %g' /mnt/made";

#[test]
fn an_idmapped_mount_shows_other_owners_and_writes_back_the_true_ones() {
    let bundle = Bundle::new("idmap");
    let volume = volume(&bundle, 7);
    let mut config = config(OWNERS);
    push(&mut config["mounts"], bind(&volume, &["rbind"]));
    // The positive control: without a map the owner is what it is, and what root makes is root's.
    assert_eq!(bundle.run(&config), (ExitStatus::Code(0), "7 7\n0 0\n".into()));
    std::fs::remove_file(volume.join("made")).unwrap();
    // What is 5 to 1004 on the disk is 0 to 999 here: 7 is 2, and root's files are 5's.
    *config["mounts"].as_array_mut().unwrap().last_mut().unwrap() = with_maps(bind(&volume, &["rbind"]), 5, 0);
    assert_eq!(bundle.run(&config), (ExitStatus::Code(0), "2 2\n0 0\n".into()));
    let made = std::fs::metadata(volume.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (5, 5));
    // On the host nothing has changed hands.
    assert_eq!(std::fs::metadata(volume.join("file")).unwrap().uid(), 7);
}

#[test]
fn in_a_user_namespace_a_volume_is_mapped_by_the_containers_maps_or_by_its_own() {
    let bundle = Bundle::new("idmap-user");
    let volume = volume(&bundle, 7);
    let check = |mount: Value, expected: &str| {
        let mut config = config(OWNERS);
        with_user_namespace(&mut config);
        push(&mut config["mounts"], mount);
        let (status, output) = bundle.run(&config);
        assert_eq!((status, output.as_str()), (ExitStatus::Code(0), expected));
        let made = std::fs::metadata(volume.join("made")).unwrap();
        std::fs::remove_file(volume.join("made")).unwrap();
        made.uid()
    };
    assert_eq!(check(bind(&volume, &["bind", "idmap"]), "7 7\n0 0\n"), 0);
    assert_eq!(check(bind(&volume, &["rbind", "ridmap"]), "7 7\n0 0\n"), 0);
    // 5 on the disk is 100000 on the host, which is 0 in the container.
    assert_eq!(check(with_maps(bind(&volume, &["bind"]), 5, 100_000), "2 2\n0 0\n"), 5);
    // The positive control: unmapped, everything belongs to nobody, and root's files cannot be stored.
    let mut config = config("busybox stat -c '%u %g' /mnt/file; echo > /mnt/file");
    with_user_namespace(&mut config);
    push(&mut config["mounts"], bind(&volume, &["bind"]));
    let (status, output) = bundle.run(&config);
    assert!(status == ExitStatus::Code(1) && output.starts_with("65534 65534\n"), "{status} {output}");
}

#[test]
fn ridmap_reaches_the_mounts_below_and_idmap_does_not() {
    if bundle::skipped_before(6, 3, "an idmapped tmpfs") {
        return;
    }
    if !bundle::alone_with_shared_mounts("ridmap_reaches_the_mounts_below_and_idmap_does_not") {
        return;
    }
    for user_namespace in [false, true] {
        for (option, below) in [("idmap", "65534"), ("ridmap", "2")] {
            let bundle = Bundle::new(option);
            let volume = volume(&bundle, 7);
            let inner = bundle.folder("volume/inner");
            bundle::mount(&["-t", "tmpfs", "tmpfs"], &inner);
            std::fs::write(inner.join("file"), "").unwrap();
            chown(inner.join("file"), Some(7), Some(7)).unwrap();
            let mut config = config("busybox stat -c %u /mnt/file /mnt/inner/file");
            let outside = if user_namespace { 100_000 } else { 0 };
            push(&mut config["mounts"], with_maps(bind(&volume, &["rbind", option]), 5, outside));
            if user_namespace {
                with_user_namespace(&mut config);
            }
            let (_, output) = bundle.run(&config);
            bundle::mount_away(&inner);
            let below = if user_namespace || option == "ridmap" { below } else { "7" };
            assert_eq!(output, format!("2\n{below}\n"), "{option}, user namespace: {user_namespace}");
        }
    }
}

#[test]
fn an_idmapped_mount_of_a_file_system_that_cannot_is_refused_and_leaves_nothing() {
    for (user_namespace, text) in
        [(false, "mount /proc/irq on /mnt: invalid argument"), (true, "map the ids of the tree at /proc/irq: ")]
    {
        let bundle = Bundle::new("idmap-proc");
        let mut config = config("true");
        push(&mut config["mounts"], with_maps(bind(Path::new("/proc/irq"), &["bind"]), 0, 1000));
        if user_namespace {
            with_user_namespace(&mut config);
        }
        let error = bundle.create(&config, silent()).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.errno(), Some(rustix::io::Errno::INVAL));
        assert!(!bundle.0.join("state.json").exists());
    }
}

/// A target that a link of the image leads out of the root: the mount stays inside, mapped or not.
#[test]
fn an_idmapped_mount_through_a_link_stays_inside() {
    for user_namespace in [false, true] {
        let bundle = Bundle::new("idmap-link");
        let volume = volume(&bundle, 7);
        let outside = bundle.folder("outside");
        std::fs::create_dir_all(bundle.0.join("rootfs").join(outside.strip_prefix("/").unwrap())).unwrap();
        std::os::unix::fs::symlink(&outside, bundle.0.join("rootfs/link")).unwrap();
        let mut config = config(&format!("busybox stat -c %u {}/file", outside.display()));
        let mut mount = with_maps(bind(&volume, &["bind"]), 5, if user_namespace { 100_000 } else { 0 });
        mount["destination"] = json!("/link");
        push(&mut config["mounts"], mount);
        if user_namespace {
            with_user_namespace(&mut config);
        }
        // The link's absolute target is below the container's root, and nothing is there on the host.
        assert_eq!(bundle.run(&config), (ExitStatus::Code(0), "2\n".into()));
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }
}

#[test]
fn a_source_in_a_private_folder_of_another_user_reaches_a_user_namespace() {
    let bundle = Bundle::new("private");
    let home = bundle.folder("home");
    std::fs::create_dir(home.join("data")).unwrap();
    std::fs::write(home.join("data/file"), "text").unwrap();
    std::fs::set_permissions(home.join("data"), Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();
    chown(&home, Some(1234), Some(1234)).unwrap();
    let mut config = config("busybox cat /mnt/file");
    with_user_namespace(&mut config);
    push(&mut config["mounts"], bind(&home.join("data"), &["rbind", "ro"]));
    assert_eq!(bundle.run(&config), (ExitStatus::Code(0), "text".into()));
}

#[test]
fn a_bundle_in_a_private_folder_of_another_user_is_no_obstacle_either() {
    let bundle = Bundle::new("private-bundle");
    std::fs::set_permissions(&bundle.0, Permissions::from_mode(0o700)).unwrap();
    chown(&bundle.0, Some(1234), Some(1234)).unwrap();
    let mut config = config("echo here");
    with_user_namespace(&mut config);
    assert_eq!(bundle.run(&config), (ExitStatus::Code(0), "here\n".into()));
}

#[test]
fn a_joined_user_namespace_must_have_the_maps_that_are_claimed() {
    let sandbox = Bundle::new("pinned");
    let mut pause = config("busybox sleep 1000");
    with_user_namespace(&mut pause);
    let (container, init) = sandbox.create(&pause, silent()).unwrap();
    container.start().unwrap();
    let bundle = Bundle::new("pinned-second");
    let volume = volume(&bundle, 7);
    let mut joining = config("busybox cat /proc/self/uid_map; busybox ls /sys/class/net; busybox stat -c %u /mnt/file");
    with_user_namespace(&mut joining);
    for space in joining["linux"]["namespaces"].as_array_mut().unwrap() {
        for (kind, file) in [("user", "user"), ("network", "net")] {
            if space["type"] == kind {
                space["path"] = json!(format!("/proc/{}/ns/{file}", init.pid()));
            }
        }
    }
    push(&mut joining["mounts"], json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs" }));
    push(&mut joining["mounts"], bind(&volume, &["rbind", "ridmap"]));
    let (status, output) = bundle.run(&joining);
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!((status, words), (ExitStatus::Code(0), vec!["0", "100000", "65536", "lo", "7"]));
    for (which, size) in [("uidMappings", 65535), ("gidMappings", 1)] {
        let mut wrong = joining.clone();
        wrong["linux"][which][0]["size"] = json!(size);
        let error = bundle.create(&wrong, silent()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert!(error.to_string().contains("both namespace path and non-matching mapping specified"), "{error}");
        assert!(!bundle.0.join("state.json").exists());
    }
    container.delete().unwrap();
    assert_eq!(wait(&init), ExitStatus::Signal(9));
}

#[test]
fn a_remount_changes_options_of_the_file_system_too() {
    let bundle = Bundle::new("remount");
    let mut config = config("busybox grep -E ' /tmp ' /proc/mounts");
    push(&mut config["mounts"], json!({ "destination": "/tmp", "type": "tmpfs", "options": ["size=64k"] }));
    push(&mut config["mounts"], json!({ "destination": "/tmp", "options": ["remount", "nodev", "size=128k"] }));
    let (status, output) = bundle.run(&config);
    assert!(status == ExitStatus::Code(0) && output.contains("nodev") && output.contains("size=128k"), "{output}");
}

#[test]
fn without_pivot_root_the_container_has_its_root_and_execs_find_it() {
    if !bundle::alone_with_shared_mounts("without_pivot_root_the_container_has_its_root_and_execs_find_it") {
        return;
    }
    for user_namespace in [false, true] {
        let bundle = Bundle::new("no-pivot");
        std::fs::write(bundle.0.join("rootfs/mark"), "").unwrap();
        let mut config = config("busybox sleep 1000");
        config["root"]["readonly"] = json!(true);
        if user_namespace {
            with_user_namespace(&mut config);
        }
        let request = Create { no_pivot: true, ..bundle.request(&config, silent()) };
        let (container, init) = Container::create(request).unwrap();
        container.start().unwrap();
        let (reader, stdio) = captured();
        let script = "echo /ma*; busybox readlink /proc/1/exe; echo > /made || busybox cat /proc/1/mountinfo";
        let process = serde_json::from_value(bundle::config(script)["process"].clone()).unwrap();
        let exec = container.exec(Exec::new(process, stdio)).unwrap();
        let output = text(reader);
        wait(&exec);
        assert!(output.starts_with("/mark\n/bin/busybox\n"), "{output}");
        assert!(output.contains(" / /proc ") && !output.contains(" /sys "), "{output}");
        // What is put away in there stays on the host.
        let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(host.contains(" / /proc ") && host.contains(" / /sys "), "{host}");
        container.delete().unwrap();
        assert_eq!(wait(&init), ExitStatus::Signal(9));
    }
}

/// `vm.memfd_noexec` belongs to a pid namespace (Linux 6.3).
#[test]
fn where_no_memory_may_be_executed_the_stub_is_a_file_that_nobody_can_write() {
    if bundle::skipped_before(6, 3, "vm.memfd_noexec") {
        return;
    }
    let test = "where_no_memory_may_be_executed_the_stub_is_a_file_that_nobody_can_write";
    if std::env::var_os("TARE_TEST_NOEXEC").is_none() {
        let script = r#"echo 2 > /proc/sys/vm/memfd_noexec && exec "$0" "$@""#;
        let mut command = std::process::Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env("TARE_TEST_NOEXEC", "1");
        assert!(command.status().unwrap().success());
        return;
    }
    let made = rustix::fs::memfd_create("probe", rustix::fs::MemfdFlags::EXEC);
    assert_eq!(made.unwrap_err(), rustix::io::Errno::ACCESS, "the positive control");
    let bundle = Bundle::new("noexec");
    let (container, init) = bundle.create(&config("exit 3"), silent()).unwrap();
    let stub = format!("/proc/{}/exe", init.pid());
    let length = std::fs::metadata(&stub).unwrap().len();
    assert!(length < 100_000, "{length}: not the stub");
    let error = std::fs::OpenOptions::new().write(true).open(&stub).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::EROFS)), "{error}");
    container.start().unwrap();
    assert_eq!(wait(&init), ExitStatus::Code(3));
    container.delete().unwrap();
}

#[test]
fn the_root_has_the_propagation_that_is_asked_for() {
    if !bundle::alone_with_shared_mounts("the_root_has_the_propagation_that_is_asked_for") {
        return;
    }
    for (asked, expected) in [
        (None, "master:"),
        (Some("slave"), "master:"),
        (Some("rslave"), "master:"),
        (Some("private"), ""),
        (Some("rprivate"), ""),
        (Some("shared"), "shared:"),
        (Some("rshared"), "shared:"),
        (Some("unbindable"), "unbindable"),
        (Some("runbindable"), "unbindable"),
    ] {
        let bundle = Bundle::new("propagation");
        let mut config =
            config("busybox grep ' / / ' /proc/self/mountinfo || busybox grep '/rootfs / ' /proc/self/mountinfo");
        config["linux"]["rootfsPropagation"] = json!(asked);
        let (status, output) = bundle.run(&config);
        let tags: Vec<&str> = output.split(' ').skip(6).take_while(|word| *word != "-").collect();
        // A shared root is a peer of its own copies, and still the host's slave: nothing gets out.
        let fits = tags.iter().any(|tag| tag.starts_with(expected)) || tags.is_empty() && expected.is_empty();
        assert!(status == ExitStatus::Code(0) && fits, "{asked:?}: {output}");
    }
}

#[test]
fn a_rootfs_on_a_read_only_file_system_needs_its_mount_points() {
    if !bundle::alone_with_shared_mounts("a_rootfs_on_a_read_only_file_system_needs_its_mount_points") {
        return;
    }
    let bundle = Bundle::new("read-only");
    let rootfs = bundle.0.join("rootfs");
    for folder in ["proc", "dev", "mnt"] {
        std::fs::create_dir_all(rootfs.join(folder)).unwrap();
    }
    bundle::mount(&["--bind", rootfs.to_str().unwrap()], &rootfs);
    bundle::mount(&["-o", "remount,bind,ro"], &rootfs);
    let mut config = config("echo ran; busybox cat /mnt/file");
    let volume = volume(&bundle, 7);
    push(&mut config["mounts"], bind(&volume, &["bind"]));
    assert_eq!(bundle.run(&config), (ExitStatus::Code(0), "ran\ntext".into()));
    config["mounts"].as_array_mut().unwrap().last_mut().unwrap()["destination"] = json!("/absent");
    let error = bundle.create(&config, silent()).unwrap_err();
    assert_eq!(error.errno(), Some(rustix::io::Errno::ROFS), "{error}");
    assert!(error.to_string().contains("on /absent: "), "{error}");
    bundle::mount_away(&rootfs);
}

/// What lxcfs provides; anything else below /proc is refused (CVE-2019-16884), as the planner's tests show.
#[test]
fn the_files_of_lxcfs_may_be_mounted_on_those_of_proc() {
    let names = "cpuinfo diskstats meminfo stat swaps uptime loadavg sys/kernel/ns_last_pid";
    let bundle = Bundle::new("lxcfs");
    let volume = volume(&bundle, 7);
    // Not net/dev, which may be mounted on as well: each lookup below /proc/net makes the kernel forget such a mount.
    let mut config = config(&format!("cd /proc; for name in {names}; do read line < $name; echo $line; done"));
    for name in names.split(' ') {
        let target = format!("proc/{name}");
        let file = json!({ "destination": target, "type": "bind", "source": volume.join("file"), "options": ["bind"] });
        push(&mut config["mounts"], file);
    }
    let expected = "text\n".repeat(names.split(' ').count());
    assert_eq!(bundle.run(&config), (ExitStatus::Code(0), expected));
}

/// As tare is used inside a container: root, but of a user namespace, and with another one below.
#[test]
fn root_of_a_user_namespace_makes_containers_with_one_of_their_own() {
    let test = "root_of_a_user_namespace_makes_containers_with_one_of_their_own";
    if std::env::var_os("TARE_TEST_NESTED").is_none() {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"]);
        command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
        assert!(command.env("TARE_TEST_NESTED", "1").status().unwrap().success());
        return;
    }
    let bundle = Bundle::new("nested");
    let volume = bundle.folder("volume");
    std::fs::write(volume.join("file"), "text").unwrap();
    let mut config = config("busybox cat /mnt/file; busybox cat /proc/self/uid_map");
    with_user_namespace(&mut config);
    for maps in ["uidMappings", "gidMappings"] {
        config["linux"][maps] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    }
    push(&mut config["mounts"], bind(&volume, &["rbind"]));
    config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "devpts");
    let (status, output) = bundle.run(&config);
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!((status, words), (ExitStatus::Code(0), vec!["text", "0", "0", "1"]), "{output}");
}

/// Whoever lives in a mount namespace has made the paths in it: they are not resolved with more rights than the new
/// container's own.
#[test]
fn in_a_joined_mount_namespace_nobody_carries_trees_with_the_hosts_privileges() {
    let first = Bundle::new("joined-mounts");
    let mut sandbox = config("busybox sleep 1000");
    with_user_namespace(&mut sandbox);
    let (container, init) = first.create(&sandbox, silent()).unwrap();
    container.start().unwrap();
    let bundle = Bundle::new("joining-mounts");
    let mut joining = config("true");
    with_user_namespace(&mut joining);
    for space in joining["linux"]["namespaces"].as_array_mut().unwrap() {
        for (kind, file) in [("mount", "mnt"), ("user", "user")] {
            if space["type"] == kind {
                space["path"] = json!(format!("/proc/{}/ns/{file}", init.pid()));
            }
        }
    }
    let error = bundle.create(&joining, silent()).unwrap_err();
    // The child looks for its rootfs in there, where the host's folders are not.
    assert!(error.to_string().contains("clone the tree at "), "{error}");
    push(&mut joining["mounts"], bind(Path::new("/srv"), &["bind", "idmap"]));
    let error = bundle.create(&joining, silent()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    container.delete().unwrap();
    assert_eq!(wait(&init), ExitStatus::Signal(9));
}

/// More descriptors than one message carries go to the stub with its script.
#[test]
fn a_container_may_have_hundreds_of_volumes() {
    let bundle = Bundle::new("hundreds");
    let volume = volume(&bundle, 0);
    for (users, count) in [(false, 600), (true, 300)] {
        let mut config = config("set -- /many/*/file; echo $#; busybox cat /many/299/file");
        if users {
            with_user_namespace(&mut config);
        }
        for number in 0..count {
            let mut mount = bind(&volume, &["rbind", "ro"]);
            mount["destination"] = json!(format!("/many/{number}"));
            push(&mut config["mounts"], mount);
        }
        assert_eq!(bundle.run(&config), (ExitStatus::Code(0), format!("{count}\ntext")));
    }
}
