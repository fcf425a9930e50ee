//! What `--debug` tells. People grep for runc's words, and so does its suite.

use std::fs;

use anyhow::Result;
use integration::oci::{Host, Said};
use integration::{Product, spec};
use serde_json::{Value, json};

/// crun has no such words.
fn has_none() -> bool {
    Product::under_test() == Product::Crun
}

const RUN: [&str; 3] =
    ["nsexec container setup", "child process in init()", "init: closing the pipe to signal completion"];

/// What was said to standard error, and what went into the log.
fn run(host: &Host, global: &[&str]) -> Result<(Said, String)> {
    let bundle = host.bundle("told", |config| spec::args(config, &["true"]))?;
    let log = host.folder().join("log");
    let _ = fs::remove_file(&log);
    let said = host.say(&[global, &["run", "--bundle", &bundle.to_string_lossy(), "told"]].concat())?;
    Ok((said, fs::read_to_string(log).unwrap_or_default()))
}

#[test]
fn a_birth_is_told_in_runcs_words() -> Result<()> {
    let host = Host::new()?;
    if has_none() {
        return Ok(());
    }
    let log = host.folder().join("log");
    let log = log.to_string_lossy();
    let (said, _) = run(&host, &["--debug"])?;
    let (to_file, text) = run(&host, &["--debug", "--log", &log])?;
    assert!(!to_file.err.contains("debug"), "{to_file:?}");
    for told in [said.err, text] {
        let lines: Vec<&str> = told.lines().filter(|line| line.contains("level=debug")).collect();
        for words in RUN {
            assert!(lines.iter().any(|line| line.contains(words)), "{words:?} is not in {told}");
        }
    }
    let (_, json) = run(&host, &["--debug", "--log", &log, "--log-format", "json"])?;
    let lines: Vec<Value> = json.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for words in RUN {
        let tells = |line: &Value| line["level"] == "debug" && line["msg"].as_str().is_some_and(|m| m.contains(words));
        assert!(lines.iter().any(tells), "{words:?} is not in {json}");
    }
    let (said, _) = run(&host, &[])?;
    assert_eq!(said.err, "", "nobody has asked");
    Ok(())
}

#[test]
fn an_exec_tells_its_processors_on_the_way_in() -> Result<()> {
    let host = Host::new()?;
    if has_none() {
        return Ok(());
    }
    host.start("told", |_| {})?;
    let set = rustix::thread::sched_getaffinity(None)?;
    // runc adds up its mask in 32 bits.
    let Some(cpu) = (0..31).rev().find(|cpu| set.is_set(*cpu)) else { return Ok(()) };
    let process = host.folder().join("process.json");
    let text = json!({ "args": ["true"], "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": [spec::PATH],
        "execCPUAffinity": { "initial": cpu.to_string() } });
    fs::write(&process, text.to_string())?;
    let said = host.say(&["--debug", "exec", "--process", &process.to_string_lossy(), "told"])?;
    let affinity = format!(": affinity: {:#x}", 1 << cpu);
    for words in ["nsexec container setup", "child process in init()", "setns_init: about to exec", &affinity] {
        assert!(said.err.contains(words), "{words:?} is not in {said:?}");
    }
    Ok(())
}
