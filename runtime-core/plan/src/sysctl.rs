//! `linux.sysctl`: which kernel parameters a container may set. Most of /proc/sys is the host's; only what belongs to
//! a namespace of the container passes (CVE-2022-0811), and only under a name that cannot walk elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;

use crate::inside_path::c_string;
use crate::namespaces::Kind;
use crate::{Namespaces, Refusal};

/// The parameters of System V IPC; POSIX message queues are `fs/mqueue/`.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// The parameters as paths below /proc/sys and values, sorted by path.
///
/// A joined namespace counts as the container's. Whether a joined network namespace is in truth the host's cannot be
/// seen from here; the caller that opens it compares.
pub(crate) fn plan(
    listed: Option<&HashMap<String, String>>,
    domainname: Option<&str>,
    spaces: &Namespaces,
) -> Result<Vec<(CString, CString)>, Refusal> {
    let mut planned = BTreeMap::new();
    for (key, value) in listed.into_iter().flatten() {
        let field = format!("linux.sysctl[{key:?}]");
        let path = path(key).ok_or_else(|| Refusal::new(&field, "is not the name of a kernel parameter"))?;
        if path == "kernel/domainname" && domainname.is_some() {
            return Err(Refusal::new(field, "the domain name is already set by domainname"));
        }
        owned(&path, spaces).map_err(|problem| Refusal::new(&field, problem))?;
        let value = c_string(&field, value.as_str())?;
        if planned.insert(c_string(&field, path)?, value).is_some() {
            return Err(Refusal::new(field, "is listed twice, with different separators"));
        }
    }
    Ok(planned.into_iter().collect())
}

/// `net.ipv4.conf.eth0/100.rp_filter` and `net/ipv4/conf/eth0.100/rp_filter` are the same parameter: the separator that
/// comes first is the separator, and the other one stands for the character (sysctl.d(5)).
fn path(key: &str) -> Option<String> {
    let path: String = if key.find(['.', '/']).is_some_and(|first| key[first..].starts_with('.')) {
        let swap = |letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        key.chars().map(swap).collect()
    } else {
        key.to_owned()
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:@+".contains(&byte);
    let sound = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed);
    path.split('/').all(sound).then_some(path)
}

/// The parameter belongs to a namespace of the container.
fn owned(path: &str, spaces: &Namespaces) -> Result<(), &'static str> {
    let (kind, otherwise) = match path {
        "kernel/hostname" => return Err("is not allowed; hostname sets the host name"),
        "kernel/domainname" => (Kind::Uts, "is not allowed in the host's UTS namespace"),
        _ if IPC.contains(&path) || path.starts_with("fs/mqueue/") => {
            (Kind::Ipc, "is not allowed in the host's IPC namespace")
        }
        _ if path.starts_with("net/") => (Kind::Network, "is not allowed in the host's network namespace"),
        _ if path.starts_with("user/") => (Kind::User, "is not allowed in the host's user namespace"),
        _ => return Err("is not in a separate kernel namespace"),
    };
    if spaces.has(kind) { Ok(()) } else { Err(otherwise) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_name_the_same_file() {
        let table = [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
            ("net.ipv4.conf.eno2/100.rp_filter", Some("net/ipv4/conf/eno2.100/rp_filter")),
            ("net/ipv4/conf/eno2.100/rp_filter", Some("net/ipv4/conf/eno2.100/rp_filter")),
            ("", None),
            (".", None),
            ("net..x", None),
            ("net.", None),
            (".net.x", None),
            ("/net/x", None),
            ("net/../kernel/core_pattern", None),
            ("net.//.kernel.core_pattern", None),
            ("net.ipv4.a b", None),
            ("net.ipv4.a\0b", None),
            ("net/ipv4/é", None),
        ];
        for (key, expected) in table {
            assert_eq!(path(key).as_deref(), expected, "{key:?}");
        }
    }

    #[test]
    fn only_what_a_namespace_of_the_container_holds_may_be_set() {
        let all = Namespaces { new: u32::MAX, ..Namespaces::default() };
        let none = Namespaces::default();
        let table = [
            ("kernel/msgmax", true),
            ("kernel/shm_rmid_forced", true),
            ("fs/mqueue/msg_max", true),
            ("net/core/somaxconn", true),
            ("user/max_user_namespaces", true),
            ("kernel/domainname", true),
            ("kernel/hostname", false),
            ("kernel/core_pattern", false),
            ("fs/mqueue", false),
            ("network/x", false),
            ("vm/overcommit_memory", false),
        ];
        for (path, allowed) in table {
            assert_eq!(owned(path, &all).is_ok(), allowed, "{path} with every namespace");
            assert!(owned(path, &none).is_err(), "{path} with none");
        }
    }
}
