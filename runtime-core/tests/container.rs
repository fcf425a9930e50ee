//! Containers on the real kernel, without a shim: what the core promises its two faces. Runs as root.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use runtime_core::{Container, Create, Exec, ExitStatus, Process, Stdio, oci};

/// A bundle with busybox in a temporary folder, and its removal.
struct Bundle(PathBuf);

impl Bundle {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tare-core-{}-{name}", std::process::id()));
        for folder in ["rootfs/bin", "rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/tmp", "rootfs/etc"] {
            std::fs::create_dir_all(path.join(folder)).unwrap();
        }
        std::fs::copy("/bin/busybox", path.join("rootfs/bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", path.join("rootfs/bin/sh")).unwrap();
        std::fs::write(path.join("rootfs/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        Self(path)
    }

    fn create(&self, spec: oci::Spec, stdout: Option<OwnedFd>) -> Result<(Container, Process), runtime_core::Error> {
        let id = self.0.file_name().unwrap().to_str().unwrap().to_owned();
        let stdio = Stdio::Streams { stdin: None, stderr: stdout.as_ref().map(|fd| fd.try_clone().unwrap()), stdout };
        Container::create(Create::new(&id, self.0.clone(), spec, self.0.clone(), stdio))
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = runtime_core::remove(&self.0);
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The default specification, running this shell script.
fn spec(script: &str) -> oci::Spec {
    let mut spec = oci::Spec::default();
    let mut process = spec.process().clone().unwrap();
    process.set_args(Some(vec!["sh".into(), "-c".into(), script.into()]));
    process.set_terminal(Some(false));
    spec.set_process(Some(process));
    let mut root = spec.root().clone().unwrap();
    root.set_path("rootfs".into());
    spec.set_root(Some(root));
    spec
}

fn wait(process: &Process) -> ExitStatus {
    use rustix::event::{PollFd, PollFlags, poll};
    poll(&mut [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)], None).unwrap();
    process.try_wait().unwrap().unwrap()
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

fn read(fd: OwnedFd) -> String {
    std::io::read_to_string(std::fs::File::from(fd)).unwrap()
}

fn run(name: &str, spec: oci::Spec) -> (ExitStatus, String) {
    let bundle = Bundle::new(name);
    let (reader, writer) = pipe();
    let (container, process) = bundle.create(spec, Some(writer)).unwrap();
    container.start().unwrap();
    let output = read(reader);
    let status = wait(&process);
    container.delete().unwrap();
    assert!(!Path::new("/sys/fs/cgroup/memory/tare").join(bundle.0.file_name().unwrap()).exists());
    (status, output)
}

#[test]
fn a_container_runs_and_says_how_it_ended() {
    let (status, output) = run("runs", spec("echo pid $$ home $HOME; busybox ls /proc/self/fd; exit 7"));
    assert_eq!(status, ExitStatus::Code(7));
    assert!(output.starts_with("pid 1 home /root\n0\n1\n2\n3\n"), "{output}");
}

#[test]
fn an_exec_joins_the_container() {
    let bundle = Bundle::new("exec");
    let (container, init) = bundle.create(spec("busybox sleep 1000"), None).unwrap();
    container.start().unwrap();
    let (reader, writer) = pipe();
    let mut process =
        spec("busybox hostname; busybox ps; busybox cat /proc/self/cgroup; exit 3").process().clone().unwrap();
    process.set_cwd("/tmp".into());
    let stdio = Stdio::Streams { stdin: None, stdout: Some(writer), stderr: None };
    let exec = container.exec(Exec::new(process, stdio)).unwrap();
    let output = read(reader);
    assert_eq!(wait(&exec), ExitStatus::Code(3));
    assert!(output.contains("    1 root     busybox sleep 1000\n    2 root     sh"), "{output}");
    init.signal(9).unwrap();
    assert_eq!(wait(&init), ExitStatus::Signal(9));
    container.delete().unwrap();
}

#[test]
fn a_missing_program_has_the_text_that_clients_match() {
    let bundle = Bundle::new("missing");
    let mut spec = spec("");
    let mut process = spec.process().clone().unwrap();
    process.set_args(Some(vec!["nope".into()]));
    spec.set_process(Some(process));
    let error = bundle.create(spec, None).unwrap_err();
    let wanted = "unable to start container process: exec: \"nope\": executable file not found in $PATH";
    assert_eq!(error.to_string(), wanted);
    assert!(!bundle.0.join("state.json").exists());
}

#[test]
fn tmpcopyup_starts_a_tmpfs_with_what_the_image_has() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let bundle = Bundle::new("copyup");
    let folder = bundle.0.join("rootfs/var/deep");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("file"), "text").unwrap();
    std::os::unix::fs::chown(folder.join("file"), Some(12), Some(34)).unwrap();
    std::fs::set_permissions(folder.join("file"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("/etc/passwd", folder.join("link")).unwrap();
    let mut spec = spec(
        "cd /var/deep; busybox cat file; busybox stat -c ' %a %u %g' file; busybox readlink link; busybox stat -f -c %T .",
    );
    let mut mounts = spec.mounts().clone().unwrap();
    let mount = oci::MountBuilder::default().destination("/var").typ("tmpfs").source("tmpfs");
    mounts.push(mount.options(vec!["tmpcopyup".to_owned()]).build().unwrap());
    spec.set_mounts(Some(mounts));
    let (reader, writer) = pipe();
    let (container, process) = bundle.create(spec, Some(writer)).unwrap();
    container.start().unwrap();
    assert_eq!(read(reader), "text 4755 12 34\n/etc/passwd\ntmpfs\n");
    assert_eq!(wait(&process), ExitStatus::Code(0));
    container.delete().unwrap();
}
