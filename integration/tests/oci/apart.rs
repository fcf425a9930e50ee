//! Where tare differs from runc on purpose, and what a user without privileges gets. The reasons are in
//! docs/compatibility.md.

use std::fs;
use std::os::unix::fs::chown;
use std::process::{Command, Stdio};

use anyhow::Result;
use integration::oci::{Host, run};
use integration::spec;
use serde_json::json;

/// The control groups of version 1, which a user cannot make, are shown as the host's.
#[test]
fn a_user_without_privileges_runs_a_container_with_the_hosts_cgroups_in_sight() -> Result<()> {
    const USER: u32 = 4321;
    let host = Host::new()?;
    let state = host.folder().join("user");
    fs::create_dir(&state)?;
    chown(&state, Some(USER), Some(USER))?;
    let bundle = host.bundle("user", |config| {
        spec::args(config, &["sh", "-c", "id -u; test -e /sys/fs/cgroup/cgroup.procs || ls /sys/fs/cgroup | wc -l"]);
        spec::without_namespace(config, "cgroup");
        spec::without_mount(config, "/dev/pts");
        spec::push(&mut config["linux"]["namespaces"], json!({ "type": "user" }));
        for map in ["uidMappings", "gidMappings"] {
            config["linux"][map] = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
        }
        for field in ["resources", "cgroupsPath"] {
            config["linux"].as_object_mut().map(|linux| linux.remove(field));
        }
        let options = ["nosuid", "noexec", "nodev", "ro"];
        let cgroup =
            json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options });
        spec::mount(config, cgroup);
    })?;
    let user = USER.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(host.runtime());
    command.arg("--root").arg(&state).arg("run").arg("--bundle").arg(&bundle).arg("user");
    let said = run(command.stdin(Stdio::null()).current_dir("/"))?;
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.first(), Some(&"0"), "{said:?}");
    assert!(lines.get(1).is_none_or(|count| count.trim() != "0"), "{said:?}");
    Ok(())
}
