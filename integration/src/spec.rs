//! The runtime configuration that containerd's own client would write for an image, as JSON. Tests change it in place.

use serde_json::{Value, json};

/// The only environment variable of the image.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The capabilities of a default container.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Paths a default container cannot read.
pub const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

/// Paths a default container cannot write.
pub const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The configuration of a default container that runs `sh`.
#[must_use]
pub fn default(namespace: &str, id: &str) -> Value {
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": [PATH],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "mounts": mounts(),
        "linux": {
            "resources": { "devices": devices() },
            "cgroupsPath": format!("/{namespace}/{id}"),
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "network" },
                { "type": "cgroup" },
            ],
            "maskedPaths": MASKED,
            "readonlyPaths": READONLY,
        },
    })
}

/// Sets the program and its arguments.
pub fn args<S: AsRef<str>>(spec: &mut Value, args: &[S]) {
    spec["process"]["args"] = args.iter().map(|arg| Value::from(arg.as_ref())).collect();
}

/// Removes a namespace, so that the container stays in the host's.
pub fn without_namespace(spec: &mut Value, kind: &str) {
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != kind);
    }
}

/// Joins an existing namespace instead of a new one.
pub fn join_namespace(spec: &mut Value, kind: &str, path: &str) {
    without_namespace(spec, kind);
    push(&mut spec["linux"]["namespaces"], json!({ "type": kind, "path": path }));
}

/// Adds a mount at the end.
pub fn mount(spec: &mut Value, mount: Value) {
    push(&mut spec["mounts"], mount);
}

/// Removes the mount on a path.
pub fn without_mount(spec: &mut Value, destination: &str) {
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["destination"] != destination);
    }
}

/// Appends to an array, which is made where it was absent.
pub fn push(array: &mut Value, element: Value) {
    if let Some(elements) = array.as_array_mut() {
        elements.push(element);
    } else {
        *array = json!([element]);
    }
}

fn mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
          "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        { "destination": "/run", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
    ])
}

fn devices() -> Value {
    let allowed = [(1, 3), (1, 8), (1, 7), (5, 0), (1, 5), (1, 9), (5, 1), (5, 2)];
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    rules.extend(
        allowed.map(
            |(major, minor)| json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" }),
        ),
    );
    rules.push(json!({ "allow": true, "type": "c", "major": 136, "access": "rwm" }));
    rules.into()
}
