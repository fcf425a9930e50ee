//! `HOME` from the container's own passwd file. Whoever starts the process reads the file, under the container's root;
//! here its text is only looked at, and never for more than this: no name is ever turned into an id.

use std::ffi::CString;

use crate::Process;

/// The process's environment says nothing of its home: `HOME` is unset or empty, and passwd is worth reading.
#[must_use]
pub fn needs_home(process: &Process) -> bool {
    process.env.iter().all(|entry| entry.as_bytes().strip_prefix(b"HOME=").is_none_or(<[u8]>::is_empty))
}

/// The process with `HOME` as `passwd`, the text of the container's /etc/passwd, has it for its uid, or `/`. A `HOME`
/// that is set and not empty stays.
#[must_use]
pub fn with_home(mut process: Process, passwd: &[u8]) -> Process {
    if needs_home(&process) {
        let home = home(passwd, process.user.uid).unwrap_or(b"/");
        process.env.retain(|entry| !entry.as_bytes().starts_with(b"HOME="));
        process.env.extend(CString::new([b"HOME=", home].concat()));
    }
    process
}

/// The home in the first line for `uid`, if it is a usable one.
fn home(passwd: &[u8], uid: u32) -> Option<&[u8]> {
    let is_of_uid = |field: &[u8]| {
        let digits = field.iter().all(u8::is_ascii_digit);
        digits && std::str::from_utf8(field).is_ok_and(|number| number.parse() == Ok(uid))
    };
    let of_line = |line: &'_ [u8]| line.split(|byte| *byte == b':').nth(2).is_some_and(is_of_uid);
    let line = passwd.split(|byte| *byte == b'\n').find(|line| of_line(line))?;
    let home = line.split(|byte| *byte == b':').nth(5)?;
    (!home.is_empty() && !home.contains(&0)).then_some(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# note\n\nbroken\nsign:x:+1:1::/sign:\n\
        a:x:1:1::/first:/bin/sh\nb:x:1:1::/second:\nempty:x:2:2:::\nnul:x:3:3::/n\0l:\nshort:x:4:4::/short";

    #[test]
    fn the_first_line_of_the_uid_has_the_home() {
        let table: [(u32, Option<&[u8]>); 6] =
            [(0, Some(b"/root")), (1, Some(b"/first")), (2, None), (3, None), (4, Some(b"/short")), (99, None)];
        for (uid, expected) in table {
            assert_eq!(home(PASSWD, uid), expected, "{uid}");
        }
    }

    #[test]
    fn home_is_set_only_when_it_is_not() {
        let process = |env: &[&str]| {
            let listed = serde_json::json!({"user": {"uid": 1}, "args": ["a"], "cwd": "/", "env": env});
            let host = crate::Host {
                cgroups: crate::CgroupLayout::Legacy { hierarchies: Vec::new(), unified: None },
                last_capability: 40,
                euid: 0,
                egid: 0,
                setgroups_denied: false,
                apparmor: false,
                selinux: false,
                in_user_namespace: false,
            };
            crate::process(&serde_json::from_value(listed).unwrap(), "process", crate::Groups::Set, &host).unwrap()
        };
        let table: [(&[&str], &[u8], &str); 5] = [
            (&["A=1"], PASSWD, "A=1 HOME=/first"),
            (&["HOME=", "A=1"], PASSWD, "A=1 HOME=/first"),
            (&["HOME=/x", "A=1"], PASSWD, "HOME=/x A=1"),
            (&["HOMER=1"], PASSWD, "HOMER=1 HOME=/first"),
            (&[], b"", "HOME=/"),
        ];
        for (env, passwd, expected) in table {
            let env: Vec<String> =
                with_home(process(env), passwd).env.iter().map(|e| e.to_str().unwrap().to_owned()).collect();
            assert_eq!(env.join(" "), expected);
        }
    }
}
