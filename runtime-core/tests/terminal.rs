//! Terminals of a container: who gets one, and how large it is. Runs as root.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use bundle::{Bundle, config, screen, silent, wait};
use runtime_core::{Exec, ExitStatus, Kind, Stdio};
use serde_json::{Value, json};

fn with_terminal(mut config: Value) -> Value {
    config["process"]["terminal"] = json!(true);
    config["process"]["consoleSize"] = json!({ "height": 40, "width": 123 });
    config
}

fn exec_of(config: &Value, stdio: Stdio) -> Exec {
    Exec::new(serde_json::from_value(config["process"].clone()).unwrap(), stdio)
}

#[test]
fn a_create_with_other_streams_than_its_process_asks_for_is_refused() {
    let bundle = Bundle::new("streams-create");
    for (config, stdio, text) in [
        (config("true"), Stdio::Terminal, "a terminal for a process with terminal: false"),
        (with_terminal(config("true")), silent(), "streams for a process with terminal: true"),
    ] {
        let error = bundle.create(&config, stdio).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, text));
        assert!(!bundle.0.join("state.json").exists());
    }
}

#[test]
fn an_exec_with_other_streams_than_it_asks_for_is_refused() {
    let bundle = Bundle::new("streams-exec");
    let (container, init) = bundle.create(&config("busybox sleep 1000"), silent()).unwrap();
    container.start().unwrap();
    for (config, stdio, text) in [
        (config("true"), Stdio::Terminal, "a terminal for a process with terminal: false"),
        (with_terminal(config("true")), silent(), "streams for a process with terminal: true"),
    ] {
        let error = container.exec(exec_of(&config, stdio)).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, text));
    }
    assert_eq!(container.pids().unwrap(), [init.pid()]);
    container.delete().unwrap();
    assert_eq!(wait(&init), ExitStatus::Signal(9));
}

#[test]
fn the_terminal_of_init_has_the_size_that_was_asked_for() {
    let bundle = Bundle::new("size-create");
    let config = with_terminal(config("busybox stty size"));
    let (container, mut init) = bundle.create(&config, Stdio::Terminal).unwrap();
    container.start().unwrap();
    assert_eq!(screen(init.take_console().unwrap()), "40 123\r\n");
    assert_eq!(wait(&init), ExitStatus::Code(0));
    container.delete().unwrap();
}

#[test]
fn the_terminal_of_an_exec_has_the_size_that_was_asked_for_from_the_first() {
    let bundle = Bundle::new("size-exec");
    let (container, init) = bundle.create(&config("busybox sleep 1000"), silent()).unwrap();
    container.start().unwrap();
    let config = with_terminal(config("exec busybox stty size"));
    for _ in 0..100 {
        let mut exec = container.exec(exec_of(&config, Stdio::Terminal)).unwrap();
        assert_eq!(screen(exec.take_console().unwrap()), "40 123\r\n");
        assert_eq!(wait(&exec), ExitStatus::Code(0));
    }
    container.delete().unwrap();
    assert_eq!(wait(&init), ExitStatus::Signal(9));
}
