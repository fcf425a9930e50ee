//! What passes between a caller and a runtime beside text: pid files, sockets that get a console or a pidfd, descriptors
//! for the container, and the word of a service that it is ready.

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use integration::oci::Host;
use integration::{Product, spec};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::{eventually, refused};

/// What arrives in one message: a descriptor and the text beside it.
fn receive(socket: impl std::os::fd::AsFd) -> Result<(Option<OwnedFd>, String)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4096];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let length = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((descriptor, String::from_utf8_lossy(&bytes[..length]).into_owned()))
}

fn with_terminal(config: &mut serde_json::Value) {
    config["process"]["terminal"] = true.into();
    spec::args(config, &["sh", "-c", "tty; stty size; read line; echo got $line"]);
}

#[test]
fn a_console_goes_to_the_socket() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.bundle("c", with_terminal)?;
    refused(&host.create("c", &bundle)?, "cannot allocate tty if");
    let path = host.folder().join("console");
    let listener = UnixListener::bind(&path)?;
    let bundle = bundle.to_string_lossy();
    let path = path.to_string_lossy();
    host.say(&["create", "--bundle", &bundle, "--console-socket", &path, "c"])?.done();
    let (master, _) = receive(listener.accept()?.0)?;
    let master = fs::File::from(master.context("no descriptor")?);
    host.say(&["start", "c"])?.done();
    std::io::Write::write_all(&mut &master, b"word\n")?;
    let mut screen = String::new();
    // A terminal ends with EIO.
    let _ = std::io::Read::read_to_string(&mut &master, &mut screen);
    assert!(screen.contains("/dev/pts/0") && screen.contains("got word"), "{screen:?}");
    host.say(&["delete", "--force", "c"])?.done();

    // crun makes the container, and would be waited for through the pipe that it holds.
    if Product::under_test() != Product::Crun {
        let plain = host.bundle("d", |_| {})?;
        let said = host.say(&["create", "--bundle", &plain.to_string_lossy(), "--console-socket", &path, "d"])?;
        refused(&said, "cannot use console socket if");
    }
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

#[test]
fn pid_file_and_pidfd_name_the_first_process() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.bundle("c", |_| {})?;
    let file = host.folder().join("pid");
    let socket = host.folder().join("pidfd");
    let listener = UnixListener::bind(&socket)?;
    let mut command = host.command();
    command.args(["create", "--pid-file"]).arg(&file).arg("--bundle").arg(&bundle).stdout(Stdio::null());
    let takes_pidfd = Product::under_test() == Product::Tare;
    if takes_pidfd {
        command.arg("--pidfd-socket").arg(&socket);
    }
    assert!(command.arg("c").status()?.success());
    let pid = host.pid("c")?;
    assert_eq!(fs::read_to_string(&file)?, pid.to_string());
    if takes_pidfd {
        use std::os::fd::AsRawFd as _;
        let (pidfd, _) = receive(listener.accept()?.0)?;
        let pidfd = pidfd.context("no descriptor")?;
        let described = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
        assert!(described.contains(&format!("Pid:\t{pid}\n")), "{described}");
    }
    host.say(&["start", "c"])?.done();
    let exec = host.folder().join("exec-pid");
    let mut command = host.command();
    command.args(["exec", "--detach", "--pid-file"]).arg(&exec).args(["c", "sleep", "100"]).stdout(Stdio::null());
    assert!(command.status()?.success());
    let joined = fs::read_to_string(&exec)?;
    let listed = host.say(&["ps", "--format", "json", "c"])?.done();
    assert!(listed.contains(&joined), "{joined} is not in {listed}");
    host.say(&["delete", "--force", "c"])?.done();
    Ok(())
}

#[test]
fn a_pid_file_that_cannot_be_written_leaves_no_container() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.bundle("c", |_| {})?;
    let mut command = host.command();
    command.args(["create", "--pid-file", "/nonexistent/pid", "--bundle"]).arg(&bundle).arg("c");
    assert!(!command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success());
    if Product::under_test() == Product::Tare {
        assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    }
    host.say(&["delete", "--force", "c"])?;
    Ok(())
}

/// Runs the runtime below a shell, which opens 3 and 4 as the two files `three` and `four`.
fn below_a_shell(host: &Host, before: &str, args: &str) -> Result<std::process::Output> {
    let folder = host.folder().display();
    let runtime = host.runtime().display();
    let script = format!(
        "cd {folder}; echo three > three; echo four > four; exec 3<three 4<four; {before} \
         exec {runtime} --root {} {args}",
        host.state().display()
    );
    Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().context("run a shell")
}

#[test]
fn descriptors_that_are_preserved_arrive_and_no_others() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.bundle("c", |config| spec::args(config, &["sh", "-c", "cat <&3; ls /proc/self/fd"]))?;
    for (flags, first, descriptors) in
        [("--preserve-fds 1", Some("three"), "0\n1\n2\n3\n"), ("--preserve-fds=2", Some("three"), "0\n1\n2\n3\n4\n")]
    {
        let output = below_a_shell(&host, "", &format!("run {flags} --bundle {} c", bundle.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(first.is_none_or(|first| text.starts_with(first)), "{flags}: {output:?}");
        // `ls` has one more, for the folder it reads.
        assert!(text.contains(descriptors), "{flags}: {output:?}");
    }
    let output = below_a_shell(&host, "", &format!("run --bundle {} c", bundle.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("three"), "{output:?}");
    host.start("d", |_| {})?;
    let output = below_a_shell(&host, "", "exec --preserve-fds 2 d sh -c 'cat <&4'")?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "four\n", "{output:?}");
    host.say(&["delete", "--force", "d"])?.done();
    Ok(())
}

#[test]
fn sockets_of_activation_are_passed_on() -> Result<()> {
    let host = Host::new()?;
    let script = "cat <&3; echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES";
    let bundle = host.bundle("c", |config| spec::args(config, &["sh", "-c", script]))?;
    let before = "export LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=a:b;";
    let output = below_a_shell(&host, before, &format!("run --bundle {} c", bundle.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // crun does not say how many there are.
    let expected = if Product::under_test() == Product::Crun { "three\n" } else { "three\n2 1" };
    assert!(text.starts_with(expected), "{output:?}");
    Ok(())
}

/// A service manager's socket.
fn manager(host: &Host) -> Result<(UnixDatagram, std::path::PathBuf)> {
    let path = host.folder().join("manager");
    Ok((UnixDatagram::bind(&path)?, path))
}

#[test]
fn a_service_says_that_it_is_ready() -> Result<()> {
    if Product::under_test() != Product::Tare {
        // Here neither runc 1.3 nor crun 1.28 passes anything on within twenty seconds; why is not known.
        return Ok(());
    }
    let host = Host::new()?;
    let (socket, path) = manager(&host)?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20)))?;
    // busybox cannot send datagrams: the word comes from the host, through the socket that the container is shown.
    let script = "test -S $NOTIFY_SOCKET && echo $NOTIFY_SOCKET > /tmp/where; sleep 1000";
    let bundle = host.bundle("c", |config| {
        config["root"]["readonly"] = false.into();
        spec::args(config, &["sh", "-c", script]);
    })?;
    let mut command = host.command();
    command.env("NOTIFY_SOCKET", &path).args(["run", "--detach", "--bundle"]).arg(&bundle).arg("c");
    let mut run = command.stdout(Stdio::null()).spawn()?;
    let told = host.rootfs().join("tmp/where");
    assert!(eventually(|| fs::read_to_string(&told).is_ok_and(|text| text.ends_with('\n'))), "no socket inside");
    assert_eq!(fs::read_to_string(&told)?, "/run/notify/notify.sock\n");
    let pid = host.pid("c")?;
    let inside = format!("/proc/{pid}/root/run/notify/notify.sock");
    let inside = if Path::new(&inside).exists() { inside } else { anyhow::bail!("{inside} is not there") };
    UnixDatagram::unbound()?.send_to(b"STATUS=up\nREADY=1\n", inside)?;
    let mut said = String::new();
    while !said.contains("MAINPID=") || !said.contains("BARRIER=1") {
        // What comes with a descriptor is dropped here, which answers a barrier.
        said += &receive(&socket).with_context(|| format!("after {said:?}"))?.1;
    }
    assert!(said.contains("READY=1") && said.contains(&format!("MAINPID={pid}")), "{said:?}");
    assert!(run.wait()?.success());
    host.say(&["delete", "--force", "c"])?.done();
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}
