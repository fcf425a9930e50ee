//! The end of every script that becomes a container's process, init or exec: streams, limits, identity, program.
//!
//! The order of the last steps depends on `no_new_privileges`. With it, the filter is installed last of all. Without,
//! installing asks for CAP_SYS_ADMIN, which is kept for exactly that long: after the filter only `capset`, the gate and
//! `execve` have to be allowed by the profile. A filter with a listener is installed before the gate in either case, and
//! `sendmsg`, `write`, `read` and `close` have to be allowed, or answered for by the agent.

use std::os::fd::AsFd as _;

use tare_init::script::{Fd, Numbers, Op, Strings};
use tare_plan::{CapabilitySets, Filter, MemoryPolicy, Process, TerminalSize};

use super::{point, tag};
use crate::gate::Fifos;
use crate::prepare::Streams;
use crate::script::{About, Script, numbers, strings, words};
use crate::spawn::GATE;

const PR_SET_PDEATHSIG: i32 = 1;
const SIGKILL: u64 = 9;
pub(super) const PR_SET_DUMPABLE: i32 = 4;
const PR_SET_KEEPCAPS: i32 = 8;
const PR_SET_NO_NEW_PRIVS: i32 = 38;
const CAP_SYS_ADMIN: u64 = 1 << 21;
/// The umask that the stub was born with.
const INHERITED_UMASK: u32 = u32::MAX;

/// What the stub does when everything but executing is done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Gate<'fd> {
    /// Waits for its parent.
    Wait,
    /// Waits for anybody, at FIFOs.
    Fifos(&'fd Fifos, Sight),
    /// Only says so.
    Pass,
}

/// Who may look at a process that waits at its gate, and so join its namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Root of the host.
    Roots,
    /// The user who made it: without privileges nobody joins what they may not look at.
    Makers,
}

/// Opens the terminal of the devpts below `root` and sends its master to the parent, which gives it its size where it
/// shall have one; answers the peer.
pub(super) fn open_terminal(script: &mut Script<'_>, root: Fd, size: TerminalSize) -> Fd {
    script.what("open a terminal of /dev/pts");
    let (master, peer) = (script.slot(), script.slot());
    script.push(Op::Terminal { root, path: c"/dev/pts/ptmx", master, peer });
    script.push(Op::Send { fd: Fd::slot(master), tag: tag::CONSOLE });
    script.push(Op::Close { fd: Fd::slot(master) });
    if size != TerminalSize::default() {
        script.what("wait for the size of the terminal");
        script.push(Op::Sync { point: point::SIZE });
    }
    Fd::slot(peer)
}

/// Who sets resource limits. They bind the program and not the stub: just before the gate, and when every descriptor
/// that set-up needs has been opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// The process itself.
    BySelf,
    /// The parent, since nobody in a user namespace may raise a limit.
    ByParent,
}

/// What a script ends with.
#[derive(Debug)]
pub(super) struct Ending<'a, 'fd> {
    pub(super) process: &'a Process,
    pub(super) filter: Option<&'a Filter>,
    pub(super) memory_policy: Option<&'a MemoryPolicy>,
    pub(super) streams: &'fd Streams,
    /// The terminal's peer, where there is one.
    pub(super) terminal: Option<Fd>,
    pub(super) gate: Gate<'fd>,
    /// How many descriptors from 3 on stay open.
    pub(super) preserve_fds: u32,
    pub(super) die_with_caller: bool,
    pub(super) limits: Limits,
    /// The highest capability the kernel knows.
    pub(super) last_capability: u8,
}

pub(super) fn finish<'fd>(script: &mut Script<'fd>, ending: &Ending<'_, 'fd>) {
    let Ending { process, filter, gate, .. } = *ending;
    let last = u32::from(ending.last_capability);
    give_streams(script, process, ending.terminal, ending.streams);
    scheduling(script, process, ending.memory_policy);
    security_label(script, process);
    rlimits(script, process, ending.limits);
    identity(script, process, last);
    let admin = if filter.is_some() && !process.no_new_privileges { CAP_SYS_ADMIN } else { 0 };
    privileges(script, process, admin, last);
    if ending.die_with_caller {
        // Not earlier: becoming another user clears it (prctl(2)).
        script.what("ask to be killed with the runtime");
        script.push(Op::Prctl { option: PR_SET_PDEATHSIG, value: SIGKILL });
    }
    script.about(About::Finding(process.args.first().map_or_else(String::new, |name| lossy(name))));
    let candidates = strings(process.candidates.iter().map(|path| &**path));
    script.push(Op::Find { candidates: Strings(&candidates) });
    close(script, gate, ending.preserve_fds);
    if matches!(gate, Gate::Fifos(_, Sight::Makers)) {
        // SECURITY: by now it has the rights and the user of its program, which the same could look at, and of the host the
        // FIFOs alone.
        script.push(Op::Prctl { option: PR_SET_DUMPABLE, value: 1 });
    }
    // With a listener, the agent has it before the container counts as created.
    if admin == 0 && filter.is_none_or(|filter| filter.listener.is_none()) {
        pass(script, gate);
        install(script, filter);
    } else {
        install(script, filter);
        if admin != 0 {
            final_capabilities(script, process.capabilities);
        }
        pass(script, gate);
    }
    script.about(About::Executing(process.args.first().map_or_else(String::new, |path| lossy(path))));
    let arguments = strings(process.args.iter().map(|text| &**text));
    let environment = strings(process.env.iter().map(|text| &**text));
    script.push(Op::Exec { arguments: Strings(&arguments), environment: Strings(&environment) });
}

fn lossy(text: &std::ffi::CStr) -> String {
    text.to_string_lossy().into_owned()
}

fn give_streams<'fd>(script: &mut Script<'fd>, process: &Process, terminal: Option<Fd>, streams: &'fd Streams) {
    script.what("give the process its streams");
    script.push(Op::Session { terminal: terminal.unwrap_or(Fd::NONE) });
    for number in 0..3 {
        let from = match (terminal, streams) {
            (Some(peer), _) => peer,
            (None, Streams::Open(open)) => match open.get(number) {
                Some(fd) => script.inherit(fd.as_fd()),
                None => continue,
            },
            (None, Streams::Terminal) => continue,
        };
        script.push(Op::Dup { from, to: i32::try_from(number).unwrap_or(0) });
    }
    script.push(Op::OwnStdio { uid: process.user.uid });
}

fn rlimits(script: &mut Script<'_>, process: &Process, limits: Limits) {
    if process.rlimits.is_empty() {
        return;
    }
    if limits == Limits::ByParent {
        script.what("wait for resource limits");
        script.push(Op::Sync { point: point::LIMITS });
        return;
    }
    for (resource, soft, hard) in &process.rlimits {
        script.what(format!("set rlimit {resource} to {soft}:{hard}"));
        script.push(Op::Rlimit { resource: *resource, soft: *soft, hard: *hard });
    }
}

fn scheduling(script: &mut Script<'_>, process: &Process, memory_policy: Option<&MemoryPolicy>) {
    if let Some(MemoryPolicy { mode, nodes }) = memory_policy {
        // Not before the process is in its cgroup: the kernel reads nodes against the cpuset.
        script.what(format!("set memory policy {mode:#x}"));
        script.push(Op::MemoryPolicy { mode: *mode, nodes: &words(nodes) });
    }
    if let Some(scheduler) = &process.scheduler {
        const DEADLINE: u32 = 6;
        // The kernel says EPERM for both, and runc says the first.
        let why = "process scheduler can't be used together with AllowedCPUs, nor without CAP_SYS_NICE";
        let hint = if scheduler.policy == DEADLINE { format!(" ({why})") } else { String::new() };
        script.what(format!("set the scheduler{hint}"));
        script.push(Op::Scheduler { attributes: &sched_attr(scheduler) });
    }
    if let Some(value) = process.io_priority {
        script.what("set the io priority");
        script.push(Op::IoPriority { value });
    }
    script.what("set the umask");
    script.push(Op::Umask { mask: process.user.umask.unwrap_or(INHERITED_UMASK) });
}

/// `struct sched_attr`, version 0: 48 bytes (sched_setattr(2)).
fn sched_attr(scheduler: &tare_plan::Scheduler) -> Vec<u8> {
    let words = [48, scheduler.policy];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend(scheduler.flags.to_ne_bytes());
    bytes.extend(scheduler.nice.to_ne_bytes());
    bytes.extend(scheduler.priority.to_ne_bytes());
    for time in [scheduler.runtime, scheduler.deadline, scheduler.period] {
        bytes.extend(time.to_ne_bytes());
    }
    bytes
}

/// The label that the next execve takes on, written through a procfs that nobody else can reach.
pub(super) fn security_label(script: &mut Script<'_>, process: &Process) {
    let apparmor = process.apparmor.as_ref().map(|name| {
        let what = format!("apply apparmor profile {}, which has to be loaded", name.to_string_lossy());
        (what, c"thread-self/attr/apparmor/exec", "exec ", name)
    });
    let selinux = process
        .selinux
        .as_ref()
        .map(|label| (format!("set selinux label {}", label.to_string_lossy()), c"thread-self/attr/exec", "", label));
    for (what, path, verb, label) in [apparmor, selinux].into_iter().flatten() {
        script.what(what);
        let proc = script.slot();
        script.push(super::mounts::private_procfs(proc));
        let data = [verb.as_bytes(), label.as_bytes()].concat();
        script.push(Op::Set { dir: Fd::slot(proc), path, data: &data });
        script.push(Op::Close { fd: Fd::slot(proc) });
        script.free(proc);
    }
}

/// The working directory is entered with root's rights, before they go, as runc does, and else with the user's; then
/// groups, ids, and the proof.
fn identity(script: &mut Script<'_>, process: &Process, last: u32) {
    let user = &process.user;
    let groups = user.groups.as_deref().map(numbers);
    let chdir = format!("chdir to cwd ({:?}) set in config.json failed", process.cwd.to_string_lossy());
    script.what(chdir.clone());
    script.push(Op::Chdir { path: &process.cwd, later: 1 });
    script.what("limit the bounding capabilities");
    script.push(Op::Bounding { keep: process.capabilities.bounding, last });
    script.push(Op::Prctl { option: PR_SET_KEEPCAPS, value: 1 });
    script.what(format!("become user {} group {}", user.uid, user.gid));
    if let Some(groups) = &groups {
        script.push(Op::Groups { groups: Numbers(groups) });
    }
    script.push(Op::Ids { uid: user.uid, gid: user.gid });
    script.push(Op::Prctl { option: PR_SET_KEEPCAPS, value: 0 });
    // Changing ids has put this back to fs.suid_dumpable.
    script.push(Op::Prctl { option: PR_SET_DUMPABLE, value: 0 });
    script.what(chdir);
    script.push(Op::Chdir { path: &process.cwd, later: 0 });
    script.what(format!("verify user {} group {}", user.uid, user.gid));
    script.push(Op::VerifyIds { uid: user.uid, gid: user.gid });
    if let Some(groups) = &groups {
        script.push(Op::VerifyGroups { groups: Numbers(groups) });
    }
}

/// Capabilities, with `admin` kept in addition, and no_new_privs; both are read back.
fn privileges(script: &mut Script<'_>, process: &Process, admin: u64, last: u32) {
    let CapabilitySets { bounding, effective, permitted, inheritable, ambient } = process.capabilities;
    let (effective, permitted) = (effective | admin, permitted | admin);
    script.what("set capabilities");
    script.push(Op::Capabilities { effective, permitted, inheritable });
    script.push(Op::Ambient { set: ambient, last });
    if process.no_new_privileges {
        script.what("set no_new_privs");
        script.push(Op::Prctl { option: PR_SET_NO_NEW_PRIVS, value: 1 });
    }
    script.what("verify capabilities and no_new_privs");
    let no_new_privileges = process.no_new_privileges.into();
    script.push(Op::VerifyPrivileges { effective, permitted, inheritable, bounding, last, no_new_privileges });
}

fn final_capabilities(script: &mut Script<'_>, sets: CapabilitySets) {
    if sets.effective & sets.permitted & CAP_SYS_ADMIN == 0 {
        let CapabilitySets { effective, permitted, inheritable, .. } = sets;
        script.what("give up CAP_SYS_ADMIN");
        script.push(Op::Capabilities { effective, permitted, inheritable });
    }
}

fn pass<'fd>(script: &mut Script<'fd>, gate: Gate<'fd>) {
    script.what("wait for start");
    let op = match gate {
        Gate::Wait => Op::Sync { point: GATE },
        Gate::Fifos(fifos, _) => {
            let [word, answer] = [&fifos.word, &fifos.answer].map(|fd| script.inherit(fd.as_fd()));
            Op::Gate { point: GATE, word, answer }
        }
        Gate::Pass => Op::Report { point: GATE },
    };
    script.push(op);
}

/// The parent hands it to the agent. From here on the agent may be asked about each call but `write` and `sendmsg`; it
/// has the listener when the first that waits for its answer, the reading of the word to go on, can end.
fn give_listener(script: &mut Script<'_>, listener: Fd) {
    script.what("send the listener of the seccomp filter (the profile has to allow sendmsg)");
    script.push(Op::Send { fd: listener, tag: tag::LISTENER });
    script.what("wait for the seccomp agent");
    script.push(Op::Sync { point: point::LISTENER });
    script.push(Op::Close { fd: listener });
}

/// Everything but the streams and the control socket is closed for good before the gate: a created container holds
/// nothing of the host, and execve finds nothing to go through (CVE-2024-21626).
fn close<'fd>(script: &mut Script<'fd>, gate: Gate<'fd>, preserve_fds: u32) {
    script.what("close descriptors");
    let keep = match gate {
        Gate::Fifos(fifos, _) => {
            [&fifos.word, &fifos.answer].map(|fd| script.inherit(fd.as_fd()).0.cast_unsigned()).to_vec()
        }
        Gate::Wait | Gate::Pass => Vec::new(),
    };
    script.push(Op::CloseFrom { first: 3 + preserve_fds, keep: Numbers(&numbers(&keep)) });
}

fn install(script: &mut Script<'_>, filter: Option<&Filter>) {
    let Some(filter) = filter else { return };
    script.what("install the seccomp filter");
    let into = script.slot();
    script.push(Op::Seccomp { flags: filter.flags, program: &filter.program, into });
    if filter.listener.is_some() {
        give_listener(script, Fd::slot(into));
    }
}
