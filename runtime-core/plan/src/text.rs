//! A plan as text: one line per thing that will be done, in the order it is done. It is what `tare plan` shows, and what
//! the golden tests compare. For people and `diff`; nothing parses it.

use std::ffi::CStr;
use std::fmt::{self, Display, Formatter, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::mount_options::attr;
use crate::namespaces::KINDS;
use crate::process::LIMITS;
use crate::{
    Attributes, CapabilitySets, Device, DeviceSource, Filter, Hook, Hooks, IdMap, InsidePath, IntelRdt, Mount,
    MountUsers, Namespaces, Plan, Process, Propagation, RdtGroup, Reach, Scheduler, Symlink, Tree, User, capabilities,
};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.namespaces.lines(f)?;
        self.cgroup_lines(f)?;
        self.rootfs_lines(f)?;
        for mount in &self.mounts {
            line(f, "mount", mount)?;
        }
        for device in &self.devices {
            line(f, self.device_source.verb(), device)?;
        }
        for symlink in &self.symlinks {
            line(f, "symlink", symlink)?;
        }
        each(f, "mask", &self.masked)?;
        each(f, "readonly", &self.readonly)?;
        for (path, value) in &self.sysctl {
            line(f, "sysctl", format_args!("{} = {}", Shown::text(path), Shown::text(value)))?;
        }
        optional(f, "hostname", self.hostname.as_deref().map(Shown::text))?;
        optional(f, "domainname", self.domainname.as_deref().map(Shown::text))?;
        optional(f, "mount-label", self.mount_label.as_deref().map(Shown::text))?;
        optional(f, "personality", self.personality)?;
        optional(f, "resctrl", self.intel_rdt.as_ref())?;
        for device in &self.net_devices {
            let [host, inside] = [&device.host, &device.inside].map(|name| Shown(name.as_bytes()));
            line(f, "net-device", format_args!("{host} -> {inside}"))?;
        }
        let policy = self.memory_policy.as_ref();
        optional(f, "memory", policy.map(|policy| format!("policy {:#x} nodes {:x?}", policy.mode, policy.nodes)))?;
        self.hooks.lines(f)?;
        optional(f, "seccomp", self.seccomp.as_ref())?;
        self.process.fmt(f)?;
        for (key, value) in &self.annotations {
            line(f, "annotation", format_args!("{} = {}", Shown(key.as_bytes()), Shown(value.as_bytes())))?;
        }
        Ok(())
    }
}

impl Plan {
    fn cgroup_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        line(f, "cgroup", Shown::path(&self.cgroup.path))?;
        if let Some(scope) = &self.cgroup.scope {
            line(f, "unit", Shown(scope.name.as_bytes()))?;
            for property in &scope.properties {
                line(f, "property", format_args!("{} {:?}", property.name, property.value))?;
            }
        }
        for write in &self.cgroup.resources.writes {
            line(f, "limit", format_args!("{} {}", Shown(write.file.as_bytes()), Shown(write.value.as_bytes())))?;
        }
        let program = self.cgroup.resources.device_program.as_ref();
        optional(f, "devices", program.map(|program| format!("{} eBPF instructions", program.len() / 8)))
    }

    fn rootfs_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut words = Shown::path(&self.rootfs.path).to_string();
        if self.rootfs.readonly {
            words.push_str(" readonly");
        }
        if let Some(propagation) = self.rootfs.propagation {
            write!(words, " {propagation}")?;
        }
        line(f, "root", words)
    }
}

/// The first process of a plan, or one that joins later.
impl Display for Process {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        line(f, "user", &self.user)?;
        self.capabilities.lines(f)?;
        for (resource, soft, hard) in &self.rlimits {
            let limit = |value: &u64| if *value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
            let name =
                usize::try_from(*resource).ok().and_then(|index| LIMITS.get(index)).map_or("?", |(_, name)| name);
            line(f, "rlimit", format_args!("{name} soft {} hard {}", limit(soft), limit(hard)))?;
        }
        if self.no_new_privileges {
            line(f, "privileges", "no new ones")?;
        }
        optional(f, "oom-score", self.oom_score_adj)?;
        optional(f, "apparmor", self.apparmor.as_deref().map(Shown::text))?;
        optional(f, "selinux", self.selinux.as_deref().map(Shown::text))?;
        optional(f, "scheduler", self.scheduler)?;
        optional(f, "io-priority", self.io_priority.map(|value| format!("class {} level {}", value >> 13, value & 7)))?;
        for (name, mask) in [("cpus-before", &self.initial_affinity), ("cpus", &self.affinity)] {
            optional(f, name, (!mask.is_empty()).then(|| format!("{mask:x?}")))?;
        }
        optional(f, "terminal", self.terminal.map(|size| format!("{} x {}", size.width, size.height)))?;
        line(f, "cwd", Shown::text(&self.cwd))?;
        for entry in &self.env {
            line(f, "env", Shown::text(entry))?;
        }
        line(f, "args", list(self.args.iter().map(|text| Shown::text(text))))?;
        match self.candidates.as_slice() {
            [] => line(f, "program", "none in $PATH"),
            candidates => line(f, "program", list(candidates.iter().map(|text| Shown::text(text)))),
        }
    }
}

impl Namespaces {
    fn lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let new = KINDS.iter().filter(|(_, bit, _)| self.new & bit != 0).map(|(.., name)| name);
        line(f, "new", list(new))?;
        for (bit, path) in &self.join {
            let name = KINDS.iter().find(|(_, other, _)| other == bit).map_or("?", |(.., name)| name);
            line(f, "join", format_args!("{name} {}", Shown::path(path)))?;
        }
        for (name, map) in [("uid-map", &self.uid_map), ("gid-map", &self.gid_map)] {
            for range in map {
                line(f, name, format_args!("{} {} {}", range.inside, range.outside, range.count))?;
            }
        }
        for (name, map) in [("claimed-uid-map", &self.claimed_uid_map), ("claimed-gid-map", &self.claimed_gid_map)] {
            for range in map {
                line(f, name, format_args!("{} {} {}", range.inside, range.outside, range.count))?;
            }
        }
        for (clock, seconds, nanoseconds) in &self.time_offsets {
            line(f, "clock", format_args!("{} {seconds} {nanoseconds}", Shown::text(clock)))?;
        }
        Ok(())
    }
}

impl Display for Mount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.target, self.tree)?;
        attributes(f, "", self.attributes)?;
        attributes(f, "r", self.recursive)?;
        for (propagation, reach) in &self.propagation {
            let prefix = if *reach == Reach::Tree { "r" } else { "" };
            write!(f, " {prefix}{propagation}")?;
        }
        if let Some(id_map) = &self.id_map {
            write!(f, " {id_map}")?;
        }
        if self.seal_last {
            f.write_str(" sealed-last")?;
        }
        if self.plain_target {
            f.write_str(" plain-target")?;
        }
        Ok(())
    }
}

impl Display for Tree {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { source, reach: Reach::Top } => write!(f, "bind {}", Shown::path(source)),
            Self::Bind { source, reach: Reach::Tree } => write!(f, "rbind {}", Shown::path(source)),
            Self::Inner { source, reach: Reach::Top } => write!(f, "bind inner {}", source),
            Self::Inner { source, reach: Reach::Tree } => write!(f, "rbind inner {}", source),
            Self::Remount { parameters } => {
                f.write_str("remount")?;
                words(f, parameters)
            }
            Self::New { kind, source, parameters, copy_up } => {
                write!(f, "{} {}", Shown::text(kind), Shown::text(source))?;
                words(f, parameters)?;
                f.write_str(if *copy_up { " copy-up" } else { "" })
            }
        }
    }
}

fn words(f: &mut Formatter<'_>, parameters: &[(std::ffi::CString, Option<std::ffi::CString>)]) -> fmt::Result {
    parameters.iter().try_for_each(|(key, value)| match value {
        Some(value) => write!(f, " {}={}", Shown::text(key), Shown::text(value)),
        None => write!(f, " {}", Shown::text(key)),
    })
}

impl Display for IdMap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.reach == Reach::Tree { "ridmap" } else { "idmap" })?;
        let MountUsers::Own { uids, gids } = &self.users else { return f.write_str("=container") };
        for (name, ranges) in [("uids", uids), ("gids", gids)] {
            let ranges: Vec<String> =
                ranges.iter().map(|one| format!("{}:{}:{}", one.inside, one.outside, one.count)).collect();
            write!(f, " {name}={}", ranges.join(","))?;
        }
        Ok(())
    }
}

/// The attributes in the words of `config.json`, with `prefix` before each: `+nosuid` is set, `-nosuid` cleared.
fn attributes(f: &mut Formatter<'_>, prefix: &str, attributes: Attributes) -> fmt::Result {
    let names = [
        (attr::RDONLY, "ro"),
        (attr::NOSUID, "nosuid"),
        (attr::NODEV, "nodev"),
        (attr::NOEXEC, "noexec"),
        (attr::NODIRATIME, "nodiratime"),
        (attr::NOSYMFOLLOW, "nosymfollow"),
    ];
    for (bit, name) in names {
        if attributes.set & bit != 0 {
            write!(f, " +{prefix}{name}")?;
        } else if attributes.clear & bit != 0 {
            write!(f, " -{prefix}{name}")?;
        }
    }
    match attributes.set & attr::ATIME {
        _ if attributes.clear & attr::ATIME == 0 => Ok(()),
        attr::NOATIME => write!(f, " +{prefix}noatime"),
        attr::STRICTATIME => write!(f, " +{prefix}strictatime"),
        _ => write!(f, " +{prefix}relatime"),
    }
}

impl Display for Propagation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Slave => "slave",
            Self::Shared => "shared",
            Self::Unbindable => "unbindable",
        })
    }
}

impl DeviceSource {
    fn verb(self) -> &'static str {
        match self {
            Self::Mknod => "mknod",
            Self::BindFromHost => "bind-device",
        }
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { path, mode, major, minor, uid, gid } = self;
        let kind = match mode & 0o170_000 {
            0o020_000 => 'c',
            0o060_000 => 'b',
            _ => 'p',
        };
        write!(f, "{path} {kind} {major}:{minor} mode {:04o} owner {uid}:{gid}", mode & 0o7777)
    }
}

impl Display for Symlink {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let replaces = if self.replace { " replacing" } else { "" };
        write!(f, "{} -> {}{replaces}", self.path, Shown::text(&self.target))
    }
}

impl Display for InsidePath {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Shown(self.as_bytes()).fmt(f)
    }
}

impl Display for User {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)?;
        if let Some(groups) = self.groups.as_deref().filter(|groups| !groups.is_empty()) {
            write!(f, " groups {}", list(groups))?;
        }
        match self.umask {
            Some(umask) => write!(f, " umask {umask:04o}"),
            None => Ok(()),
        }
    }
}

impl Display for Scheduler {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { policy, flags, nice, priority, runtime, deadline, period } = self;
        write!(f, "policy {policy} flags {flags:#x} nice {nice} priority {priority}")?;
        write!(f, " runtime {runtime} deadline {deadline} period {period}")
    }
}

impl CapabilitySets {
    fn lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sets = [
            ("bounding", self.bounding),
            ("permitted", self.permitted),
            ("effective", self.effective),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
        ];
        for (name, mask) in sets {
            let names = if mask == 0 { "none".to_owned() } else { list(capabilities::names(mask)) };
            line(f, "capability", format_args!("{name} {names}"))?;
        }
        Ok(())
    }
}

impl Display for IntelRdt {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.group {
            RdtGroup::Top => f.write_str("the top group")?,
            RdtGroup::Named(name) => write!(f, "group {}", Shown(name.as_bytes()))?,
            RdtGroup::Own => f.write_str("a group of its own")?,
        }
        for line in &self.schemata {
            write!(f, " {}", Shown(line.as_bytes()))?;
        }
        f.write_str(if self.monitoring { " monitored" } else { "" })
    }
}

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} BPF instructions flags {:#x}", self.program.len() / 8, self.flags)?;
        match &self.listener {
            Some((path, _)) => write!(f, " listener {}", Shown::path(path)),
            None => Ok(()),
        }
    }
}

impl Hooks {
    fn lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ];
        for (kind, hooks) in kinds {
            for hook in hooks {
                line(f, "hook", format_args!("{kind} {hook}"))?;
            }
        }
        Ok(())
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} args {}", Shown::text(&self.path), list(self.args.iter().map(|text| Shown::text(text))))?;
        if let Some(env) = self.env.as_ref().filter(|env| !env.is_empty()) {
            write!(f, " env {}", list(env.iter().map(|text| Shown::text(text))))?;
        }
        match self.timeout {
            Some(seconds) => write!(f, " timeout {seconds} s"),
            None => Ok(()),
        }
    }
}

/// Text from a specification, quoted when it could be taken for something else: a newline in a name makes no new line.
struct Shown<'a>(&'a [u8]);

impl<'a> Shown<'a> {
    fn text(text: &'a CStr) -> Self {
        Self(text.to_bytes())
    }

    fn path(path: &'a Path) -> Self {
        Self(path.as_os_str().as_bytes())
    }
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && self.0.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
            return f.write_str(&String::from_utf8_lossy(self.0));
        }
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

fn line(f: &mut Formatter<'_>, what: &str, words: impl Display) -> fmt::Result {
    writeln!(f, "{what:<12} {words}")
}

fn optional(f: &mut Formatter<'_>, what: &str, words: Option<impl Display>) -> fmt::Result {
    words.map_or(Ok(()), |words| line(f, what, words))
}

fn each(f: &mut Formatter<'_>, what: &str, paths: &[InsidePath]) -> fmt::Result {
    paths.iter().try_for_each(|path| line(f, what, path))
}

fn list(words: impl IntoIterator<Item = impl Display>) -> String {
    words.into_iter().map(|word| word.to_string()).collect::<Vec<_>>().join(" ")
}
