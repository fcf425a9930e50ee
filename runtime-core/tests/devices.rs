//! Devices of a container whose maker is himself told which devices there are: the kernel with cgroup version 2 alone, as
//! root. Elsewhere the test says so and is passed over; `scripts/vm run` has it.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod bundle;

use std::path::Path;

use bundle::{Bundle, config};
use runtime_core::cgroup::{Cgroup, CgroupLayout, layout};
use serde_json::json;
use tare_plan::resources::Resources;

/// A program that lets every device be used and no node be made.
fn no_nodes() -> Vec<u8> {
    let instruction = |code: u8, registers: u8, offset: i16, value: i32| {
        let mut bytes = vec![code, registers];
        bytes.extend(offset.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    };
    // r1 = access >> 16 & BPF_DEVCG_ACC_MKNOD; r0 = 1; if (r1 != 0) r0 = 0; return r0
    [
        instruction(0x61, 0x11, 0, 0),
        instruction(0x77, 0x01, 0, 16),
        instruction(0x57, 0x01, 0, 1),
        instruction(0xb7, 0x00, 0, 1),
        instruction(0x15, 0x01, 1, 0),
        instruction(0xb7, 0x00, 0, 0),
        instruction(0x95, 0x00, 0, 0),
    ]
    .concat()
}

/// The cgroup of a pod, gone with the test.
struct Pod(Cgroup);

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.0.remove();
    }
}

#[test]
fn where_no_node_may_be_made_the_hosts_own_is_bound() {
    let layout = layout().unwrap();
    if !matches!(layout, CgroupLayout::Unified { .. }) {
        println!("skipped: this host has cgroup version 1");
        return;
    }
    let bundle = Bundle::new("nodes");
    let path = format!("/tare-pod-{}", bundle.id());
    let pod = Pod(Cgroup::plan(&layout, Path::new(&path)).unwrap());
    pod.0.create().unwrap();
    pod.0.apply(&Resources { device_program: Some(no_nodes()), ..Resources::default() }).unwrap();
    let mut config =
        config("echo there >/dev/null && head -c 4 /dev/zero | wc -c && grep -c ' /dev/null ' /proc/self/mountinfo");
    config["linux"]["cgroupsPath"] = json!(format!("{path}/container"));
    let (status, said) = bundle.run(&config);
    assert_eq!(said, "4\n1\n", "{status:?}");
    // A device that the host has not, or has as another one, is refused as before.
    config["linux"]["devices"] = json!([{ "path": "/dev/null", "type": "c", "major": 1, "minor": 5 }]);
    let refused = bundle.create(&config, bundle::silent()).unwrap_err().to_string();
    assert!(refused.contains("make device /dev/null: operation not permitted (EPERM)"), "{refused}");
}
