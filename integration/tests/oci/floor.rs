//! Where the kernel, or a filter around tare, does not know a system call that nothing works without.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use integration::oci::{Host, run};
use integration::{shim_binary, skip_unless_tare};

/// The calls of docs/kernel.md that are calls of their own.
const NEEDED: [&str; 10] = [
    "execveat",
    "memfd_create",
    "pidfd_send_signal",
    "open_tree",
    "move_mount",
    "fsopen",
    "clone3",
    "openat2",
    "close_range",
    "mount_setattr",
];

fn without(call: &str, program: &std::path::Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-qq", "-f", "-o", "/dev/null", "-e", &format!("inject={call}:error=ENOSYS")]);
    command.arg(program).stdin(Stdio::null());
    command
}

#[test]
fn a_missing_system_call_is_named_in_one_sentence_and_nothing_is_done() -> Result<()> {
    if skip_unless_tare("the sentence is tare's") {
        return Ok(());
    }
    let host = Host::new()?;
    let bundle = host.bundle("floor", |_| {})?;
    let shim = shim_binary().context("the shim is not built")?;
    for call in NEEDED {
        let mut create = without(call, host.runtime());
        create.arg("--root").arg(host.state()).args(["create", "--bundle"]).arg(&bundle).arg("floor");
        let mut start = without(call, &shim);
        start.args(["-namespace", &host.name(), "-id", "floor", "-address", "/nowhere", "start"]).current_dir(&bundle);
        for mut command in [create, start] {
            let said = run(&mut command)?;
            assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
            let sentence = format!("tare needs the system call {call} (Linux ");
            assert!(said.err.contains(&sentence) && said.err.contains("which is not implemented here"), "{said:?}");
            assert_eq!(said.err.lines().count(), 1, "{said:?}");
        }
        assert!(!bundle.join("address").exists() && !bundle.join("state.json").exists());
    }
    let left = host.leftovers();
    assert!(left.is_empty(), "{left}");
    Ok(())
}
