//! A process: the first of a container, or one that joins later. One planner for both, so that they cannot differ.

use std::collections::BTreeSet;
use std::ffi::CString;

use oci_spec::runtime as oci;

use crate::inside_path::{c_string, inside};
use crate::namespaces::Groups;
use crate::{Host, Process, Refusal, TerminalSize, User, capabilities, scheduling};

/// `(uid_t)-1`. To setresuid(2) it means "unchanged", so a process that asked for it would stay root.
const NO_ID: u32 = u32::MAX;

/// Plans `process`, which stands at `field` in the text it comes from: `process` for a container's first.
///
/// # Errors
/// The first thing in it that cannot be honoured.
pub fn process(process: &oci::Process, field: &str, groups: Groups, host: &Host) -> Result<Process, Refusal> {
    let at = |name: &str| format!("{field}.{name}");
    let args = args(&at("args"), process)?;
    let env = environment(&at("env"), process.env().as_deref().unwrap_or_default())?;
    Ok(Process {
        candidates: candidates(&at("args"), &args, &env)?,
        args,
        env,
        cwd: cwd(&at("cwd"), process)?,
        terminal: terminal(&at("consoleSize"), process)?,
        user: user(&at("user"), process.user(), groups)?,
        capabilities: capabilities::plan(&at("capabilities"), process.capabilities().as_ref(), host)?,
        rlimits: rlimits(&at("rlimits"), process.rlimits().as_deref().unwrap_or_default())?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: oom_score_adj(&at("oomScoreAdj"), process)?,
        apparmor: label(&at("apparmorProfile"), process.apparmor_profile(), Module::AppArmor, host)?,
        selinux: label(&at("selinuxLabel"), process.selinux_label(), Module::SeLinux, host)?,
        scheduler: process.scheduler().as_ref().map(|one| scheduling::policy(&at("scheduler"), one)).transpose()?,
        io_priority: process
            .io_priority()
            .as_ref()
            .map(|one| scheduling::io_priority(&at("ioPriority"), one))
            .transpose()?,
        initial_affinity: scheduling::initial_affinity(&at("execCPUAffinity"), process)?,
        affinity: scheduling::final_affinity(&at("execCPUAffinity"), process)?,
    })
}

fn args(field: &str, process: &oci::Process) -> Result<Vec<CString>, Refusal> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.is_empty() {
        return Err(Refusal::new(field, "is empty"));
    }
    args.iter().map(|text| c_string(field, text.as_str())).collect()
}

/// Of entries with the same name the last one stays, where it stands.
fn environment(field: &str, listed: &[String]) -> Result<Vec<CString>, Refusal> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::with_capacity(listed.len());
    for entry in listed.iter().rev() {
        let name = match entry.split_once('=') {
            Some(("", _)) => return Err(Refusal::new(field, format!("{entry:?} has an empty name"))),
            Some((name, _)) => name,
            None => return Err(Refusal::new(field, format!("{entry:?} has no ="))),
        };
        let entry = c_string(field, entry.as_str())?;
        if seen.insert(name) {
            kept.push(entry);
        }
    }
    kept.reverse();
    Ok(kept)
}

/// Where the program may lie. A name without a slash is looked for in the container's own `$PATH`; as with Go's
/// `exec.LookPath`, folders of it that are empty or relative never match, so that the working directory cannot supply
/// the program. No candidate at all is "executable file not found in $PATH", which is for the caller to say.
fn candidates(field: &str, args: &[CString], env: &[CString]) -> Result<Vec<CString>, Refusal> {
    let Some(name) = args.first().map(|name| name.as_bytes()).filter(|name| !name.is_empty()) else {
        return Ok(Vec::new());
    };
    if name.contains(&b'/') {
        return Ok(vec![c_string(field, name)?]);
    }
    let path = env.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH=")).unwrap_or_default();
    let folders = path.split(|byte| *byte == b':').filter(|folder| folder.starts_with(b"/"));
    folders
        .map(|folder| {
            let folder = folder.strip_suffix(b"/").unwrap_or(folder);
            c_string(field, [folder, b"/", name].concat())
        })
        .collect()
}

/// Cleaned lexically, as runc does where it makes a missing one: what is made and what is entered are the same folder.
fn cwd(field: &str, process: &oci::Process) -> Result<CString, Refusal> {
    if !process.cwd().is_absolute() {
        return Err(Refusal::new(field, format!("{:?} is not an absolute path", process.cwd())));
    }
    Ok(inside(field, process.cwd())?.0)
}

/// `consoleSize` means nothing without a terminal.
fn terminal(field: &str, process: &oci::Process) -> Result<Option<TerminalSize>, Refusal> {
    if !process.terminal().unwrap_or(false) {
        return Ok(None);
    }
    let Some(size) = process.console_size() else { return Ok(Some(TerminalSize::default())) };
    let side = |length: u64| {
        u16::try_from(length).map_err(|_| Refusal::new(field, format!("{length} characters are more than 65535")))
    };
    Ok(Some(TerminalSize { width: side(size.width())?, height: side(size.height())? }))
}

fn user(field: &str, user: &oci::User, may: Groups) -> Result<User, Refusal> {
    let id = |name: &str, id: u32| {
        if id == NO_ID { Err(Refusal::new(format!("{field}.{name}"), "4294967295 is not an id")) } else { Ok(id) }
    };
    let groups = user.additional_gids().iter().flatten();
    if may == Groups::Kept && groups.clone().next().is_some() {
        return Err(Refusal::new(format!("{field}.additionalGids"), "cannot be set: setgroups is denied here"));
    }
    let umask = match user.umask() {
        Some(mask) if mask > 0o777 => {
            return Err(Refusal::new(format!("{field}.umask"), format!("{mask:#o} is more than 0o777")));
        }
        mask => mask,
    };
    Ok(User {
        uid: id("uid", user.uid())?,
        gid: id("gid", user.gid())?,
        groups: match may {
            Groups::Set => Some(groups.map(|gid| id("additionalGids", *gid)).collect::<Result<_, _>>()?),
            Groups::Kept => None,
        },
        umask,
    })
}

fn rlimits(field: &str, listed: &[oci::PosixRlimit]) -> Result<Vec<(u32, u64, u64)>, Refusal> {
    let mut limits: Vec<(u32, u64, u64)> = Vec::with_capacity(listed.len());
    for (index, limit) in listed.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let known = LIMITS.iter().zip(0..).find(|((listed, _), _)| *listed == limit.typ());
        let resource = known.map(|(_, number)| number).ok_or_else(|| Refusal::new(&field, "is not a known limit"))?;
        if limits.iter().any(|(other, ..)| *other == resource) {
            return Err(Refusal::new(field, format!("{} is already listed", limit.typ())));
        }
        if limit.soft() > limit.hard() {
            return Err(Refusal::new(field, format!("the soft limit of {} is above the hard one", limit.typ())));
        }
        limits.push((resource, limit.soft(), limit.hard()));
    }
    Ok(limits)
}

/// The limits by the numbers of asm-generic/resource.h, which x86_64 and aarch64 share, and their names.
pub(crate) const LIMITS: [(oci::PosixRlimitType, &str); 16] = [
    (oci::PosixRlimitType::RlimitCpu, "cpu"),
    (oci::PosixRlimitType::RlimitFsize, "fsize"),
    (oci::PosixRlimitType::RlimitData, "data"),
    (oci::PosixRlimitType::RlimitStack, "stack"),
    (oci::PosixRlimitType::RlimitCore, "core"),
    (oci::PosixRlimitType::RlimitRss, "rss"),
    (oci::PosixRlimitType::RlimitNproc, "nproc"),
    (oci::PosixRlimitType::RlimitNofile, "nofile"),
    (oci::PosixRlimitType::RlimitMemlock, "memlock"),
    (oci::PosixRlimitType::RlimitAs, "as"),
    (oci::PosixRlimitType::RlimitLocks, "locks"),
    (oci::PosixRlimitType::RlimitSigpending, "sigpending"),
    (oci::PosixRlimitType::RlimitMsgqueue, "msgqueue"),
    (oci::PosixRlimitType::RlimitNice, "nice"),
    (oci::PosixRlimitType::RlimitRtprio, "rtprio"),
    (oci::PosixRlimitType::RlimitRttime, "rttime"),
];

fn oom_score_adj(field: &str, process: &oci::Process) -> Result<Option<i32>, Refusal> {
    match process.oom_score_adj() {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(Refusal::new(field, format!("{score} is not between -1000 and 1000")))
        }
        score => Ok(score),
    }
}

/// A security module that labels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Module {
    AppArmor,
    SeLinux,
}

/// A label for a security module that is not there would be a promise not kept.
pub(crate) fn label(
    field: &str,
    listed: &Option<String>,
    module: Module,
    host: &Host,
) -> Result<Option<CString>, Refusal> {
    let (name, enabled) = match module {
        Module::AppArmor => ("apparmor", host.apparmor),
        Module::SeLinux => ("selinux", host.selinux),
    };
    match listed.as_deref().filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(_) if !enabled => Err(Refusal::new(field, format!("{name} is not enabled on the system"))),
        Some(text) => c_string(field, text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn shown(list: &[CString]) -> Vec<&str> {
        list.iter().map(|text| text.to_str().unwrap()).collect()
    }

    #[test]
    fn of_two_entries_with_one_name_the_last_stays() {
        let env = environment("env", &strings(&["A=1", "B=2", "A=3", "C=", "B=x=y"])).unwrap();
        assert_eq!(shown(&env), ["A=3", "C=", "B=x=y"]);
        for bad in ["A", "=x", "", "A=\0"] {
            assert!(environment("env", &strings(&["B=1", bad])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_program_is_looked_for_in_absolute_folders_of_the_containers_path() {
        let table: [(&str, &str, &[&str]); 8] = [
            ("sh", "PATH=/bin:/usr/bin", &["/bin/sh", "/usr/bin/sh"]),
            ("sh", "PATH=/bin/:/", &["/bin/sh", "/sh"]),
            ("sh", "PATH=:.:bin:/bin", &["/bin/sh"]),
            ("sh", "PATH=", &[]),
            ("sh", "HOME=/", &[]),
            ("/bin/sh", "PATH=/x", &["/bin/sh"]),
            ("./sh", "PATH=/x", &["./sh"]),
            ("", "PATH=/x", &[]),
        ];
        for (name, path, expected) in table {
            let args = [CString::new(name).unwrap()];
            let found = candidates("args", &args, &[CString::new(path).unwrap()]).unwrap();
            assert_eq!(shown(&found), expected, "{name} {path}");
        }
    }

    /// The ids at every power of two and beside it: all but -1 are someone's.
    #[test]
    fn minus_one_is_nobodys_id() {
        let edges =
            (0..32).flat_map(|bit| [(1_u32 << bit) - 1, 1 << bit, (1 << bit) + 1]).chain([u32::MAX - 1, u32::MAX]);
        for id in edges {
            for member in ["uid", "gid", "additionalGids"] {
                let text = match member {
                    "additionalGids" => format!("{{\"uid\":0,\"gid\":0,\"additionalGids\":[{id}]}}"),
                    member => format!("{{\"{member}\":{id}}}"),
                };
                let listed: oci::User = serde_json::from_str(&text).unwrap();
                let planned = user("user", &listed, Groups::Set);
                assert_eq!(planned.is_ok(), id != u32::MAX, "{text}");
            }
        }
        for text in ["4294967296", "-1", "\"0\"", "1.0", "1e3"] {
            assert!(serde_json::from_str::<oci::User>(&format!("{{\"uid\":{text}}}")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_is_set_once_and_soft_stays_below_hard() {
        let table = [
            (r#"[{"type":"RLIMIT_NOFILE","hard":2,"soft":1},{"type":"RLIMIT_CORE","hard":0,"soft":0}]"#, true),
            (r#"[{"type":"RLIMIT_NOFILE","hard":2,"soft":1},{"type":"RLIMIT_NOFILE","hard":2,"soft":1}]"#, false),
            (r#"[{"type":"RLIMIT_NOFILE","hard":1,"soft":2}]"#, false),
            (r#"[{"type":"RLIMIT_NOFILE","hard":18446744073709551615,"soft":18446744073709551615}]"#, true),
        ];
        for (text, allowed) in table {
            let listed: Vec<oci::PosixRlimit> = serde_json::from_str(text).unwrap();
            assert_eq!(rlimits("rlimits", &listed).is_ok(), allowed, "{text}");
        }
    }
}
