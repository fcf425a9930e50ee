//! User namespaces as containerd and Kubernetes use them: a rootfs and volumes with mapped ids, and a pinned namespace whose
//! path comes together with its maps.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use integration::{Client, Container, Containerd, Stdio, skip_unless_tare, spec};
use serde_json::{Value, json};

/// Root of the container, on the host.
const ROOT: u32 = 100_000;

fn maps() -> Value {
    json!([{ "containerID": 0, "hostID": ROOT, "size": 65536 }])
}

fn with_user_namespace(config: &mut Value) {
    spec::push(&mut config["linux"]["namespaces"], json!({ "type": "user" }));
    config["linux"]["uidMappings"] = maps();
    config["linux"]["gidMappings"] = maps();
}

/// A container on a snapshot that is mounted as CRI has it done for `hostUsers: false`: the layers mapped, and what is
/// written in a folder of the container's root. Snapshotters since 1.7 do so by themselves when their labels say it.
async fn mapped(client: &Client, id: &str, edit: impl FnOnce(&mut Value)) -> Result<(Container, PathBuf)> {
    fs::set_permissions(client.daemon.home(), Permissions::from_mode(0o755))?;
    let map = format!("0:{ROOT}:65536");
    let labels = [("containerd.io/snapshot/uidmapping", &*map), ("containerd.io/snapshot/gidmapping", &*map)];
    let mut container = client
        .container_labelled(id, &labels, |config| {
            with_user_namespace(config);
            edit(config);
        })
        .await?;
    let mounts = client.mounts(id).await?;
    let options = mounts.first().context("a snapshot has a mount")?.options.clone();
    let upper = options.iter().find_map(|option| option.strip_prefix("upperdir=")).context("an upperdir")?;
    if !options.iter().any(|option| option.starts_with("uidmap=")) {
        println!("this containerd does not remap ids: {options:?}");
        chown(upper, Some(ROOT), Some(ROOT))?;
        container.rootfs_options = ["uidmap", "gidmap"].map(|name| format!("{name}={map}")).to_vec();
    }
    Ok((container, PathBuf::from(upper)))
}

#[tokio::test]
async fn a_snapshot_belongs_to_the_user_namespace_it_is_mapped_for() -> Result<()> {
    if skip_unless_tare("the shim of 1.6 takes uidmap for an option of overlay") {
        return Ok(());
    }
    let client = Arc::new(Containerd::start_on_disk()?).client().await?;
    let script = "stat -c '%u %g' /etc /bin/busybox; touch /etc/made; stat -c %u /etc/made";
    let (container, upper) =
        mapped(&client, "userns-mapped", |config| spec::args(config, &["sh", "-c", script])).await?;
    let task = container.create(&Stdio::null()).await?;
    task.start().await?;
    task.wait().await?;
    assert_eq!(fs::metadata(upper.join("etc/made"))?.uid(), ROOT);
    task.delete().await?;
    let output = container.run().await?;
    assert_eq!((output.code, output.stdout.as_str()), (0, "0 0\n0 0\n0\n"), "{output:?}");
    Ok(())
}

fn volume(home: &Path, name: &str) -> Result<Value> {
    let folder = home.join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("file"), "text")?;
    chown(folder.join("file"), Some(7), Some(7))?;
    Ok(json!({
        "destination": "/volume", "type": "bind", "source": folder, "options": ["rbind", "rw"],
        "uidMappings": maps(), "gidMappings": maps(),
    }))
}

/// What CRI writes for a pod without the host's users: all containers name the sandbox's namespaces, the maps once more,
/// and each volume its own.
#[tokio::test]
async fn a_container_joins_a_pods_pinned_user_namespace_with_its_maps() -> Result<()> {
    if skip_unless_tare("the runc of 1.6 knows no idmapped mounts") {
        return Ok(());
    }
    let client = Arc::new(Containerd::start_on_disk()?).client().await?;
    let sleeps = |config: &mut Value| spec::args(config, &["sleep", "1000"]);
    let (sandbox, _) = mapped(&client, "userns-sandbox", sleeps).await?;
    let sandbox = sandbox.start(&Stdio::null()).await?;
    let mount = volume(client.daemon.home(), "userns-volume")?;
    let pid = sandbox.pid;
    let joins = |config: &mut Value| {
        for space in config["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
            for (kind, file) in [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
                if space["type"] == kind {
                    space["path"] = json!(format!("/proc/{pid}/ns/{file}"));
                }
            }
        }
        spec::mount(config, mount);
        spec::args(config, &["sh", "-c", "cat /proc/self/uid_map; stat -c %u /etc /volume/file; ls /sys/class/net"]);
    };
    let (container, _) = mapped(&client, "userns-member", joins).await?;
    let output = container.run().await?;
    let words: Vec<&str> = output.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "7", "lo"], "{output:?}");
    sandbox.kill(9).await?;
    sandbox.wait().await?;
    sandbox.delete().await?;
    sandbox.container.remove().await
}
