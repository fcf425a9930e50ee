//! What a run leaves behind on the host, and how it is swept away. A home is one private containerd's folder.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{image, machine};

/// Where the homes lie: on tmpfs, as a host's `/run` would.
pub const HOMES: &str = "/dev/shm";
/// Where those lie that need a disk: programs are executed from them, overlayfs works there, ids are mapped.
pub const DISK: &str = "/var/tmp";
/// How their names begin; the number of the owning process follows.
pub const PREFIX: &str = "tare-it-";

/// Things that should not be there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers(pub Vec<String>);

impl Leftovers {
    /// Nothing was left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("\n"))
    }
}

/// Lists what containers of a home have left: mounts, control groups, processes, sockets, bundles and runtime state.
/// Call it when every container has been deleted.
#[must_use]
pub fn of(home: &Path, daemon: Option<u32>) -> Leftovers {
    let mut found = Vec::new();
    found.extend(machine::mounts_below(home).iter().map(|point| format!("mount {}", point.display())));
    found.extend(cgroups(home).iter().map(|group| format!("cgroup {}", group.display())));
    found.extend(
        processes(home)
            .into_iter()
            .filter(|pid| Some(*pid) != daemon)
            .map(|pid| format!("process {pid} {}", machine::command_line(pid))),
    );
    found.extend(sockets(home).iter().map(|socket| format!("socket {}", socket.display())));
    found.extend(states(home).iter().map(|folder| format!("state {}", folder.display())));
    Leftovers(found)
}

/// The control groups below a home's own.
fn cgroups(home: &Path) -> Vec<PathBuf> {
    let tops = machine::cgroups(&namespace(home));
    tops.iter().flat_map(|top| subfolders(top)).collect()
}

/// A home's containerd namespace and control group are both named as its folder.
pub(crate) fn namespace(home: &Path) -> String {
    home.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(crate) fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()).collect()
}

/// The processes that belong to a home: by command line, environment, working directory or control group.
#[must_use]
pub fn processes(home: &Path) -> Vec<u32> {
    let own = std::process::id();
    machine::pids().into_iter().filter(|pid| *pid != own && belongs(*pid, home)).collect()
}

fn belongs(pid: u32, home: &Path) -> bool {
    if is_everybodys(pid) {
        return false;
    }
    let name = namespace(home);
    let in_text = machine::command_line(pid).contains(&name) || machine::environment(pid).contains(&name);
    let in_folder = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder.starts_with(home));
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    in_text || in_folder || groups.contains(&format!(":/{name}/"))
}

/// It has ended, and the machine's init is to reap it: some look every other second only.
fn is_everybodys(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|fields| fields.starts_with(" Z 1 "))
}

/// The shim sockets of a home's containers that still exist.
fn sockets(home: &Path) -> Vec<PathBuf> {
    let ids = fs::read_to_string(home.join("ids")).unwrap_or_default();
    let paths = ids.lines().map(|id| socket(home, id));
    paths.filter(|path| path.exists()).collect()
}

/// The socket that the shim of a container (or group) listens on.
#[must_use]
pub fn socket(home: &Path, id: &str) -> PathBuf {
    let key = home.join("c.sock").join(namespace(home)).join(id);
    let name = image::digest(key.to_string_lossy().as_bytes());
    Path::new("/run/containerd/s").join(name.trim_start_matches("sha256:"))
}

/// Bundles and runtime state.
fn states(home: &Path) -> Vec<PathBuf> {
    let name = namespace(home);
    let mut found = subfolders(&home.join("state/io.containerd.runtime.v2.task").join(&name));
    found.extend(subfolders(&home.join("root/io.containerd.runtime.v2.task").join(&name)));
    found.extend(subfolders(&home.join("runtime").join(&name)));
    found
}

/// Sweeps away those homes in a folder whose run's process is gone.
pub(crate) fn sweep_abandoned(homes: &Path) {
    for folder in subfolders(homes) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !machine::alive(pid)) {
            purge(&folder);
        }
    }
}

/// Ends and removes everything that belongs to a home, whatever state it is in.
pub(crate) fn purge(home: &Path) {
    end_containers(home);
    for socket in sockets(home) {
        let _ = fs::remove_file(socket);
    }
    let _ = fs::remove_dir_all(home);
}

/// Ends the processes of a home, and removes its mounts and control groups.
pub(crate) fn end_containers(home: &Path) {
    for _ in 0..100 {
        let processes = processes(home);
        if processes.is_empty() {
            break;
        }
        thaw(home);
        processes.into_iter().for_each(kill);
        std::thread::sleep(Duration::from_millis(20));
    }
    for point in machine::mounts_below(home).into_iter().rev() {
        let _ = rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH);
    }
    for top in machine::cgroups(&namespace(home)) {
        remove_cgroup(&top);
    }
}

fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// A frozen process on cgroup v1 does not die until it is thawed.
fn thaw(home: &Path) {
    for group in cgroups(home) {
        let _ = fs::write(group.join("freezer.state"), "THAWED");
        let _ = fs::write(group.join("cgroup.freeze"), "0");
    }
}

fn remove_cgroup(folder: &Path) {
    for inner in subfolders(folder) {
        remove_cgroup(&inner);
    }
    let _ = fs::remove_dir(folder);
}
