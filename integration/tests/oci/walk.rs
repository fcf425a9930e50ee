//! What a person tries first with runc, step by step: each gives the same here.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use integration::oci::{Host, Said, run};
use integration::{Product, machine, pace, spec, unpack_image};
use serde_json::Value;

use crate::{eventually, refused};

/// A command in the bundle's folder, as a person would give it, on a terminal of `script(1)`.
fn on_a_terminal(host: &Host, folder: &std::path::Path, line: &str, keys: &str) -> Result<Said> {
    let runtime = host.runtime().display();
    let inner = format!("stty rows 33 cols 99; {runtime} --root {} {line}", host.state().display());
    let limit = pace::patience(Duration::from_secs(20)).as_secs().to_string();
    let mut command = Command::new("timeout");
    command.args([&*limit, "script", "--quiet", "--return", "--command", &inner, "/dev/null"]).current_dir(folder);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("no input")?, keys.as_bytes())?;
    let output = child.wait_with_output()?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(Said { code: output.status.code(), out, err: String::from_utf8_lossy(&output.stderr).into_owned() })
}

#[test]
fn the_first_walk_with_a_runtime() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.folder().join("my-bundle");
    fs::create_dir(&bundle)?;
    let say = |args: &[&str]| run(host.command().args(args).current_dir(&bundle));

    say(&["spec"])?.done();
    let config = bundle.join("config.json");
    let mut written: Value = serde_json::from_str(&fs::read_to_string(&config)?)?;
    assert_eq!((&written["process"]["terminal"], &written["process"]["args"][0]), (&true.into(), &"sh".into()));
    refused(&say(&["spec"])?, "File config.json exists. Remove it first");

    // Nothing to run yet, then nothing to execute.
    let said = on_a_terminal(&host, &bundle, "run test", "")?;
    assert_ne!(said.code, Some(0));
    if Product::under_test() == Product::Tare {
        let expected = format!("tare run failed: rootfs ({}) does not exist", bundle.join("rootfs").display());
        assert!(said.out.contains(&expected), "{said:?}");
    }
    let rootfs = bundle.join("rootfs");
    fs::create_dir(&rootfs)?;
    let said = on_a_terminal(&host, &bundle, "run test", "")?;
    assert_ne!(said.code, Some(0));
    assert!(said.out.contains("executable file"), "{said:?}");
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());

    // An image, and a shell on a terminal.
    unpack_image(&rootfs)?;
    let said = on_a_terminal(&host, &bundle, "run test", "tty; stty size; echo $((6*7)); exit 3\n")?;
    assert!(said.out.contains("/dev/pts/0") && said.out.contains("33 99") && said.out.contains("42"), "{said:?}");
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());

    // A container that stays.
    written["process"]["terminal"] = false.into();
    spec::args(&mut written, &["sleep", "infinity"]);
    written["linux"]["cgroupsPath"] = format!("/{}/test", host.name()).into();
    fs::write(&config, written.to_string())?;
    let detached =
        host.command().args(["run", "test", "--detach"]).current_dir(&bundle).stdout(Stdio::null()).status()?;
    assert!(detached.success());
    let listed = say(&["list"])?.done();
    assert!(listed.contains("test") && listed.contains("running"), "{listed}");
    let shown = say(&["exec", "test", "ps"])?.done();
    let first = shown.lines().nth(1).unwrap_or_default();
    assert!(first.trim_start().starts_with("1 ") && first.contains("sleep infinity"), "{shown}");
    let pid = host.pid("test")?;
    if Product::under_test() != Product::Crun {
        let record: Value = serde_json::from_str(&fs::read_to_string(host.state().join("test/state.json"))?)?;
        assert_eq!(record["init_process_pid"], pid);
    }
    for kind in ["pid", "mnt", "net", "ipc", "uts"] {
        let space = |of: &str| fs::read_link(format!("/proc/{of}/ns/{kind}"));
        assert_ne!(space(&pid.to_string())?, space("self")?, "{kind}");
    }
    say(&["delete", "--force", "test"])?.done();
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

#[test]
fn a_container_in_the_foreground_ends_with_who_runs_it() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.bundle("front", |_| {})?;
    let mut command = host.command();
    let mut front = command.args(["run", "front", "--bundle"]).arg(&bundle).stdout(Stdio::null()).spawn()?;
    let running = || host.say(&["state", "front"]).is_ok_and(|said| said.out.contains("\"running\""));
    assert!(eventually(running), "it starts");
    let pid = host.pid("front")?;
    front.kill()?;
    front.wait()?;
    if Product::under_test() == Product::Tare {
        assert!(eventually(|| !machine::alive(pid)), "its container lives on");
        host.say(&["delete", "front"])?.done();
    } else {
        host.say(&["delete", "--force", "front"])?.done();
    }
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

/// A user of the host who is nobody special.
const USER: u32 = 1000;

#[test]
fn the_walk_without_root() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.folder().join("rootless");
    let runtime_folder = bundle.join("run");
    fs::create_dir_all(bundle.join("rootfs"))?;
    fs::create_dir(&runtime_folder)?;
    unpack_image(&bundle.join("rootfs"))?;
    run(Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(&bundle))?.done();
    let say = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={USER}")).arg(format!("--regid={USER}")).args(["--clear-groups", "--"]);
        command.arg(host.runtime()).args(args).current_dir(&bundle).stdin(Stdio::null());
        run(command.env("XDG_RUNTIME_DIR", &runtime_folder).env_remove("USER"))
    };
    say(&["spec", "--rootless"])?.done();
    let edit = |args: &[&str]| -> Result<()> {
        let mut config: Value = serde_json::from_str(&fs::read_to_string(bundle.join("config.json"))?)?;
        config["process"]["terminal"] = false.into();
        spec::args(&mut config, args);
        Ok(fs::write(bundle.join("config.json"), config.to_string())?)
    };
    edit(&["sh", "-c", "id -u; exit 5"])?;
    let said = say(&["run", "c"])?;
    assert_eq!((said.code, said.out.as_str()), (Some(5), "0\n"), "{said:?}");
    edit(&["sh", "-c", "exec sleep 1000 <>/dev/null >&0 2>&0"])?;
    say(&["run", "--detach", "c"])?.done();
    let listed = say(&["list"])?.done();
    assert!(listed.contains("running"), "{listed}");
    let shown = say(&["exec", "c", "ps"])?.done();
    assert!(shown.contains("sleep 1000"), "{shown}");
    say(&["kill", "c", "KILL"])?.done();
    say(&["delete", "--force", "c"])?.done();
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}
