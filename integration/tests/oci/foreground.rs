//! A process that somebody waits for: its exit code, its signals, its terminal, its orphans.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use integration::oci::Host;
use integration::{Product, machine, pace, spec};
use rustix::process::{Pid, Signal, kill_process};

use crate::eventually;

/// A runtime at work, whose output goes to a file.
fn begin(host: &Host, args: &[&str]) -> Result<Child> {
    let output = fs::File::create(host.folder().join("output"))?;
    host.command().args(args).stdout(output.try_clone()?).stderr(output).spawn().context("begin")
}

fn output(host: &Host) -> String {
    fs::read_to_string(host.folder().join("output")).unwrap_or_default()
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a pid")?;
    kill_process(pid, signal).context("kill")
}

#[test]
fn the_exit_code_is_the_processs_own() -> Result<()> {
    let host = Host::new()?;
    host.start("c", |_| {})?;
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -9 $$", 137)]
    {
        assert_eq!(host.say(&["exec", "c", "sh", "-c", script])?.code, Some(code), "exec {script}");
    }
    host.say(&["delete", "-f", "c"])?.done();
    for (script, code) in [("exit 0", 0), ("exit 7", 7)] {
        let bundle = host.bundle("d", |config| spec::args(config, &["sh", "-c", script]))?;
        let said = host.say(&["run", "--bundle", &bundle.to_string_lossy(), "d"])?;
        assert_eq!(said.code, Some(code), "run {script}: {said:?}");
    }
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

#[test]
fn signals_are_passed_on() -> Result<()> {
    let host = Host::new()?;
    let script = "trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let bundle = host.bundle("c", |config| spec::args(config, &["sh", "-c", script]))?;
    let mut run = begin(&host, &["run", "--bundle", &bundle.to_string_lossy(), "c"])?;
    assert!(eventually(|| output(&host).contains("ready")), "{}", output(&host));
    signal(&run, Signal::USR1)?;
    assert!(eventually(|| output(&host).contains("usr1")), "{}", output(&host));
    signal(&run, Signal::TERM)?;
    assert_eq!(run.wait()?.code(), Some(9), "{}", output(&host));
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

#[test]
fn a_kept_container_is_there_after_its_end() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.bundle("c", |config| spec::args(config, &["true"]))?;
    host.say(&["run", "--keep", "--bundle", &bundle.to_string_lossy(), "c"])?.done();
    assert!(host.say(&["state", "c"])?.done().contains("\"stopped\""));
    host.say(&["delete", "c"])?.done();
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

#[test]
fn what_a_container_without_a_pid_namespace_leaves_is_reaped_and_killed() -> Result<()> {
    if Product::under_test() == Product::Crun {
        // It stays for as long as the longest orphan.
        return Ok(());
    }
    let host = Host::new()?;
    // Its orphan ends before it does: nobody but the runtime can reap that. The other one would live on.
    let script = "(sleep 0.1 &) ; (sleep 500 &) ; sleep 0.5";
    let bundle = host.bundle("c", |config| {
        spec::without_namespace(config, "pid");
        spec::args(config, &["sh", "-c", script]);
    })?;
    let mut run = begin(&host, &["run", "--bundle", &bundle.to_string_lossy(), "c"])?;
    let runtime = run.id();
    let zombies = || {
        machine::pids().into_iter().any(|pid| {
            machine::status(pid, "PPid").as_deref() == Some(&runtime.to_string())
                && machine::status(pid, "State").is_some_and(|state| state.starts_with('Z'))
        })
    };
    std::thread::sleep(Duration::from_millis(300));
    assert!(!zombies(), "an orphan is a zombie still");
    assert_eq!(run.wait()?.code(), Some(0), "{}", output(&host));
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

/// A shell's line on a terminal of `script(1)`, within half a minute.
fn on_a_terminal(line: &str) -> Command {
    let limit = pace::patience(Duration::from_secs(30)).as_secs().to_string();
    let mut command = Command::new("timeout");
    command.args([&*limit, "script", "--quiet", "--command", line, "/dev/null"]);
    command
}

#[test]
fn a_terminal_of_the_caller_is_used_and_given_back() -> Result<()> {
    let host = Host::new()?;
    host.start("c", |_| {})?;
    let runtime = format!("{} --root {}", host.runtime().display(), host.state().display());
    let inner = format!(
        "stty rows 21 cols 77; before=$(stty -g); {runtime} exec --tty c sh -c 'tty; stty size; cat; exit 4'; \
         echo code $?; test \"$before\" = \"$(stty -g)\" && echo as before"
    );
    let mut child = on_a_terminal(&inner).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = child.stdout.take().context("no output")?;
    let mut text = Vec::new();
    while !text.ends_with(b"21 77\r\n") {
        let mut byte = [0];
        said.read_exact(&mut byte).with_context(|| String::from_utf8_lossy(&text).into_owned())?;
        text.extend(byte);
    }
    // ^D ends `cat`, and is no end of input to anybody outside: the caller's terminal is raw.
    child.stdin.as_mut().context("no input")?.write_all(b"hello\n\x04")?;
    said.read_to_end(&mut text)?;
    child.wait()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    for words in ["/dev/pts/0", "21 77", "hello", "code 4", "as before"] {
        assert!(text.contains(words), "{words:?} is not in {text:?}");
    }
    host.say(&["delete", "-f", "c"])?.done();
    Ok(())
}

#[test]
fn all_that_a_terminal_has_said_arrives() -> Result<()> {
    let host = Host::new()?;
    host.start("c", |_| {})?;
    let runtime = format!("{} --root {}", host.runtime().display(), host.state().display());
    let inner =
        format!("{runtime} exec --tty c sh -c 'i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done'");
    let output = on_a_terminal(&inner).stdin(Stdio::null()).output()?;
    assert!(output.status.signal().is_none());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = text.lines().filter_map(|line| line.split_once("line ")).map(|(_, number)| number).collect();
    assert_eq!((lines.len(), lines.last().copied()), (20000, Some("19999")));
    host.say(&["delete", "-f", "c"])?.done();
    Ok(())
}

/// Unlike a container in the foreground, which has nobody else (`a_container_in_the_foreground_ends_with_who_runs_it`).
#[test]
fn an_exec_goes_on_when_who_runs_it_is_killed() -> Result<()> {
    let host = Host::new()?;
    host.start("c", |_| {})?;
    let running = || -> usize {
        let said = host.say(&["ps", "--format", "json", "c"]).map(|said| said.out).unwrap_or_default();
        serde_json::from_str::<Vec<u32>>(&said).map_or(0, |pids| pids.len())
    };
    let mut exec = host.command().args(["exec", "c", "sleep", "1000"]).spawn()?;
    assert!(crate::eventually(|| running() == 2), "the exec does not begin");
    // runc is in the cgroup for a moment before the program is.
    std::thread::sleep(std::time::Duration::from_millis(300));
    exec.kill()?;
    exec.wait()?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(running(), 2);
    host.say(&["delete", "-f", "c"])?.done();
    Ok(())
}
