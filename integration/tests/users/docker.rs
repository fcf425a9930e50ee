//! Docker runs programs: what it shows of them, and of those that cannot be run, with the command line and with the shim.

use anyhow::Result;
use integration::docker::{Docker, Face, shared};
use integration::home::ended;

use crate::{fed, on_terminal};

/// The same with each face of the runtime.
pub(crate) fn with_both(test: impl Fn(&Docker, Face) -> Result<()>) -> Result<()> {
    for face in Face::ALL {
        if let Some(docker) = shared(face)? {
            test(&docker, face)?;
        }
    }
    Ok(())
}

#[test]
fn docker_runs_a_program_to_its_end() -> Result<()> {
    with_both(|docker, _| {
        assert_eq!(docker.run(&["--rm"], &["echo", "hi"])?.done(), "hi\n");
        ended(&docker.run(&["--rm"], &["sh", "-c", "exit 7"])?, 7);
        let mut cat = docker.command();
        cat.args(["run", "--rm", "-i", "--network", "none", integration::docker::IMAGE, "cat"]);
        assert_eq!(fed(&mut cat, "through a pipe\n")?.done(), "through a pipe\n");
        let who = docker.run(
            &["--rm", "--user", "1000:2000", "-w", "/tmp", "-e", "A=b"],
            &["sh", "-c", "id -u; id -g; pwd; echo $A"],
        )?;
        assert_eq!(who.done(), "1000\n2000\n/tmp\nb\n");
        Ok(())
    })
}

/// dockerd finds the exit code in the words of the error.
#[test]
fn docker_understands_why_a_program_cannot_be_run() -> Result<()> {
    with_both(|docker, _| {
        for (program, code, words) in [
            ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH"),
            ("/nosuch", 127, "no such file or directory"),
            ("/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
        ] {
            let said = docker.run(&["--rm"], &[program])?;
            ended(&said, code);
            assert!(said.err.contains("OCI runtime create failed") && said.err.contains(words), "{said:?}");
        }
        let file = format!("{}:/etc", docker.home.text("rootfs.tar"));
        let said = docker.run(&["--rm", "-v", &file], &["true"])?;
        assert!(said.err.contains("Are you trying to mount a directory onto a file"), "{said:?}");
        Ok(())
    })
}

#[test]
fn docker_gives_a_terminal() -> Result<()> {
    with_both(|docker, face| {
        let name = format!("terminal-{face:?}");
        let mut command = docker.command();
        command.args([
            "run",
            "--rm",
            "-it",
            "--network",
            "none",
            integration::docker::IMAGE,
            "sh",
            "-c",
            "tty; exit 3",
        ]);
        let said = on_terminal(&command)?;
        ended(&said, 3);
        assert!(said.out.contains("/dev/pts/0"), "{said:?}");
        docker.run(&["-d", "--name", &name], &["sleep", "1000"])?.done();
        let mut command = docker.command();
        command.args(["exec", "-it", &name, "sh", "-c", "tty; exit 4"]);
        let said = on_terminal(&command)?;
        ended(&said, 4);
        assert!(said.out.contains("/dev/pts/"), "{said:?}");
        docker.say(&["rm", "-f", &name])?.done();
        Ok(())
    })
}

#[test]
fn docker_executes_in_a_container() -> Result<()> {
    with_both(|docker, face| {
        let name = format!("exec-{face:?}");
        docker.run(&["-d", "--name", &name], &["sleep", "1000"])?.done();
        let said = docker.say(&[
            "exec",
            "-u",
            "1000",
            "-w",
            "/tmp",
            "-e",
            "A=b",
            &name,
            "sh",
            "-c",
            "id -u; pwd; echo $A; exit 5",
        ])?;
        ended(&said, 5);
        assert_eq!(said.out, "1000\n/tmp\nb\n");
        let mut cat = docker.command();
        assert_eq!(fed(cat.args(["exec", "-i", &name, "cat"]), "in\n")?.done(), "in\n");
        docker.say(&["exec", "-d", &name, "touch", "/tmp/detached"])?.done();
        crate::soon(|| Ok(docker.say(&["exec", &name, "ls", "/tmp"])?.out), |names| names == "detached\n")?;
        for (program, words) in [("nosuch", "executable file not found in $PATH"), ("/etc/passwd", "permission denied")]
        {
            let said = docker.say(&["exec", &name, program])?;
            assert!(matches!(said.code, Some(126 | 127)), "{said:?}");
            let text = format!("{}{}", said.out, said.err);
            let whole = format!(
                "OCI runtime exec failed: exec failed: unable to start container process: exec: {program:?}: {words}"
            );
            assert!(text.contains(&whole), "{said:?}");
        }
        docker.say(&["rm", "-f", &name])?.done();
        Ok(())
    })
}

#[test]
fn docker_shares_the_namespaces_of_a_container() -> Result<()> {
    with_both(|docker, face| {
        let name = format!("shared-{face:?}");
        docker.run(&["-d", "--name", &name, "--ipc", "shareable"], &["sleep", "1000"])?.done();
        let namespaces = "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc";
        let own = docker.say(&["exec", &name, "sh", "-c", namespaces])?.done();
        let other = format!("container:{name}");
        let args = ["run", "--rm", "--network", &other, "--pid", &other, "--ipc", &other, integration::docker::IMAGE];
        let script = format!("{namespaces}; ps");
        let said = docker.say(&[&args[..], &["sh", "-c", &script]].concat())?.done();
        assert!(said.starts_with(&own) && said.contains("1 root     sleep 1000"), "{own} {said}");
        docker.say(&["rm", "-f", &name])?.done();
        Ok(())
    })
}
