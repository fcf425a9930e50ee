//! Where the kernel is too old, or it, or a filter around tare, does not know a system call that nothing works without.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use integration::oci::{Host, run};
use integration::{shim_binary, skip_unless_tare};

/// The calls of docs/kernel.md that are calls of their own, and since when they are.
const NEEDED: [(&str, &str); 10] = [
    ("execveat", "3.19"),
    ("memfd_create", "3.17"),
    ("pidfd_send_signal", "5.1"),
    ("open_tree", "5.2"),
    ("move_mount", "5.2"),
    ("fsopen", "5.2"),
    ("clone3", "5.3"),
    ("openat2", "5.6"),
    ("close_range", "5.9"),
    ("mount_setattr", "5.12"),
];

fn without(call: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["-qq", "-f", "-o", "/dev/null", "-e", &format!("inject={call}:error=ENOSYS")]);
    command
}

/// Both binaries, started by `around` to make a container, end with this in one sentence; nothing is made.
fn refused(around: impl Fn() -> Command, sentence: &str) -> Result<()> {
    let host = Host::new()?;
    let bundle = host.bundle("floor", |_| {})?;
    let (mut create, mut start) = (around(), around());
    create.arg(host.runtime()).arg("--root").arg(host.state()).args(["create", "--bundle"]).arg(&bundle).arg("floor");
    start.arg(shim_binary().context("the shim is not built")?).current_dir(&bundle);
    start.args(["-namespace", &host.name(), "-id", "floor", "-address", "/nowhere", "start"]);
    for mut command in [create, start] {
        let said = run(command.stdin(Stdio::null()))?;
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        assert!(said.err.contains(sentence), "{said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    }
    assert!(!bundle.join("address").exists() && !bundle.join("state.json").exists());
    let left = host.leftovers();
    assert!(left.is_empty(), "{left}");
    Ok(())
}

#[test]
fn a_missing_system_call_is_named_in_one_sentence_and_nothing_is_done() -> Result<()> {
    if skip_unless_tare("the sentence is tare's") {
        return Ok(());
    }
    for (call, since) in NEEDED {
        let sentence = format!("tare needs the system call {call} (Linux {since}), which is not implemented here");
        refused(|| without(call), &sentence)?;
    }
    Ok(())
}

#[test]
fn an_old_kernel_is_named_in_one_sentence_and_nothing_is_done() -> Result<()> {
    if skip_unless_tare("the sentence is tare's") {
        return Ok(());
    }
    // For programs that do not expect another number, the kernel says so of itself (personality(2), UNAME26).
    let old = || {
        let mut command = Command::new("setarch");
        command.arg("--uname-2.6");
        command
    };
    refused(old, "tare needs Linux 5.14 or newer; this is 2.6.")
}
