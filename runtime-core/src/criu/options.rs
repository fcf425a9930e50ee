//! What CRIU is asked: requests as data. Everything that is in them has been decided; here it is put under CRIU's names
//! and numbers (`protos/vendor/criu-rpc.proto`). Descriptors are numbers of this process, but those that a restored
//! process inherits, which are numbers of CRIU's: the same, since it inherits them where they are.

use super::wire::{Field, Message};

/// What can be chosen for a dump and for a restore, under runc's names. Each side passes over what is the other's alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CriuOptions {
    /// Allow open TCP connections.
    pub tcp_established: bool,
    /// Do not write open TCP connections, and restore them closed.
    pub tcp_close: bool,
    /// Leave out TCP connections that are being opened.
    pub tcp_skip_in_flight: bool,
    /// Link files that have been unlinked, where they cannot be written otherwise.
    pub link_remap: bool,
    /// Allow connections to unix sockets outside.
    pub ext_unix_sk: bool,
    /// Allow a session or a terminal from outside.
    pub shell_job: bool,
    /// Allow file locks.
    pub file_locks: bool,
    /// Free what one image has of another as soon as it is no longer needed.
    pub auto_dedup: bool,
    /// Memory comes on demand.
    pub lazy_pages: bool,
    /// How cgroups and their limits are handled.
    pub manage_cgroups: Option<CgroupMode>,
    /// How the network is held still.
    pub network_lock: Option<NetworkLock>,
    /// Namespaces, as `CLONE_NEW*` bits, whose content is neither written nor restored.
    pub empty_namespaces: u32,
}

/// CRIU's ways with cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "CRIU's names")]
pub enum CgroupMode {
    Ignore,
    Soft,
    Full,
    Strict,
}

/// CRIU's ways to hold the network still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "CRIU's names")]
pub enum NetworkLock {
    Iptables,
    Nftables,
    Skip,
}

/// What CRIU is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    Dump,
    Restore,
    PreDump,
    FeatureCheck,
}

impl Errand {
    fn number(self) -> u64 {
        match self {
            Self::Dump => 1,
            Self::Restore => 2,
            Self::PreDump => 4,
            Self::FeatureCheck => 9,
        }
    }
}

/// `criu_req_type` of a notification and of its answer.
pub(super) const NOTIFY: u64 = 6;

/// What a dump and a restore have in common.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) options: &'a CriuOptions,
    pub(crate) images: u32,
    pub(crate) work: Option<u32>,
    pub(crate) log: &'a str,
    pub(crate) root: &'a str,
    /// Overrides what is asked here, as CRIU means it.
    pub(crate) config_file: Option<&'a str>,
    /// What is the host's: `mnt[/etc/hosts]:/etc/hosts`.
    pub(crate) external: &'a [String],
}

/// A dump beside its frame.
#[derive(Debug)]
pub(crate) struct Dump<'a> {
    pub(crate) pid: u32,
    pub(crate) leave_running: bool,
    pub(crate) freeze_cgroup: Option<&'a str>,
    /// An earlier dump, relative to the images.
    pub(crate) parent: Option<&'a str>,
    pub(crate) page_server: Option<(&'a str, u16)>,
}

/// A restore beside its frame.
#[derive(Debug)]
pub(crate) struct Restore<'a> {
    /// Controllers and the container's path in them.
    pub(crate) cgroups: &'a [(String, String)],
    /// Descriptors under the names that the image has for them.
    pub(crate) inherit: &'a [(String, u32)],
    /// Namespaces to join: their kind, and their file.
    pub(crate) join: &'a [(&'static str, String)],
    pub(crate) lsm_profile: Option<&'a str>,
    pub(crate) lsm_mount_context: Option<&'a str>,
}

/// `criu_req` of a dump.
pub(crate) fn dump(errand: Errand, frame: &Frame<'_>, dump: &Dump<'_>) -> Message {
    let mut options = shared(frame)
        .number(PID, dump.pid)
        .flags(&[(LEAVE_RUNNING, dump.leave_running), (TRACK_MEM, dump.parent.is_some())]);
    if let Some(path) = dump.freeze_cgroup {
        options = options.text(FREEZE_CGROUP, path);
    }
    if let Some(parent) = dump.parent {
        options = options.text(PARENT_IMG, parent);
    }
    if let Some((address, port)) = dump.page_server {
        options = options.message(PS, Message::default().text(PS_ADDRESS, address).number(PS_PORT, port));
    }
    request(errand, options)
}

/// `criu_req` of a restore, whose first process becomes a child of the caller.
pub(crate) fn restore(frame: &Frame<'_>, restore: &Restore<'_>) -> Message {
    let root = |(controller, path): &(String, String)| {
        Message::default().text(CG_ROOT_CTRL, controller).text(CG_ROOT_PATH, path)
    };
    let inherit = |(key, fd): &(String, u32)| Message::default().text(INHERIT_KEY, key).number(INHERIT_NUMBER, *fd);
    let join = |(kind, file): &(&str, String)| Message::default().text(JOIN_KIND, kind).text(JOIN_FILE, file);
    let mut options = shared(frame)
        .flags(&[(EVASIVE_DEVICES, true), (RST_SIBLING, true)])
        .messages(CG_ROOT, restore.cgroups.iter().map(root))
        .messages(INHERIT_FD, restore.inherit.iter().map(inherit))
        .messages(JOIN_NS, restore.join.iter().map(join));
    for (field, text) in [(LSM_PROFILE, restore.lsm_profile), (LSM_MOUNT_CONTEXT, restore.lsm_mount_context)] {
        if let Some(text) = text {
            options = options.text(field, text);
        }
    }
    request(Errand::Restore, options)
}

/// `criu_req` that asks whether CRIU and the kernel have what a pre-dump or lazy pages need.
pub(crate) fn feature_check() -> Message {
    let features = Message::default().flags(&[(MEM_TRACK, true), (HAS_LAZY_PAGES, true)]);
    Message::default().number(TYPE, Errand::FeatureCheck.number()).message(FEATURES, features)
}

/// `criu_req` that answers a notification.
pub(super) fn heard<E>(outcome: &Result<(), E>) -> Message {
    Message::default().number(TYPE, NOTIFY).number(NOTIFY_SUCCESS, outcome.is_ok())
}

fn request(errand: Errand, options: Message) -> Message {
    Message::default().number(TYPE, errand.number()).message(OPTS, options)
}

fn shared(frame: &Frame<'_>) -> Message {
    let chosen = frame.options;
    let mut message = Message::default()
        .number(IMAGES_DIR_FD, frame.images)
        .number(LOG_LEVEL, 4_u32)
        .text(LOG_FILE, frame.log)
        .text(ROOT, frame.root)
        .flags(&[
            (NOTIFY_SCRIPTS, true),
            (ORPHAN_PTS_MASTER, true),
            // Obsolete, and asked for by old CRIUs; the mode below is what counts.
            (MANAGE_CGROUPS, true),
            (TCP_ESTABLISHED, chosen.tcp_established),
            (TCP_CLOSE, chosen.tcp_close),
            (TCP_SKIP_IN_FLIGHT, chosen.tcp_skip_in_flight),
            (LINK_REMAP, chosen.link_remap),
            (EXT_UNIX_SK, chosen.ext_unix_sk),
            (SHELL_JOB, chosen.shell_job),
            (FILE_LOCKS, chosen.file_locks),
            (AUTO_DEDUP, chosen.auto_dedup),
            (LAZY_PAGES, chosen.lazy_pages),
        ])
        .number(MANAGE_CGROUPS_MODE, cgroup_mode(chosen.manage_cgroups));
    if let Some(work) = frame.work {
        message = message.number(WORK_DIR_FD, work);
    }
    if let Some(lock) = chosen.network_lock {
        message = message.number(NETWORK_LOCK, network_lock(lock));
    }
    if chosen.empty_namespaces != 0 {
        message = message.number(EMPTY_NS, chosen.empty_namespaces);
    }
    if let Some(file) = frame.config_file {
        message = message.text(CONFIG_FILE, file);
    }
    frame.external.iter().fold(message, |message, one| message.text(EXTERNAL, one))
}

/// `criu_cg_mode`.
fn cgroup_mode(mode: Option<CgroupMode>) -> u32 {
    match mode {
        Some(CgroupMode::Ignore) => 0,
        Some(CgroupMode::Soft) => 3,
        Some(CgroupMode::Full) => 4,
        Some(CgroupMode::Strict) => 5,
        None => 6,
    }
}

/// `criu_network_lock_method`.
fn network_lock(lock: NetworkLock) -> u32 {
    match lock {
        NetworkLock::Iptables => 1,
        NetworkLock::Nftables => 2,
        NetworkLock::Skip => 3,
    }
}

// criu_req
const TYPE: Field = Field(1, "type");
const OPTS: Field = Field(2, "opts");
const NOTIFY_SUCCESS: Field = Field(3, "notify_success");
const FEATURES: Field = Field(5, "features");
// criu_features
const MEM_TRACK: Field = Field(1, "mem_track");
const HAS_LAZY_PAGES: Field = Field(2, "lazy_pages");
// criu_page_server_info
const PS_ADDRESS: Field = Field(1, "address");
const PS_PORT: Field = Field(2, "port");
// cgroup_root
const CG_ROOT_CTRL: Field = Field(1, "ctrl");
const CG_ROOT_PATH: Field = Field(2, "path");
// inherit_fd
const INHERIT_KEY: Field = Field(1, "key");
const INHERIT_NUMBER: Field = Field(2, "fd");
// join_namespace
const JOIN_KIND: Field = Field(1, "ns");
const JOIN_FILE: Field = Field(2, "ns_file");
// criu_opts
const IMAGES_DIR_FD: Field = Field(1, "images_dir_fd");
const PID: Field = Field(2, "pid");
const LEAVE_RUNNING: Field = Field(3, "leave_running");
const EXT_UNIX_SK: Field = Field(4, "ext_unix_sk");
const TCP_ESTABLISHED: Field = Field(5, "tcp_established");
const EVASIVE_DEVICES: Field = Field(6, "evasive_devices");
const SHELL_JOB: Field = Field(7, "shell_job");
const FILE_LOCKS: Field = Field(8, "file_locks");
const LOG_LEVEL: Field = Field(9, "log_level");
const LOG_FILE: Field = Field(10, "log_file");
const PS: Field = Field(11, "ps");
const NOTIFY_SCRIPTS: Field = Field(12, "notify_scripts");
const ROOT: Field = Field(13, "root");
const PARENT_IMG: Field = Field(14, "parent_img");
const TRACK_MEM: Field = Field(15, "track_mem");
const AUTO_DEDUP: Field = Field(16, "auto_dedup");
const WORK_DIR_FD: Field = Field(17, "work_dir_fd");
const LINK_REMAP: Field = Field(18, "link_remap");
const MANAGE_CGROUPS: Field = Field(24, "manage_cgroups");
const CG_ROOT: Field = Field(25, "cg_root");
const RST_SIBLING: Field = Field(26, "rst_sibling");
const INHERIT_FD: Field = Field(27, "inherit_fd");
const MANAGE_CGROUPS_MODE: Field = Field(34, "manage_cgroups_mode");
const EXTERNAL: Field = Field(37, "external");
const EMPTY_NS: Field = Field(38, "empty_ns");
const JOIN_NS: Field = Field(39, "join_ns");
const FREEZE_CGROUP: Field = Field(44, "freeze_cgroup");
const TCP_SKIP_IN_FLIGHT: Field = Field(46, "tcp_skip_in_flight");
const LAZY_PAGES: Field = Field(48, "lazy_pages");
const ORPHAN_PTS_MASTER: Field = Field(50, "orphan_pts_master");
const CONFIG_FILE: Field = Field(51, "config_file");
const TCP_CLOSE: Field = Field(52, "tcp_close");
const LSM_PROFILE: Field = Field(53, "lsm_profile");
const LSM_MOUNT_CONTEXT: Field = Field(63, "lsm_mount_context");
const NETWORK_LOCK: Field = Field(64, "network_lock");

#[cfg(test)]
mod tests;
