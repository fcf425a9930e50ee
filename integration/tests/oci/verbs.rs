//! Each verb in each state of a container: what it does, and what it says when it does not.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use integration::oci::Host;
use integration::{Product, machine, spec};
use serde_json::{Value, json};

use crate::{eventually, refused};

fn json_of(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

fn status(host: &Host, id: &str) -> String {
    let said = host.say(&["state", id]).map(|said| said.out).unwrap_or_default();
    json_of(&said).map_or_else(|_| String::new(), |state| state["status"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_container_goes_through_its_states() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.bundle("c", |config| config["annotations"] = json!({ "org.example": "x" }))?;
    host.create("c", &bundle)?.done();
    assert_eq!(status(&host, "c"), "created");
    refused(&host.create("c", &bundle)?, "container with given ID already exists");
    refused(&host.say(&["resume", "c"])?, "container not paused");
    assert_eq!(host.say(&["exec", "c", "echo", "in"])?.done(), "in\n", "a created container takes an exec");
    host.say(&["start", "c"])?.done();
    assert_eq!(status(&host, "c"), "running");
    refused(&host.say(&["start", "c"])?, "cannot start an already running container");
    refused(&host.say(&["delete", "c"])?, "cannot delete container c that is not stopped: running");

    let state = json_of(&host.say(&["state", "c"])?.done())?;
    assert_eq!((&state["id"], &state["bundle"]), (&"c".into(), &bundle.to_string_lossy().as_ref().into()));
    assert_eq!(state["annotations"]["org.example"], "x");
    assert!(state["created"].as_str().is_some_and(|time| time.ends_with('Z') && time.contains('T')), "{state}");

    host.say(&["pause", "c"])?.done();
    assert_eq!(status(&host, "c"), "paused");
    let said = host.say(&["exec", "c", "true"])?;
    refused(&said, "cannot exec in a paused container (use --ignore-paused to override)");
    host.say(&["resume", "c"])?.done();

    refused(&host.say(&["kill", "c", "NOPE"])?, "unknown signal");
    host.say(&["kill", "c", "KILL"])?.done();
    assert!(eventually(|| status(&host, "c") == "stopped"), "it ends");
    assert_eq!(json_of(&host.say(&["state", "c"])?.done())?["pid"], 0);
    refused(&host.say(&["kill", "c", "TERM"])?, "container not running");
    if Product::under_test() != Product::Crun {
        host.say(&["kill", "--all", "c", "TERM"])?.done();
    }
    refused(&host.say(&["start", "c"])?, "cannot start a container that has stopped");
    refused(&host.say(&["exec", "c", "true"])?, "cannot exec in a stopped container");
    refused(&host.say(&["pause", "c"])?, "container not running");
    host.say(&["delete", "c"])?.done();
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

#[test]
fn a_container_that_is_not_there_is_said_so() -> Result<()> {
    let host = Host::new()?;
    for verb in ["state", "start", "kill", "pause", "resume", "ps", "update", "delete"] {
        refused(&host.say(&[verb, "nobody"])?, "container does not exist");
    }
    let said = host.say(&["exec", "nobody", "true"])?;
    refused(&said, "container does not exist");
    if Product::under_test() != Product::Crun {
        assert_eq!(said.code, Some(255), "no process, no code of it");
    }
    host.say(&["delete", "--force", "nobody"])?.done();
    Ok(())
}

#[test]
fn an_id_is_a_name_and_not_a_path() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.bundle("c", |_| {})?;
    for id in ["../c", "a/b", "..", "a b"] {
        refused(&host.create(id, &bundle)?, "invalid container ID format");
    }
    refused(&host.create("", &bundle)?, "container id cannot be empty");
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

#[test]
fn mistakes_in_a_command_line_are_named() -> Result<()> {
    if Product::under_test() == Product::Crun {
        return Ok(());
    }
    let host = Host::new()?;
    fs::create_dir_all(host.state())?;
    for (line, words) in [
        (&["state"][..], "\"state\" requires exactly 1 argument(s)"),
        (&["state", "a", "b"], "\"state\" requires exactly 1 argument(s)"),
        (&["exec"], "\"exec\" requires a minimum of 1 argument(s)"),
        (&["kill", "a", "b", "c"], "\"kill\" requires a maximum of 2 argument(s)"),
        (&["run", "--nope", "c"], "flag provided but not defined: -nope"),
        (&["run", "-bundle"], "flag needs an argument: -bundle"),
        (&["list", "--format", "xml"], "invalid format option"),
    ] {
        refused(&host.say(line)?, words);
    }
    assert!(host.say(&["run", "--nope", "c"])?.out.starts_with("Incorrect Usage"));
    Ok(())
}

#[test]
fn containers_are_listed() -> Result<()> {
    let host = Host::new()?;
    fs::create_dir_all(host.state())?;
    if Product::under_test() != Product::Crun {
        assert_eq!(host.say(&["list", "--format", "json"])?.done().trim(), "null");
    }
    let pid = host.start("one", |_| {})?;
    let table = host.say(&["list"])?.done();
    let row: Vec<_> = table.lines().nth(1).context("no row")?.split_whitespace().collect();
    assert_eq!(row[..3], ["one", &pid.to_string(), "running"]);
    if Product::under_test() != Product::Crun {
        assert!(table.starts_with("ID          PID         STATUS      BUNDLE"), "{table}");
    }
    let listed = json_of(&host.say(&["list", "-f", "json"])?.done())?;
    assert_eq!((&listed[0]["id"], &listed[0]["owner"]), (&"one".into(), &"root".into()));
    assert_eq!(host.say(&["list", "-q"])?.done(), "one\n");
    host.say(&["delete", "-f", "one"])?.done();
    Ok(())
}

#[test]
fn processes_are_listed() -> Result<()> {
    let host = Host::new()?;
    let pid = host.start("c", |_| {})?;
    assert_eq!(json_of(&host.say(&["ps", "--format", "json", "c"])?.done())?, json!([pid]));
    let table = host.say(&["ps", "c"])?.done();
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains("sleep 1000"), "{table}");
    let table = host.say(&["ps", "c", "-o", "pid,comm"])?.done();
    assert!(table.lines().nth(1).is_some_and(|line| line.trim() == format!("{pid} sleep")), "{table}");
    host.say(&["delete", "-f", "c"])?.done();
    Ok(())
}

#[test]
fn limits_are_changed_by_flags_and_by_a_file() -> Result<()> {
    let host = Host::new()?;
    host.start("c", |_| {})?;
    let group = format!("/{}/c", host.name());
    let limit = || {
        machine::cgroup_file(&group, "memory", if machine::unified() { "memory.max" } else { "memory.limit_in_bytes" })
    };
    host.say(&["update", "--memory", "64m", "c"])?.done();
    assert_eq!(limit().as_deref().map(str::trim), Some("67108864"));
    let file = host.folder().join("resources.json");
    fs::write(&file, json!({ "memory": { "limit": 33_554_432 } }).to_string())?;
    host.say(&["update", "-r", &file.to_string_lossy(), "c"])?.done();
    assert_eq!(limit().as_deref().map(str::trim), Some("33554432"));
    let mut command = host.command();
    let mut child = command.args(["update", "--resources=-", "c"]).stdin(Stdio::piped()).spawn()?;
    let text = json!({ "memory": { "limit": 50_331_648 } }).to_string();
    std::io::Write::write_all(&mut child.stdin.take().context("no input")?, text.as_bytes())?;
    assert!(child.wait()?.success());
    assert_eq!(limit().as_deref().map(str::trim), Some("50331648"));
    refused(&host.say(&["update", "--memory", "many", "c"])?, "invalid value for memory");
    host.say(&["delete", "-f", "c"])?.done();
    Ok(())
}

/// What the kernel counts of the memory of a process's cgroup.
fn memory_stat(pid: u32) -> Result<String> {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let of = |wanted: &str| {
        cgroups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            parts.next()?.split(',').any(|name| name == wanted).then(|| parts.next())?
        })
    };
    let file = match (of("memory"), of("")) {
        (Some(path), _) => format!("/sys/fs/cgroup/memory{path}/memory.stat"),
        (None, path) => format!("/sys/fs/cgroup{}/memory.stat", path.context("no cgroup")?),
    };
    fs::read_to_string(&file).context(file)
}

#[test]
fn statistics_have_the_keys_of_runc() -> Result<()> {
    if Product::under_test() == Product::Crun {
        return Ok(());
    }
    let host = Host::new()?;
    host.start("c", |_| {})?;
    let event = json_of(&host.say(&["events", "--stats", "c"])?.done())?;
    assert_eq!((&event["type"], &event["id"]), (&"stats".into(), &"c".into()));
    let data = &event["data"];
    assert!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes > 0), "{event}");
    assert!(data["cpu"]["usage"]["total"].as_u64().is_some_and(|time| time > 0), "{event}");
    assert_eq!(data["pids"]["current"], 1, "{event}");
    // What the kernel counts, all of it and under its own names.
    let counted = memory_stat(host.pid("c")?)?;
    let raw = data["memory"]["raw"].as_object().context("no raw memory")?;
    assert!(counted.lines().all(|line| raw.contains_key(line.split(' ').next().unwrap_or_default())), "{event}");
    for key in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"] {
        assert!(data.get(key).is_some(), "{key} is not in {event}");
    }
    host.say(&["kill", "c", "KILL"])?.done();
    assert!(eventually(|| status(&host, "c") == "stopped"));
    refused(&host.say(&["events", "c"])?, "container with id c is not running");
    host.say(&["delete", "c"])?.done();
    Ok(())
}

#[test]
fn running_out_of_memory_is_an_event() -> Result<()> {
    if Product::under_test() == Product::Crun {
        return Ok(());
    }
    let host = Host::new()?;
    let log = host.folder().join("events");
    host.start("c", |config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 16 << 20, "swap": 16 << 20 });
    })?;
    let mut command = host.command();
    let mut watch = command.args(["events", "--interval", "100ms", "c"]).stdout(fs::File::create(&log)?).spawn()?;
    let said = |what: &str| fs::read_to_string(&log).unwrap_or_default().contains(what);
    assert!(eventually(|| said("\"type\":\"stats\"")), "statistics every so often");
    // More than it may have, in a process of its own.
    host.say(&["exec", "c", "sh", "-c", "x=a; while :; do x=$x$x; done"])?;
    assert!(eventually(|| said("\"type\":\"oom\"")), "{:?}", fs::read_to_string(&log));
    host.say(&["kill", "c", "KILL"])?.done();
    assert!(eventually(|| status(&host, "c") == "stopped"));
    host.say(&["delete", "c"])?.done();
    // runc's go on until the cgroup has gone.
    assert!(watch.wait()?.success(), "the events of a container end with it");
    Ok(())
}

#[test]
fn the_log_has_the_form_that_clients_read() -> Result<()> {
    let host = Host::new()?;
    let log = host.folder().join("log.json");
    let mut command = Command::new(host.runtime());
    command.arg("--root").arg(host.state()).arg("--log").arg(&log).args(["--log-format", "json"]);
    let output = command.args(["start", "nobody"]).output()?;
    assert!(!output.status.success());
    let last = fs::read_to_string(&log)?;
    let line = json_of(last.lines().last().context("an empty log")?)?;
    assert_eq!(line["level"], "error");
    assert!(
        line["msg"].as_str().is_some_and(|text| text.contains("does not exist") || text.contains("No such")),
        "{line}"
    );
    assert!(line["time"].as_str().is_some_and(|time| time.len() >= 20 && time.as_bytes()[10] == b'T'), "{line}");
    let plain = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(plain.trim_end().lines().count() == 1 && !plain.contains("level="), "{plain}");
    Ok(())
}

#[test]
fn containers_are_signalled_and_deleted_by_a_pattern() -> Result<()> {
    if Product::under_test() == Product::Runc {
        return Ok(());
    }
    let host = Host::new()?;
    for id in ["web-1", "web-2", "db-1"] {
        host.start(id, |_| {})?;
    }
    host.say(&["kill", "--regex", "^web-", "KILL"])?.done();
    assert!(eventually(|| ["web-1", "web-2"].iter().all(|id| status(&host, id) == "stopped")));
    assert_eq!(status(&host, "db-1"), "running");
    host.say(&["delete", "--force", "--regex", "[-]1$"])?.done();
    assert_eq!(host.say(&["list", "-q"])?.done(), "web-2\n");
    host.say(&["delete", "--force", "web-2"])?.done();
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

#[test]
fn a_program_that_cannot_be_executed_is_said_as_go_says_it() -> Result<()> {
    let host = Host::new()?;
    fs::write(host.rootfs().join("etc/plain"), "no program\n")?;
    host.start("c", |_| {})?;
    for (program, words) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        ("/nope", "exec: \"/nope\": stat /nope: no such file or directory"),
        ("/etc", "exec: \"/etc\": is a directory"),
        ("/etc/plain", "exec: \"/etc/plain\": permission denied"),
    ] {
        let said = host.say(&["exec", "c", program])?;
        refused(&said, &format!("exec failed: unable to start container process: {words}"));
        let bundle = host.bundle("d", |config| spec::args(config, &[program]))?;
        let said = host.say(&["run", "--bundle", &bundle.to_string_lossy(), "d"])?;
        refused(&said, words);
        refused(&said, " run failed: unable to start container process: ");
    }
    host.say(&["delete", "-f", "c"])?.done();
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

#[test]
fn a_plan_is_printed_and_nothing_is_made() -> Result<()> {
    if integration::skip_unless_tare("no other runtime can print what it would do") {
        return Ok(());
    }
    let host = Host::new()?;
    let bundle = host.bundle("c", |_| {})?;
    let bundle = bundle.to_string_lossy();
    let text = host.say(&["plan", "--bundle", &bundle])?.done();
    assert!(text.lines().any(|line| line.contains("mount proc on /proc")), "{text}");
    let steps = json_of(&host.say(&["plan", "--bundle", &bundle, "--format", "json", "c"])?.done())?;
    assert!(steps.as_array().is_some_and(|steps| steps.len() > 20 && steps[0]["op"].is_string()), "{steps}");
    assert!(host.leftovers().is_empty(), "{}", host.leftovers());
    Ok(())
}

/// That it is there can be seen before it is made.
#[test]
fn a_container_that_is_being_created_is_started_when_it_is() -> Result<()> {
    let host = Host::new()?;
    let bundle = host.bundle("slow", |config| {
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "sleep 0.5"] }] });
    })?;
    let mut create = host.command();
    create.args(["create", "--bundle", &bundle.to_string_lossy(), "slow"]);
    let mut create = create.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()?;
    assert!(eventually(|| host.say(&["state", "slow"]).is_ok_and(|said| said.code == Some(0))));
    host.say(&["start", "slow"])?.done();
    assert!(create.wait()?.success());
    assert_eq!(status(&host, "slow"), "running");
    Ok(())
}
