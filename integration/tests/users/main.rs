//! The real users of an OCI runtime: Podman and Docker, with the runtime under test in runc's place. What containerd and the
//! command line do by themselves is tested elsewhere.
//!
//! `TARE_UNDER_TEST=runc cargo test -p integration --test users` proves the tests themselves. `TARE_DOCKERD` names another
//! dockerd than Debian's (for the command line) and the peer's (for the shim).

mod docker;
mod docker_build;
mod docker_life;
mod podman;
mod podman_life;
mod rootless;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration::oci::{Said, run};

/// Runs a command with something to read.
fn fed(command: &mut Command, input: &str) -> Result<Said> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no pipe")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
}

/// Runs a command on a terminal of its own, which script(1) makes; the words must not need quotes.
fn on_terminal(command: &Command) -> Result<Said> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            script.env(name, value);
        }
    }
    run(&mut script)
}

/// Asks until the answer is right; the last answer is in the error.
fn soon(mut ask: impl FnMut() -> Result<String>, right: impl Fn(&str) -> bool) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = ask()?;
        if right(&answer) {
            return Ok(answer);
        }
        anyhow::ensure!(Instant::now() < deadline, "the answer stays {answer:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
