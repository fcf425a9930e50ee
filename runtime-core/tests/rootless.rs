//! Containers of somebody who is not root: one user mapped by themselves, or a range by newuidmap(1). Runs as root, and
//! again as an ordinary user.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use bundle::{Bundle, captured, config, text, wait};
use runtime_core::{Container, Exec, Status};
use serde_json::{Value, json};

/// Nobody's number; whoever has it on this machine owns nothing.
const USER: u32 = 54_321;

/// Runs a test of this name again, as an ordinary user; `true` is the answer there.
fn as_user(test: &str) -> bool {
    if std::env::var_os("TARE_TEST_USER").is_some() {
        return true;
    }
    // Where this program lies may be root's alone.
    let place = std::env::temp_dir().join(format!("tare-rootless-{}-{test}", std::process::id()));
    std::fs::create_dir(&place).unwrap();
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o777)).unwrap();
    let program = place.join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]).arg(&program);
    command.args(["--exact", test, "--nocapture"]).env("TARE_TEST_USER", "1").env("TMPDIR", &place);
    let status = command.current_dir(&place).status().unwrap();
    std::fs::remove_dir_all(&place).unwrap();
    assert!(status.success(), "{test}");
    false
}

/// A container of somebody who is root in it and nobody outside.
fn rootless(script: &str) -> Value {
    let mut config = config(script);
    let spaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    spaces.retain(|space| space["type"] != "network");
    spaces.push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config
}

#[test]
fn a_user_runs_a_container_as_its_root() {
    if !as_user("a_user_runs_a_container_as_its_root") {
        return;
    }
    let bundle = Bundle::new("rootless");
    let (status, output) = bundle.run(&rootless("id -u; echo $$; cat /proc/self/setgroups; touch /tmp/mine; exit 7"));
    assert_eq!((output.as_str(), status), ("0\n1\ndeny\n", runtime_core::ExitStatus::Code(7)));
}

#[test]
fn a_user_joins_and_ends_their_container() {
    if !as_user("a_user_joins_and_ends_their_container") {
        return;
    }
    let bundle = Bundle::new("rootless-exec");
    let config = rootless("exec sleep 1000");
    let (container, process) = bundle.create(&config, bundle::silent()).unwrap();
    container.start().unwrap();
    let mut member = config["process"].clone();
    member["args"] = json!(["sh", "-c", "id -u; grep -c . /proc/1/status >/dev/null && echo sees init"]);
    let (reader, stdio) = captured();
    let request = Exec::new(serde_json::from_value(member).unwrap(), stdio);
    let joined = container.exec(request).unwrap();
    assert_eq!(text(reader), "0\nsees init\n");
    wait(&joined);
    let found = Container::open(&bundle.0).unwrap().unwrap();
    found.signal(libc::SIGKILL).unwrap();
    wait(&process);
    container.delete().unwrap();
}

#[test]
fn who_may_not_set_groups_is_told() {
    if !as_user("who_may_not_set_groups_is_told") {
        return;
    }
    let bundle = Bundle::new("rootless-groups");
    let mut config = rootless("exit 0");
    config["process"]["user"]["additionalGids"] = json!([5]);
    let refused = bundle.create(&config, bundle::silent()).unwrap_err().to_string();
    assert!(refused.ends_with("process.user.additionalGids: cannot be set: setgroups is denied here"), "{refused}");
}

/// Nothing in /etc/subuid is this user's, and the tool says so.
#[test]
fn what_newuidmap_says_reaches_the_user() {
    if !as_user("what_newuidmap_says_reaches_the_user") {
        return;
    }
    let bundle = Bundle::new("rootless-range");
    let mut config = rootless("exit 0");
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    config["linux"]["uidMappings"] = map;
    let refused = bundle.create(&config, bundle::silent()).unwrap_err().to_string();
    assert!(refused.contains("map ids of the user namespace by newuidmap"), "{refused}");
}

/// Where procfs shows everybody their own processes alone, a stub, which nobody may look into, is hidden from its maker.
#[test]
fn a_user_finds_their_container_again_where_procfs_hides_processes() {
    const NAME: &str = "a_user_finds_their_container_again_where_procfs_hides_processes";
    if std::env::var_os("TARE_TEST_USER").is_none() && std::env::var_os("TARE_TEST_ALONE").is_none() {
        let program = std::env::current_exe().unwrap();
        let script = r#"mount --make-rprivate / && mount -t proc -o hidepid=2 proc /proc && exec "$0" "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(program).args(["--exact", NAME, "--nocapture"]);
        assert!(command.env("TARE_TEST_ALONE", "1").status().unwrap().success());
        return;
    }
    if !as_user(NAME) || bundle::skipped_before(6, 9, "telling a process by its pidfd") {
        return;
    }
    let bundle = Bundle::new("rootless-hidden");
    let config = rootless("exec sleep 1000");
    std::fs::write(bundle.0.join("config.json"), config.to_string()).unwrap();
    let mut request = bundle.request(&config, bundle::silent());
    request.gate = runtime_core::Gate::Anywhere;
    let (_, process) = Container::create(request).unwrap();
    let found = || Container::open(&bundle.0).unwrap().unwrap();
    assert_eq!(found().status().unwrap(), Status::Created);
    found().start().unwrap();
    assert_eq!(found().status().unwrap(), Status::Running);
    found().signal(libc::SIGKILL).unwrap();
    wait(&process);
    assert_eq!(found().status().unwrap(), Status::Stopped);
    found().delete().unwrap();
}

fn said_by_an_exec(container: &Container, config: &Value, script: &str) -> String {
    let mut member = config["process"].clone();
    member["args"] = json!(["sh", "-c", script]);
    let (reader, stdio) = captured();
    let joined = container.exec(Exec::new(serde_json::from_value(member).unwrap(), stdio)).unwrap();
    let said = text(reader);
    wait(&joined);
    said
}

#[test]
fn a_user_joins_their_container_before_it_is_started() {
    if !as_user("a_user_joins_their_container_before_it_is_started") {
        return;
    }
    let bundle = Bundle::new("rootless-created");
    let config = rootless("exec sleep 1000");
    std::fs::write(bundle.0.join("config.json"), config.to_string()).unwrap();
    let mut request = bundle.request(&config, bundle::silent());
    request.gate = runtime_core::Gate::Anywhere;
    let (_, process) = Container::create(request).unwrap();
    let found = Container::open(&bundle.0).unwrap().unwrap();
    assert_eq!(said_by_an_exec(&found, &config, "id -u; ls /proc/1 >/dev/null && echo sees init"), "0\nsees init\n");
    assert_eq!(found.status().unwrap(), Status::Created);
    found.delete().unwrap();
    wait(&process);
}

#[test]
fn a_user_makes_a_container_in_the_user_namespace_of_another() {
    if !as_user("a_user_makes_a_container_in_the_user_namespace_of_another") {
        return;
    }
    let bundle = Bundle::new("rootless-first");
    let (container, process) = bundle.create(&rootless("exec sleep 1000"), bundle::silent()).unwrap();
    container.start().unwrap();
    let other = Bundle::new("rootless-second");
    let mut config = rootless("id -u; readlink /proc/self/ns/user");
    let spaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    spaces.retain(|space| space["type"] != "user");
    let namespace = format!("/proc/{}/ns/user", process.pid());
    spaces.push(json!({ "type": "user", "path": namespace }));
    let theirs = std::fs::read_link(&namespace).unwrap();
    // With the maps beside the path, as containerd writes it, and without.
    assert_eq!(other.run(&config).1, format!("0\n{}\n", theirs.display()));
    for key in ["uidMappings", "gidMappings"] {
        config["linux"].as_object_mut().unwrap().remove(key);
    }
    assert_eq!(other.run(&config).1, format!("0\n{}\n", theirs.display()));
    container.delete().unwrap();
    wait(&process);
}
