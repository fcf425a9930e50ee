//! A bundle with busybox on the real kernel, for the topics of the core's tests. Not a test itself.
#![allow(dead_code, reason = "every topic uses its part of it")]

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_core::{Container, Create, Error, ExitStatus, Process, Stdio};
use serde_json::{Value, json};

/// A bundle in a temporary folder, which is also its container's state folder, and its removal.
pub(crate) struct Bundle(pub(crate) PathBuf);

impl Bundle {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tare-core-{}-{name}", std::process::id()));
        for folder in ["bin", "proc", "sys", "dev", "tmp", "mnt", "etc"] {
            std::fs::create_dir_all(path.join("rootfs").join(folder)).unwrap();
        }
        std::fs::set_permissions(path.join("rootfs/tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
        std::fs::copy("/bin/busybox", path.join("rootfs/bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", path.join("rootfs/bin/sh")).unwrap();
        Self(path)
    }

    pub(crate) fn id(&self) -> &str {
        self.0.file_name().unwrap().to_str().unwrap()
    }

    /// A folder beside the root file system.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn create(&self, config: &Value, stdio: Stdio) -> Result<(Container, Process), Error> {
        Container::create(self.request(config, stdio))
    }

    pub(crate) fn request(&self, config: &Value, stdio: Stdio) -> Create {
        let spec = serde_json::from_value(config.clone()).unwrap();
        Create::new(self.id(), self.0.clone(), spec, self.0.clone(), stdio)
    }

    /// Runs it to its end: how it ended, and what it said.
    pub(crate) fn run(&self, config: &Value) -> (ExitStatus, String) {
        let (reader, stdio) = captured();
        let (container, process) = self.create(config, stdio).unwrap();
        container.start().unwrap();
        let output = text(reader);
        let status = wait(&process);
        container.delete().unwrap();
        (status, output)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = runtime_core::remove(&self.0);
        let removed = std::fs::remove_dir_all(&self.0);
        // A second panic would hide the first.
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// A container that runs this shell script as root with few capabilities.
pub(crate) fn config(script: &str) -> Value {
    let capabilities = ["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"];
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        },
        "root": { "path": "rootfs" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue" },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "network" },
            ],
            "maskedPaths": ["/proc/keys", "/proc/timer_list", "/proc/scsi"],
        },
    })
}

/// Appends to an array, which is made where it was absent.
pub(crate) fn push(array: &mut Value, element: Value) {
    if array.is_null() {
        *array = json!([]);
    }
    array.as_array_mut().unwrap().push(element);
}

/// Gives it a user namespace of its own.
pub(crate) fn with_user_namespace(config: &mut Value) {
    push(&mut config["linux"]["namespaces"], json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

/// Gives it one more capability.
pub(crate) fn with_capability(config: &mut Value, name: &str) {
    for set in ["bounding", "effective", "permitted"] {
        push(&mut config["process"]["capabilities"][set], json!(name));
    }
}

/// No input, and the output of both kinds to be read from what is returned first.
pub(crate) fn captured() -> (OwnedFd, Stdio) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stderr = Some(writer.try_clone().unwrap());
    (reader, Stdio::Streams { stdin: None, stdout: Some(writer), stderr })
}

/// Neither input nor output.
pub(crate) fn silent() -> Stdio {
    Stdio::Streams { stdin: None, stdout: None, stderr: None }
}

pub(crate) fn text(fd: OwnedFd) -> String {
    std::io::read_to_string(std::fs::File::from(fd)).unwrap()
}

/// One line of what is said, waited for.
pub(crate) fn line(fd: &OwnedFd) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\n") && rustix::io::read(fd, &mut byte).unwrap() == 1 {
        bytes.extend(byte);
    }
    String::from_utf8(bytes).unwrap()
}

/// What is written to a terminal until nobody has it open any more, which reads as an error.
pub(crate) fn screen(console: OwnedFd) -> String {
    let mut bytes = Vec::new();
    let _ = std::io::Read::read_to_end(&mut std::fs::File::from(console), &mut bytes);
    String::from_utf8(bytes).unwrap()
}

pub(crate) fn wait(process: &Process) -> ExitStatus {
    use rustix::event::{PollFd, PollFlags, poll};
    poll(&mut [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)], None).unwrap();
    process.try_wait().unwrap().unwrap()
}

/// Runs a test of this name in a mount namespace of its own, where all mounts are shared; `true` is the answer there.
pub(crate) fn alone_with_shared_mounts(test: &str) -> bool {
    if std::env::var_os("TARE_TEST_ALONE").is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let script = r#"mount --make-rshared / && exec "$0" "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(program).args(["--exact", test, "--nocapture"]);
    assert!(command.env("TARE_TEST_ALONE", "1").status().unwrap().success(), "{test}");
    false
}

/// Mounts something with the words that mount(8) takes.
pub(crate) fn mount(words: &[&str], target: &Path) {
    assert!(Command::new("mount").args(words).arg(target).status().unwrap().success(), "{words:?}");
}

/// Unmounts it and what is mounted below.
pub(crate) fn mount_away(target: &Path) {
    assert!(Command::new("umount").arg("-R").arg(target).status().unwrap().success());
}

/// Whether the running kernel is older than this one.
pub(crate) fn older_than(major: u32, minor: u32) -> bool {
    let name = rustix::system::uname();
    let mut numbers = name.release().to_str().unwrap().split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) < (major, minor)
}

/// Says that this kernel is too old for a test; `true` when the test shall return at once.
pub(crate) fn skipped_before(major: u32, minor: u32, what: &str) -> bool {
    let old = older_than(major, minor);
    if old {
        println!("SKIPPED: {what} needs Linux {major}.{minor}");
    }
    old
}
