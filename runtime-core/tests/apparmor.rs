//! AppArmor: init and exec carry their profile, a missing one is named, and a runtime that is itself confined can still
//! label. Where the kernel has no AppArmor (most test machines), the tests say that they were skipped.

#![allow(clippy::unwrap_used, clippy::panic)]

mod bundle;

use std::io::Write as _;
use std::process::{Command, Stdio};

use bundle::{Bundle, captured, config, text, wait};
use runtime_core::{Exec, ExitStatus};
use serde_json::{Value, json};

/// A profile that is loaded for as long as the value lives.
struct Profile(String);

impl Profile {
    /// One that allows everything but what `denied` says.
    fn load(name: &str, denied: &str) -> Self {
        let name = format!("tare-test-{}-{name}", std::process::id());
        let rules = "file, mount, umount, remount, pivot_root, capability, network, unix, signal, ptrace, \
                     change_profile -> **,";
        let text = format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{ {rules} {denied} }}\n");
        let mut command = Command::new("apparmor_parser");
        let mut parser = command.args(["--replace", "--skip-cache"]).stdin(Stdio::piped()).spawn().unwrap();
        parser.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(parser.wait().unwrap().success(), "{text}");
        Self(name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = std::fs::write("/sys/kernel/security/apparmor/.remove", &self.0);
    }
}

/// Says that there is nothing to be tested here.
fn skipped() -> bool {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let skip = enabled.is_ok_and(|text| text.starts_with('N'))
        || !std::path::Path::new("/sys/kernel/security/apparmor").exists();
    if skip {
        println!("SKIPPED: this kernel has no AppArmor");
    }
    skip
}

fn labelled(script: &str, profile: &str) -> Value {
    let mut config = config(script);
    config["process"]["apparmorProfile"] = json!(profile);
    config
}

const LABEL: &str = "cat /proc/self/attr/apparmor/current; cat /etc/secret || echo denied";

fn with_secret(bundle: &Bundle) {
    std::fs::write(bundle.0.join("rootfs/etc/secret"), "seen\n").unwrap();
}

#[test]
fn init_and_exec_carry_the_profile() {
    if skipped() {
        return;
    }
    let profile = Profile::load("label", "deny /etc/secret r,");
    for no_new_privileges in [false, true] {
        let bundle = Bundle::new(&format!("apparmor-{no_new_privileges}"));
        with_secret(&bundle);
        let mut config = labelled(&format!("{LABEL}; sleep 1000"), &profile.0);
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let (reader, stdio) = captured();
        let (container, init) = bundle.create(&config, stdio).unwrap();
        container.start().unwrap();
        let expected = format!("{} (enforce)\n", profile.0);
        assert_eq!(bundle::line(&reader), expected);
        let (reader, stdio) = captured();
        config["process"]["args"] = json!(["sh", "-c", LABEL]);
        let process = serde_json::from_value(config["process"].clone()).unwrap();
        let exec = container.exec(Exec::new(process, stdio)).unwrap();
        let output = text(reader);
        assert!(output.starts_with(&expected) && output.ends_with("denied\n"), "{output}");
        assert_eq!(wait(&exec), ExitStatus::Code(0));
        container.delete().unwrap();
        assert_eq!(wait(&init), ExitStatus::Signal(9));
    }
}

#[test]
fn a_profile_that_is_not_loaded_is_named_and_nothing_is_left() {
    if skipped() {
        return;
    }
    let bundle = Bundle::new("apparmor-missing");
    let error = bundle.create(&labelled("true", "tare-test-no-such"), bundle::silent()).unwrap_err().to_string();
    assert!(
        error.contains("apply apparmor profile tare-test-no-such, which has to be loaded: no such file"),
        "{error}"
    );
    assert!(!bundle.0.join("state.json").exists());
}

/// As LXC and Proxmox do it, the outer profile forbids most of /sys and /proc/sys by path; a procfs that is attached
/// nowhere looks to such rules as if it were mounted on /.
#[test]
fn a_runtime_in_an_outer_profile_labels_its_container() {
    const INSIDE: &str = "TARE_TEST_CONFINED";
    if let Ok(profile) = std::env::var(INSIDE) {
        let bundle = Bundle::new("apparmor-nested");
        with_secret(&bundle);
        let (status, output) = bundle.run(&labelled(LABEL, &profile));
        assert_eq!(status, ExitStatus::Code(0), "{output}");
        assert!(output.starts_with(&format!("{profile} (enforce)\n")) && output.ends_with("denied\n"), "{output}");
        return;
    }
    if skipped() {
        return;
    }
    let denied = "deny /sys/[^fdc]*/** wklx, deny /proc/sys/kernel/** wklx,";
    let (outer, inner) = (Profile::load("outer", denied), Profile::load("inner", "deny /etc/secret r,"));
    let mut command = Command::new("aa-exec");
    command.args(["-p", &outer.0, "--"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "a_runtime_in_an_outer_profile_labels_its_container", "--nocapture"]);
    assert!(command.env(INSIDE, &inner.0).status().unwrap().success());
}
