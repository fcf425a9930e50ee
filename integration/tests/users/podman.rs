//! Podman runs programs: what it shows of them, and of those that cannot be run.

use anyhow::Result;
use integration::home::ended;
use integration::podman::{IMAGE, Podman};

use crate::{fed, on_terminal, soon};

#[test]
fn podman_runs_a_program_to_its_end() -> Result<()> {
    let Some(podman) = Podman::new()? else { return Ok(()) };
    assert_eq!(podman.run(&["--rm"], &["echo", "hi"])?.done(), "hi\n");
    ended(&podman.run(&["--rm"], &["sh", "-c", "exit 7"])?, 7);
    let mut cat = podman.command();
    cat.args(["run", "--rm", "-i", "--cgroup-parent", &podman.home.cgroup(), IMAGE, "cat"]);
    assert_eq!(fed(&mut cat, "through a pipe\n")?.done(), "through a pipe\n");
    let options = ["--rm", "--user", "1000:2000", "-w", "/tmp", "-e", "A=b", "--tmpfs", "/t:size=1m", "--read-only"];
    let who = podman.run(&options, &["sh", "-c", "id -u; id -g; pwd; echo $A; touch /x || echo sealed"])?;
    assert_eq!(who.done(), "1000\n2000\n/tmp\nb\nsealed\n");
    let mapped = podman.run(&["--rm", "--uidmap", "0:100000:65536"], &["cat", "/proc/self/uid_map"])?.done();
    assert_eq!(mapped.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    Ok(())
}

/// Podman finds the exit code in the words of the error.
#[test]
fn podman_understands_why_a_program_cannot_be_run() -> Result<()> {
    let Some(podman) = Podman::new()? else { return Ok(()) };
    podman.run(&["-d", "--name", "there"], &["sleep", "1000"])?.done();
    for (program, code, words) in [
        ("nosuch", 127, "OCI runtime attempted to invoke a command that was not found"),
        ("/etc/passwd", 126, "OCI permission denied"),
    ] {
        let said = podman.run(&["--rm"], &[program])?;
        ended(&said, code);
        assert!(said.err.contains(words) && said.err.contains(&format!("exec: {program:?}: ")), "{said:?}");
        let said = podman.say(&["exec", "there", program])?;
        ended(&said, code);
        let prefix = format!("exec failed: unable to start container process: exec: {program:?}: ");
        assert!(said.err.contains(words) && said.err.contains(&prefix), "{said:?}");
    }
    podman.say(&["rm", "-f", "-t", "0", "there"])?.done();
    Ok(())
}

#[test]
fn podman_gives_a_terminal() -> Result<()> {
    // Each stays a moment: what a program says that has ended a millisecond after its start is sometimes lost between
    // conmon and Podman 4.3 (seen with tare 2 times in 12, with runc, which starts slower, never).
    let Some(podman) = Podman::new()? else { return Ok(()) };
    let mut command = podman.command();
    command.args([
        "run",
        "--rm",
        "-it",
        "--cgroup-parent",
        &podman.home.cgroup(),
        IMAGE,
        "sh",
        "-c",
        "tty; sleep 0.2; exit 3",
    ]);
    let said = on_terminal(&command)?;
    ended(&said, 3);
    assert!(said.out.contains("/dev/pts/0"), "{said:?}");
    podman.run(&["-d", "--name", "there"], &["sleep", "1000"])?.done();
    let mut command = podman.command();
    command.args(["exec", "-it", "there", "sh", "-c", "tty; sleep 0.2; exit 4"]);
    let said = on_terminal(&command)?;
    ended(&said, 4);
    assert!(said.out.contains("/dev/pts/"), "{said:?}");
    podman.say(&["rm", "-f", "-t", "0", "there"])?.done();
    Ok(())
}

#[test]
fn podman_executes_in_a_container() -> Result<()> {
    let Some(podman) = Podman::new()? else { return Ok(()) };
    podman.run(&["-d", "--name", "there"], &["sleep", "1000"])?.done();
    let args = ["exec", "-u", "1000", "-w", "/tmp", "-e", "A=b", "there", "sh", "-c", "id -u; pwd; echo $A; exit 5"];
    let said = podman.say(&args)?;
    ended(&said, 5);
    assert_eq!(said.out, "1000\n/tmp\nb\n");
    assert_eq!(fed(podman.command().args(["exec", "-i", "there", "cat"]), "in\n")?.done(), "in\n");
    podman.say(&["exec", "-d", "there", "touch", "/tmp/detached"])?.done();
    soon(|| Ok(podman.say(&["exec", "there", "ls", "/tmp"])?.out), |names| names == "detached\n")?;
    podman.say(&["rm", "-f", "-t", "0", "there"])?.done();
    Ok(())
}

#[test]
fn podman_builds_an_image() -> Result<()> {
    let Some(podman) = Podman::new()? else { return Ok(()) };
    std::fs::write(
        podman.home.path("Containerfile"),
        format!("FROM {IMAGE}\nRUN echo stone > /built\nCMD cat /built\n"),
    )?;
    let file = podman.home.text("Containerfile");
    let parent = podman.home.cgroup();
    let runtime = podman.home.runtime.to_string_lossy().into_owned();
    // Buildah, which does it, takes its own options.
    let build =
        ["build", "-q", "--network", "none", "--isolation", "oci", "--runtime", &runtime, "--cgroup-parent", &parent];
    podman.say(&[&build[..], &["-t", "built", "-f", &file]].concat())?.done();
    assert_eq!(podman.say(&["run", "--rm", "--cgroup-parent", &parent, "built"])?.done(), "stone\n");
    Ok(())
}
