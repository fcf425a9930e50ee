//! How an op reads for people: the verb and its object, as errors and `tare plan` show it.

use core::fmt;

use crate::script::{Fd, Op, Strings, device_parts};

impl fmt::Display for Op<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt_bytes as show;
        match *self {
            Op::ResetSignals {} => f.write_str("reset signals"),
            Op::Prctl { option, value } => write!(f, "prctl {option} {value}"),
            Op::Personality { persona } => write!(f, "personality {persona:#x}"),
            Op::Keyring { name, .. } => write!(f, "join session keyring {}", show(name.to_bytes())),
            Op::Rlimit { resource, soft, hard } => write!(f, "set rlimit {resource} to {soft}:{hard}"),
            Op::Scheduler { .. } => f.write_str("set scheduler"),
            Op::IoPriority { value } => write!(f, "set io priority {value:#x}"),
            Op::Affinity { .. } => f.write_str("set cpu affinity"),
            Op::MemoryPolicy { mode, .. } => write!(f, "set memory policy {mode:#x}"),
            Op::Open { path, .. } => write!(f, "open {}", show(path.to_bytes())),
            Op::Write { data, .. } => write!(f, "write {}", show(data)),
            Op::Set { path, data, .. } => write!(f, "write {} to {}", show(data), show(path.to_bytes())),
            Op::Close { fd } => write!(f, "close {}", End(fd)),
            Op::Dup { from, to } => write!(f, "dup {} to {to}", End(from)),
            Op::OwnStdio { uid } => write!(f, "give stdio to user {uid}"),
            Op::CloseFrom { first, .. } => write!(f, "close descriptors from {first}"),
            Op::SetNs { kinds, .. } => write!(f, "join namespaces {kinds:#x}"),
            Op::Unshare { kinds } => write!(f, "unshare namespaces {kinds:#x}"),
            Op::Fork { kinds, .. } => write!(f, "fork with namespaces {kinds:#x}"),
            Op::Hostname { name } => write!(f, "set hostname {}", show(name.to_bytes())),
            Op::Domainname { name } => write!(f, "set domainname {}", show(name.to_bytes())),
            Op::Loopback {} => f.write_str("bring up loopback"),
            Op::Netlink { .. } => f.write_str("open a netlink socket"),
            Op::Sync { point } => write!(f, "wait at point {point}"),
            Op::Gate { point, .. } => write!(f, "wait at point {point} for anybody"),
            Op::Next { point } => write!(f, "wait at point {point} for the next script"),
            Op::Report { point } => write!(f, "report point {point}"),
            Op::Send { tag, .. } => write!(f, "send descriptor {tag}"),
            Op::Give { fd, .. } => write!(f, "give {}", End(fd)),
            Op::Take { into, .. } => write!(f, "take into slot {}", into.0),
            _ => self.fmt_rest(f),
        }
    }
}

impl Op<'_> {
    fn fmt_rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt_bytes as show;
        match *self {
            Op::SetAttr { set, clear, propagation, .. } => {
                write!(f, "set mount attributes +{set:#x} -{clear:#x} propagation {propagation:#x}")
            }
            Op::Filesystem { kind, .. } => write!(f, "make {}", show(kind.to_bytes())),
            Op::CloneTree { path, .. } => write!(f, "clone {}", show(path.to_bytes())),
            Op::Target { path, .. } => write!(f, "find {}", show(path.to_bytes())),
            Op::Attach { .. } => f.write_str("attach"),
            Op::CopyUp { .. } => f.write_str("copy up"),
            Op::Symlink { path, target, .. } => {
                write!(f, "symlink {} to {}", show(path.to_bytes()), show(target.to_bytes()))
            }
            Op::Node { path, number, .. } => {
                let (major, minor) = device_parts(number);
                write!(f, "make device {} {major}:{minor}", show(path.to_bytes()))
            }
            Op::Mask { path, .. } => write!(f, "mask {}", show(path.to_bytes())),
            Op::Seal { path, .. } => write!(f, "make read-only {}", show(path.to_bytes())),
            Op::SetAttrAt { path, set, clear, propagation, .. } => {
                let path = show(path.to_bytes());
                write!(f, "set mount attributes of {path} +{set:#x} -{clear:#x} propagation {propagation:#x}")
            }
            Op::Pivot { .. } => f.write_str("pivot root"),
            Op::IdMap { recursive, .. } => {
                write!(f, "map ids{}", if recursive == 0 { "" } else { " of the whole tree" })
            }
            Op::Mount { kind, target, .. } => {
                write!(f, "mount {} on {}", show(kind.to_bytes()), show(target.to_bytes()))
            }
            Op::Reconfigure { path, .. } => write!(f, "reconfigure {}", show(path.to_bytes())),
            Op::Hide { path } => write!(f, "hide {}", show(path.to_bytes())),
            Op::MoveRoot { .. } => f.write_str("move root"),
            Op::Terminal { path, .. } => write!(f, "open terminal of {}", show(path.to_bytes())),
            Op::Session { .. } => f.write_str("new session"),
            Op::Umask { mask } => write!(f, "set umask {mask:04o}"),
            Op::Groups { groups } => {
                f.write_str("set groups")?;
                groups.iter().try_for_each(|group| write!(f, " {group}"))
            }
            Op::Ids { uid, gid } => write!(f, "become user {uid} group {gid}"),
            Op::Bounding { keep, .. } => write!(f, "keep bounding capabilities {keep:#x}"),
            Op::Capabilities { effective, permitted, inheritable } => {
                write!(f, "set capabilities e {effective:#x} p {permitted:#x} i {inheritable:#x}")
            }
            Op::Ambient { set, .. } => write!(f, "set ambient capabilities {set:#x}"),
            Op::Chdir { path, .. } => write!(f, "chdir to cwd {}", show(path.to_bytes())),
            Op::Seccomp { program, .. } => write!(f, "install seccomp filter of {} instructions", program.len() / 8),
            Op::VerifyIds { uid, gid } => write!(f, "verify user {uid} group {gid}"),
            Op::VerifyGroups { .. } => f.write_str("verify groups"),
            Op::VerifyPrivileges { .. } => f.write_str("verify capabilities"),
            Op::Find { candidates } => write!(f, "find program {}", First(candidates)),
            Op::Exec { arguments, .. } => write!(f, "exec {}", First(arguments)),
            _ => f.write_str("op"),
        }
    }
}

/// Text that may not be UTF-8, with what cannot be shown escaped.
fn fmt_bytes(bytes: &[u8]) -> impl fmt::Display {
    core::fmt::from_fn(move |f| {
        bytes.utf8_chunks().try_for_each(|chunk| {
            f.write_str(chunk.valid())?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
        })
    })
}

/// A descriptor: which slot, or that it is inherited; the number then differs from run to run and says nothing.
struct End(Fd);

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slot() {
            Some(slot) => write!(f, "slot {}", slot.0),
            None => f.write_str("inherited"),
        }
    }
}

/// The first of some strings.
struct First<'a>(Strings<'a>);

impl fmt::Display for First<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.iter().next() {
            Some(string) => write!(f, "{}", fmt_bytes(string.to_bytes())),
            None => f.write_str("nothing"),
        }
    }
}
