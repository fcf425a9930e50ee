//! The rarer fields of `config.json` on the real kernel: what the process is given is what was asked for. Runs as root.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use bundle::{Bundle, captured, config, line, text, wait};
use runtime_core::{Exec, ExitStatus};
use serde_json::json;

#[test]
fn the_memory_policy_holds_for_init_and_for_an_exec() {
    let bundle = Bundle::new("memory-policy");
    let mut config = config("busybox head -n 1 /proc/self/numa_maps; busybox sleep 1000");
    config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
    let (reader, stdio) = captured();
    let (container, init) = bundle.create(&config, stdio).unwrap();
    container.start().unwrap();
    let of_init = line(&reader);
    let mut process = config["process"].clone();
    process["args"] = json!(["/bin/busybox", "head", "-n", "1", "/proc/self/numa_maps"]);
    let (exec_reader, stdio) = captured();
    let exec = container.exec(Exec::new(serde_json::from_value(process).unwrap(), stdio)).unwrap();
    assert_eq!(wait(&exec), ExitStatus::Code(0));
    let of_exec = text(exec_reader);
    container.delete().unwrap();
    wait(&init);
    for line in [of_init, of_exec] {
        assert!(line.contains(" bind=static:0 "), "{line}");
    }
}

#[test]
fn a_memory_policy_that_the_kernel_refuses_is_named() {
    let bundle = Bundle::new("memory-refused");
    let mut config = config("exit 0");
    config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "1000" });
    let error = bundle.create(&config, bundle::silent()).unwrap_err().to_string();
    assert!(error.contains("set memory policy 0x2: invalid argument (EINVAL)"), "{error}");
}
