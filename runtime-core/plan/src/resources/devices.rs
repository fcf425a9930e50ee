//! `linux.resources.devices` and the devices that every container may use, as rules of which the last one that speaks of
//! a device and an access decides. What no rule allows is denied.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::list::List;
use crate::Refusal;

const FIELD: &str = "linux.resources.devices";

/// Access bits, as eBPF device programs see them (`BPF_DEVCG_ACC_*`).
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
}

/// Which devices a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Devices {
    pub(super) kind: Kind,
    /// `None` is any.
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
}

/// Their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Any,
    Block,
    Character,
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) verdict: Verdict,
    pub(super) devices: Devices,
    pub(super) access: u8,
}

impl Devices {
    const EVERY: Self = Self { kind: Kind::Any, major: None, minor: None };

    /// All of `other` are among these.
    fn cover(&self, other: &Self) -> bool {
        let number = |mine: Option<u32>, other: Option<u32>| mine.is_none() || mine == other;
        (self.kind == Kind::Any || self.kind == other.kind)
            && number(self.major, other.major)
            && number(self.minor, other.minor)
    }
}

/// Every container may make nodes of any device, and use the harmless ones: null, zero, full, random, urandom, tty,
/// console, ptmx, its terminals, and tun, as all runtimes allow.
fn defaults() -> impl Iterator<Item = Rule> {
    let character = |major, minor| Devices { kind: Kind::Character, major: Some(major), minor };
    let any = |kind| Devices { kind, major: None, minor: None };
    let nodes = [any(Kind::Character), any(Kind::Block)].map(|devices| (devices, MKNOD));
    let used = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
        (10, Some(200)),
    ];
    let used = used.map(|(major, minor)| (character(major, minor), ALL));
    nodes.into_iter().chain(used).map(|(devices, access)| Rule { verdict: Verdict::Allow, devices, access })
}

/// The specification's rules and the defaults after them, without those that later ones override.
pub(super) fn rules(listed: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Refusal> {
    let mut rules: Vec<Rule> = Vec::new();
    for (index, rule) in listed.iter().enumerate() {
        rules.extend(parsed(rule).map_err(|problem| Refusal::new(format!("{FIELD}[{index}]"), problem))?);
    }
    rules.extend(defaults());
    let mut kept: Vec<Rule> = Vec::with_capacity(rules.len());
    for rule in rules.into_iter().rev() {
        let overridden = |later: &Rule| later.devices.cover(&rule.devices) && later.access & rule.access == rule.access;
        if !kept.iter().any(overridden) {
            kept.push(rule);
        }
    }
    kept.reverse();
    // After "allow everything", allowing more says nothing until something is denied.
    if let [Rule { verdict: Verdict::Allow, devices: Devices::EVERY, access: ALL }, rest @ ..] = kept.as_slice()
        && rest.iter().all(|rule| rule.verdict == Verdict::Allow)
    {
        kept.truncate(1);
    }
    Ok(kept)
}

/// `None` for a rule about no access at all.
fn parsed(rule: &LinuxDeviceCgroup) -> Result<Option<Rule>, String> {
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => Kind::Any,
        Some(LinuxDeviceType::B) => Kind::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Kind::Character,
        Some(LinuxDeviceType::P) => return Err("a FIFO is no device".to_owned()),
    };
    // The kernel's dev_t has 12 bits of major and 20 of minor.
    let devices = Devices { kind, major: number(rule.major(), 0xfff)?, minor: number(rule.minor(), 0xf_ffff)? };
    let mut access = 0;
    for letter in rule.access().as_deref().unwrap_or_default().chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            // Runtimes pass over others; whoever reads the specification warns of them.
            _ => 0,
        };
    }
    // A rule about all devices is about all accesses, whatever it says: that is how version 1 reads "a".
    if kind == Kind::Any {
        if devices != Devices::EVERY {
            return Err("a rule for all types cannot name a device".to_owned());
        }
        access = ALL;
    }
    let verdict = if rule.allow() { Verdict::Allow } else { Verdict::Deny };
    Ok((access != 0).then_some(Rule { verdict, devices, access }))
}

fn number(value: Option<i64>, most: u32) -> Result<Option<u32>, String> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(value) if value <= most => Ok(Some(value)),
            _ => Err(format!("{value} is not a device number")),
        },
    }
}

/// The rules as version 1 knows them: a verdict for everything, and exceptions from it, in no order.
pub(super) fn legacy(rules: &[Rule], list: &mut List<'_>) -> Result<(), Refusal> {
    let mut default = Verdict::Deny;
    let mut exceptions: Vec<(Devices, u8)> = Vec::new();
    for rule in rules {
        if rule.devices.kind == Kind::Any {
            default = rule.verdict;
            exceptions.clear();
        } else if rule.verdict == default {
            revoke(rule, &mut exceptions)?;
        } else if let Some((_, access)) = exceptions.iter_mut().find(|(devices, _)| *devices == rule.devices) {
            *access |= rule.access;
        } else {
            exceptions.push((rule.devices, rule.access));
        }
    }
    let (everything, others) = match default {
        Verdict::Deny => ("devices.deny", "devices.allow"),
        Verdict::Allow => ("devices.allow", "devices.deny"),
    };
    list.push("devices", everything, "a", FIELD)?;
    for (devices, access) in exceptions {
        list.push("devices", others, spelled(&devices, access), FIELD)?;
    }
    Ok(())
}

/// Takes `rule`'s devices out of the exceptions. A hole in a wider exception cannot be expressed.
fn revoke(rule: &Rule, exceptions: &mut Vec<(Devices, u8)>) -> Result<(), Refusal> {
    for (devices, access) in exceptions.iter_mut() {
        if rule.devices.cover(devices) {
            *access &= !rule.access;
        } else if devices.cover(&rule.devices) && *access & rule.access != 0 {
            let (rule, wider) = (spelled(&rule.devices, rule.access), spelled(devices, *access));
            return Err(Refusal::new(FIELD, format!("cgroup v1 cannot except {rule} from {wider}")));
        }
    }
    exceptions.retain(|(_, access)| *access != 0);
    Ok(())
}

/// `c 1:3 rwm`
fn spelled(devices: &Devices, access: u8) -> String {
    let kind = match devices.kind {
        Kind::Any => 'a',
        Kind::Block => 'b',
        Kind::Character => 'c',
    };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    let letters: String = letters.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect();
    format!("{kind} {}:{} {letters}", number(devices.major), number(devices.minor))
}
