//! Where tare differs from runc on purpose, and what a user without privileges gets. The reasons are in
//! docs/compatibility.md.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;
use integration::oci::{Host, Said, run};
use integration::spec;
use serde_json::json;

const USER: u32 = 4321;

/// A container of an ordinary user's, and the runtime as that user, on a state folder of the user's.
struct Users {
    host: Host,
    bundle: PathBuf,
    state: PathBuf,
}

impl Users {
    fn new(args: &[&str]) -> Result<Self> {
        let host = Host::new()?;
        let state = host.folder().join("user");
        fs::create_dir(&state)?;
        chown(&state, Some(USER), Some(USER))?;
        let bundle = host.bundle("user", |config| {
            spec::args(config, args);
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
        Ok(Self { host, bundle, state })
    }

    /// The runtime, run by `setpriv` with these options.
    fn say(&self, privileges: &[&str], args: &[&str]) -> Result<Said> {
        let mut command = Command::new("setpriv");
        command.args(privileges).arg(self.host.runtime()).arg("--root").arg(&self.state).args(args);
        run(command.stdin(Stdio::null()).current_dir("/"))
    }

    fn say_as_the_user(&self, args: &[&str]) -> Result<Said> {
        let user = USER.to_string();
        self.say(&["--reuid", &user, "--regid", &user, "--clear-groups"], args)
    }
}

/// The control groups of version 1, which a user cannot make, are shown as the host's.
#[test]
fn a_user_without_privileges_runs_a_container_with_the_hosts_cgroups_in_sight() -> Result<()> {
    let listing = "id -u; test -e /sys/fs/cgroup/cgroup.procs || ls /sys/fs/cgroup | wc -l";
    let users = Users::new(&["sh", "-c", listing])?;
    let said = users.say_as_the_user(&["run", "--bundle", &users.bundle.to_string_lossy(), "user"])?;
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.first(), Some(&"0"), "{said:?}");
    assert!(lines.get(1).is_none_or(|count| count.trim() != "0"), "{said:?}");
    Ok(())
}

/// Nobody may set groups in there, so root's would come along; with runc they do.
#[test]
fn root_executes_in_a_users_container_and_leaves_its_own_groups_outside() -> Result<()> {
    let users = Users::new(&["sh", "-c", "exec sleep 1000 <>/dev/null >&0 2>&0"])?;
    users.say_as_the_user(&["run", "--detach", "--bundle", &users.bundle.to_string_lossy(), "user"])?.done();
    let shown = users.say(&["--groups", "0,7"], &["exec", "user", "sh", "-c", "id -u; id -G"])?;
    users.say_as_the_user(&["delete", "--force", "user"])?.done();
    assert_eq!(shown.done(), "0\n0\n");
    assert!(users.host.leftovers().is_empty(), "{}", users.host.leftovers());
    Ok(())
}
