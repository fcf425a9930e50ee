//! The mounts that containerd hands over for a root file system. Runs as root.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle::{Bundle, captured, config, text, wait, with_user_namespace};
use runtime_core::{Container, Create, Error, ExitStatus, Process, RootfsMount, Stdio};
use serde_json::Value;

fn mount(kind: &str, source: &Path, target: &str, options: &[&str]) -> RootfsMount {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    RootfsMount { kind: kind.into(), source: source.to_str().unwrap().into(), target: target.into(), options }
}

fn create(
    bundle: &Bundle,
    config: &Value,
    mounts: &[RootfsMount],
    stdio: Stdio,
) -> Result<(Container, Process), Error> {
    Container::create(Create { rootfs: mounts.to_vec(), ..bundle.request(config, stdio) })
}

/// Runs it, and looks whether its mounts have gone from the host.
fn run(bundle: &Bundle, config: &Value, mounts: &[RootfsMount]) -> (ExitStatus, String) {
    let (reader, stdio) = captured();
    let (container, process) = create(bundle, config, mounts, stdio).unwrap();
    container.start().unwrap();
    let (output, status) = (text(reader), wait(&process));
    container.delete().unwrap();
    assert_eq!(mounted(bundle), Vec::<String>::new());
    (status, output)
}

/// What the host has mounted in the bundle.
fn mounted(bundle: &Bundle) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(&format!("/{}/", bundle.id()))).map(str::to_owned).collect()
}

/// The bundle's image as the layers of an overlay, and an empty folder for the rootfs.
fn layers(bundle: &Bundle, options: &[&str]) -> RootfsMount {
    let image = bundle.0.join("image");
    if !image.exists() {
        std::fs::rename(bundle.0.join("rootfs"), &image).unwrap();
        std::fs::create_dir(bundle.0.join("rootfs")).unwrap();
    }
    let top = bundle.folder("top");
    std::fs::write(top.join("top"), "").unwrap();
    let [upper, work] = [bundle.folder("upper"), bundle.folder("work")];
    let own = [
        format!("lowerdir={}:{}", top.display(), image.display()),
        format!("upperdir={}", upper.display()),
        format!("workdir={}", work.display()),
    ];
    let all: Vec<&str> = own.iter().map(String::as_str).chain(options.iter().copied()).collect();
    mount("overlay", Path::new("overlay"), "", &all)
}

const MAPS: [&str; 2] = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];
const OWNERS: &str =
    "busybox stat -c '%u %g' /bin/busybox /top; cd /tmp && echo made > made && busybox stat -c %u made";

#[test]
fn the_layers_of_an_overlay_belong_to_the_user_namespace_they_are_mapped_for() {
    let bundle = Bundle::new("rootfs-idmap");
    let mut config = config(OWNERS);
    with_user_namespace(&mut config);
    let mapped = layers(&bundle, &MAPS);
    assert_eq!(run(&bundle, &config, &[mapped]), (ExitStatus::Code(0), "0 0\n0 0\n0\n".into()));
    assert_eq!(std::fs::metadata(bundle.0.join("upper/tmp/made")).unwrap().uid(), 100_000);
    assert_eq!(std::fs::metadata(bundle.0.join("image/bin/busybox")).unwrap().uid(), 0);
    // The positive control: without the maps, the image is nobody's there.
    let (_, output) = run(&bundle, &config, &[layers(&bundle, &[])]);
    assert!(output.starts_with("65534 65534\n65534 65534\n"), "{output}");
}

#[test]
fn a_bound_rootfs_is_mapped_too() {
    let bundle = Bundle::new("rootfs-idmap-bind");
    layers(&bundle, &[]);
    let mut config = config("busybox stat -c '%u %g' /bin/busybox; echo > /tmp/made");
    with_user_namespace(&mut config);
    let options = [MAPS[0], MAPS[1], "rbind", "rw", "nosuid"];
    let image = mount("bind", &bundle.0.join("image"), "", &options);
    assert_eq!(run(&bundle, &config, &[image]), (ExitStatus::Code(0), "0 0\n".into()));
    assert_eq!(std::fs::metadata(bundle.0.join("image/tmp/made")).unwrap().uid(), 0);
}

#[test]
fn an_overlay_with_more_layers_than_a_page_can_name_is_mapped_all_the_same() {
    if bundle::skipped_before(6, 8, "lowerdir+") {
        return;
    }
    let bundle = Bundle::new("rootfs-idmap-long");
    layers(&bundle, &[]);
    let more: Vec<PathBuf> = (0..50).map(|number| bundle.folder(&format!("{}-{number}", "layer".repeat(14)))).collect();
    let mut lower: Vec<&str> = more.iter().map(|path| path.to_str().unwrap()).collect();
    let image = bundle.0.join("image");
    lower.push(image.to_str().unwrap());
    let lower = format!("lowerdir={}", lower.join(":"));
    assert!(lower.len() > 4096);
    let mut config = config("busybox stat -c '%u %g' /bin/busybox");
    with_user_namespace(&mut config);
    let mapped = mount("overlay", Path::new("overlay"), "", &["ro", &lower, MAPS[0], MAPS[1]]);
    assert_eq!(run(&bundle, &config, &[mapped]), (ExitStatus::Code(0), "0 0\n".into()));
    let plain = mount("overlay", Path::new("overlay"), "", &["ro", &lower]);
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|space| space["type"] != "user");
    for maps in ["uidMappings", "gidMappings"] {
        config["linux"].as_object_mut().unwrap().remove(maps);
    }
    assert_eq!(run(&bundle, &config, &[plain]), (ExitStatus::Code(0), "0 0\n".into()));
}

#[test]
fn a_mount_with_a_target_is_below_the_rootfs_and_goes_with_it() {
    let bundle = Bundle::new("rootfs-target");
    let whole = layers(&bundle, &[]);
    let volume = bundle.folder("volume");
    std::fs::write(volume.join("file"), "text").unwrap();
    let below = mount("bind", &volume, "/mnt", &["rbind", "ro"]);
    let config = config("busybox cat /mnt/file; echo > /mnt/file || busybox grep -c ' /mnt ' /proc/mounts");
    let (status, output) = run(&bundle, &config, &[whole, below.clone()]);
    assert!(status == ExitStatus::Code(0) && output.starts_with("text") && output.ends_with("\n1\n"), "{output}");
    // A rootfs that is only a folder is mounted on itself, so that there is something to go with.
    std::fs::remove_dir(bundle.0.join("rootfs")).unwrap();
    std::fs::rename(bundle.0.join("image"), bundle.0.join("rootfs")).unwrap();
    let (_, output) = run(&bundle, &config, &[below]);
    assert!(output.starts_with("text"), "{output}");
}

/// The image is mounted when the target is looked up: its links must lead nowhere but into it.
#[test]
fn a_target_behind_a_link_of_the_image_stays_in_the_rootfs() {
    let bundle = Bundle::new("rootfs-target-link");
    let whole = layers(&bundle, &[]);
    let (volume, outside) = (bundle.folder("volume"), bundle.folder("outside"));
    std::fs::write(volume.join("file"), "text").unwrap();
    let inside = bundle.0.join("image").join(outside.strip_prefix("/").unwrap());
    std::fs::create_dir_all(&inside).unwrap();
    symlink(&outside, bundle.0.join("image/link")).unwrap();
    symlink("../../../../../../..", bundle.0.join("image/up")).unwrap();
    let config = config(&format!("busybox cat {}/file", outside.display()));
    for target in ["link", "/link", &format!("up/{}", outside.display())] {
        let below = mount("bind", &volume, target, &["bind"]);
        let (reader, stdio) = captured();
        let (container, process) = create(&bundle, &config, &[whole.clone(), below], stdio).unwrap();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{target}: mounted on the host");
        container.start().unwrap();
        assert_eq!((text(reader).as_str(), wait(&process)), ("text", ExitStatus::Code(0)), "{target}");
        container.delete().unwrap();
        assert_eq!(mounted(&bundle), Vec::<String>::new());
    }
    // The positive control: by the path alone, that link leads there.
    assert_eq!(std::fs::canonicalize(bundle.0.join("image/link")).unwrap(), outside);
}

#[test]
fn a_mount_that_fails_leaves_none_of_those_before_it() {
    let bundle = Bundle::new("rootfs-fails");
    let whole = layers(&bundle, &[]);
    for (wrong, text) in [
        (mount("bind", Path::new("/nowhere"), "mnt", &["bind"]), "no such file or directory"),
        (mount("bind", Path::new("/etc"), "nowhere", &["bind"]), "find target \"nowhere\""),
        (
            mount("bind", Path::new("/etc"), "mnt", &["X-containerd.mkdir.path=/x"]),
            "was not consumed by the mount manager",
        ),
        (mount("bind", Path::new("/etc"), "mnt", &["uidmap=0:1:2"]), "one is missing"),
        (mount("bind", Path::new("/proc/sys"), "mnt", &["bind", MAPS[0], MAPS[1]]), "invalid argument"),
    ] {
        let error = create(&bundle, &config("true"), &[whole.clone(), wrong], bundle::silent()).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(mounted(&bundle), Vec::<String>::new(), "{error}");
        assert!(!bundle.0.join("state.json").exists());
    }
}

#[test]
fn a_loop_device_is_made_of_a_regular_file_alone() {
    let bundle = Bundle::new("rootfs-loop-fifo");
    let fifo = bundle.0.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for source in [fifo.as_path(), "/dev/null".as_ref(), "/tmp".as_ref()] {
        let wrong = mount("ext4", source, "", &["loop", "ro"]);
        let error = create(&bundle, &config("true"), &[wrong], bundle::silent()).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}

#[test]
fn a_file_system_in_a_file_is_mounted_by_a_loop_device_that_goes_again() {
    let bundle = Bundle::new("rootfs-loop");
    layers(&bundle, &[]);
    let file = bundle.0.join("disk");
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-t", "ext4", "-d"]).arg(bundle.0.join("image")).arg(&file).arg("16m");
    let made = command.env_clear().env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").status().unwrap();
    assert!(made.success());
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let devices = || {
        let files = std::fs::read_dir("/sys/block").unwrap().filter_map(|entry| entry.ok());
        let backing = files.filter_map(|entry| std::fs::read_to_string(entry.path().join("loop/backing_file")).ok());
        backing.filter(|path| path.contains(bundle.id())).count()
    };
    let disk = mount("ext4", &file, "", &["loop"]);
    let (reader, stdio) = captured();
    let (container, process) = create(&bundle, &config("echo > /tmp/made && echo ran"), &[disk], stdio).unwrap();
    assert_eq!(devices(), 1);
    container.start().unwrap();
    assert_eq!((text(reader).as_str(), wait(&process)), ("ran\n", ExitStatus::Code(0)));
    container.delete().unwrap();
    let gone = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        devices() == 0
    });
    assert!(gone, "the device is still there");
    let read_only = mount("ext4", &file, "", &["loop", "ro"]);
    let output = run(&bundle, &config("echo > /tmp/made || echo read-only"), &[read_only]).1;
    assert!(output.ends_with("read-only\n"), "{output}");
}
