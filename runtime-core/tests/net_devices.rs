//! `linux.netDevices` on the real kernel: what moves, what it keeps, and what comes back. Each test is alone in a network
//! namespace of its own, which is its host. Runs as root.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::path::Path;
use std::process::Command;

use bundle::{Bundle, config, push, silent, wait, with_user_namespace};
use runtime_core::{Container, Create, ExitStatus};
use serde_json::{Value, json};

/// Runs a test of this name in a network namespace of its own; `true` is the answer there.
fn alone_in_a_network(test: &str) -> bool {
    if std::env::var_os("TARE_TEST_ALONE").is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.arg("--net").arg(program).args(["--exact", test, "--nocapture"]);
    assert!(command.env("TARE_TEST_ALONE", "1").status().unwrap().success(), "{test}");
    false
}

/// What `ip` says; its words are split at spaces.
fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes the devices `net0` and `net1`, the first with addresses that move and one that does not.
fn devices() {
    ip("link add net0 type veth peer name net1");
    ip("link set net0 mtu 1400 address 00:11:22:33:44:55");
    for address in ["10.9.0.1/24", "10.9.0.7/32 scope link", "2001:db8::7/64 nodad"] {
        ip(&format!("addr add {address} dev net0"));
    }
    ip("link set net0 up");
}

fn with_devices(script: &str, devices: Value) -> Value {
    let mut config = config(script);
    config["linux"]["netDevices"] = devices;
    config
}

/// A process that holds a network namespace.
struct Holder(std::process::Child);

impl Holder {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "100"]).stdout(std::process::Stdio::null());
        let holder = Self(command.spawn().unwrap());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        while std::fs::read_link(holder.network()).unwrap() == own {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        holder
    }

    fn network(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SHOW: &str = "busybox ip addr show dev net0-inside";

/// Runs it to its end; what it says has to have these parts, and not those.
fn shows(bundle: &Bundle, config: &Value) {
    let (status, output) = bundle.run(config);
    assert_eq!(status, ExitStatus::Code(0), "{output}");
    for part in ["10.9.0.1/24", "2001:db8::7/64", "mtu 1400", "00:11:22:33:44:55", ",UP"] {
        assert!(output.contains(part), "{part}: {output}");
    }
    assert!(!output.contains("10.9.0.7"), "{output}");
}

#[test]
fn a_device_moves_with_its_permanent_global_addresses() {
    if !alone_in_a_network("a_device_moves_with_its_permanent_global_addresses") {
        return;
    }
    devices();
    let bundle = Bundle::new("net-moves");
    shows(&bundle, &with_devices(SHOW, json!({ "net0": { "name": "net0-inside" } })));
}

#[test]
fn a_device_moves_into_the_network_of_a_user_namespace() {
    if !alone_in_a_network("a_device_moves_into_the_network_of_a_user_namespace") {
        return;
    }
    devices();
    let bundle = Bundle::new("net-user");
    let mut config = with_devices(SHOW, json!({ "net0": { "name": "net0-inside" } }));
    with_user_namespace(&mut config);
    shows(&bundle, &config);
}

/// A network namespace that outlives its containers keeps what was moved into it, as with runc.
#[test]
fn a_device_stays_in_a_network_that_was_joined_and_comes_back_from_a_create_that_fails() {
    const NAME: &str = "a_device_stays_in_a_network_that_was_joined_and_comes_back_from_a_create_that_fails";
    if !alone_in_a_network(NAME) {
        return;
    }
    devices();
    let holder = Holder::new();
    let network = holder.network();
    let bundle = Bundle::new("net-joined");
    let mut config = with_devices(SHOW, json!({ "net0": { "name": "net0-inside" }, "net1": {} }));
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "network");
    push(&mut config["linux"]["namespaces"], json!({ "type": "network", "path": network }));
    let mut failing = config.clone();
    failing["process"]["args"] = json!(["no-such-program"]);
    let before = ip("addr show dev net0");
    let error = bundle.create(&failing, silent()).unwrap_err().to_string();
    assert!(error.contains("executable file not found"), "{error}");
    let after = ip("addr show dev net0");
    for part in ["10.9.0.1/24", "2001:db8::7/64", "mtu 1400", ",UP"] {
        assert!(before.contains(part) && after.contains(part), "{part}: {before}{after}");
    }
    ip("link show dev net1");
    shows(&bundle, &config);
    let inside = Command::new("nsenter").arg(format!("--net={network}")).args(["ip", "link"]).output().unwrap();
    assert!(String::from_utf8(inside.stdout).unwrap().contains("net0-inside"));
}

/// Whoever makes it is killed between the move and the end of the create, while a hook runs.
#[test]
fn a_device_comes_back_from_a_network_that_was_joined_when_its_maker_died() {
    const NAME: &str = "a_device_comes_back_from_a_network_that_was_joined_when_its_maker_died";
    if let Some(folder) = std::env::var_os("TARE_TEST_MAKER") {
        let config = serde_json::from_slice(&std::fs::read(Path::new(&folder).join("config.json")).unwrap()).unwrap();
        let create = Create::new("net-crash", folder.clone().into(), config, folder.into(), silent());
        let _ = Container::create(create);
        return;
    }
    if !alone_in_a_network(NAME) {
        return;
    }
    devices();
    let holder = Holder::new();
    let network = holder.network();
    let bundle = Bundle::new("net-crash");
    let mut config = with_devices("exit 0", json!({ "net0": { "name": "net0-inside" }, "net1": {} }));
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "network");
    push(&mut config["linux"]["namespaces"], json!({ "type": "network", "path": network }));
    let there = bundle.0.join("there");
    let script = format!("echo > {}; exec sleep 100", there.display());
    config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 20 }] });
    std::fs::write(bundle.0.join("config.json"), config.to_string()).unwrap();
    let mut maker = Command::new(std::env::current_exe().unwrap());
    maker.args(["--exact", NAME, "--nocapture"]).env("TARE_TEST_MAKER", &bundle.0);
    let mut maker = maker.stdout(std::process::Stdio::null()).spawn().unwrap();
    while !there.exists() {
        assert_eq!(maker.try_wait().unwrap(), None);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(!Command::new("ip").args(["link", "show", "dev", "net0"]).output().unwrap().status.success());
    maker.kill().unwrap();
    maker.wait().unwrap();
    assert!(runtime_core::remove(&bundle.0).unwrap().is_some());
    let back = ip("addr show dev net0");
    for part in ["10.9.0.1/24", "2001:db8::7/64", "mtu 1400", ",UP"] {
        assert!(back.contains(part), "{part}: {back}");
    }
    ip("link show dev net1");
}

#[test]
fn what_cannot_move_is_refused_by_name_and_nothing_has_moved() {
    if !alone_in_a_network("what_cannot_move_is_refused_by_name_and_nothing_has_moved") {
        return;
    }
    devices();
    let bundle = Bundle::new("net-refused");
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    let rows = [
        (json!({ "net0": {}, "nope": {} }), "link not found for interface nope on runtime namespace: no such device"),
        (json!({ "net0": {}, "net1": { "name": "lo" } }), "network namespace already has a lo"),
    ];
    for (devices, expected) in rows {
        let error = bundle.create(&with_devices("exit 0", devices), silent()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        ip("link show dev net0");
    }
    let mut config = with_devices("exit 0", json!({ "net0": {} }));
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "network");
    let error = bundle.create(&config, silent()).unwrap_err().to_string();
    assert!(error.contains("unable to move network devices without a NET namespace"), "{error}");
    push(&mut config["linux"]["namespaces"], json!({ "type": "network", "path": "/proc/self/ns/net" }));
    let error = bundle.create(&config, silent()).unwrap_err().to_string();
    assert!(error.contains("the net namespace to join is the host's own"), "{error} {host:?}");
    ip("link show dev net0");
}

#[test]
fn a_device_is_there_before_the_hooks_run() {
    if !alone_in_a_network("a_device_is_there_before_the_hooks_run") {
        return;
    }
    devices();
    let bundle = Bundle::new("net-hook");
    let mut config = with_devices("exit 0", json!({ "net0": {} }));
    let seen = bundle.0.join("seen");
    let script = format!("/usr/sbin/ip link show dev net0 > {}", seen.display());
    config["hooks"] = json!({ "createContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    let (container, init) = bundle.create(&config, silent()).unwrap();
    assert!(std::fs::read_to_string(seen).unwrap().contains("net0"));
    container.delete().unwrap();
    wait(&init);
}
