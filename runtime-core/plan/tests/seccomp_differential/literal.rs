//! The profile read literally, rule by rule, with no program in between: the third voice where the two compilers
//! disagree. Names and numbers are libseccomp's.

use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator};

use crate::interpreter::Call;
use crate::reference::{self, Stub};

/// What a profile says of one call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// One answer.
    Answer(u32),
    /// Rules with conditions match, and give these different answers.
    Contested(Vec<u32>),
}

/// A profile, with what does not depend on the call worked out.
pub(crate) struct Literal<'a> {
    stub: Stub,
    archs: Vec<ScmpArch>,
    default: u32,
    rules: Vec<Rule<'a>>,
}

struct Rule<'a> {
    name: &'a str,
    answer: u32,
    /// Lists of conditions of which one must hold whole.
    alternatives: Vec<Vec<LinuxSeccompArg>>,
    /// How x86 multiplexes the call: the number of `socketcall(2)` or `ipc(2)`, and its first argument.
    multiplexed: Option<(u32, u64)>,
}

/// What the profile says of the calls with one number on one ABI.
pub(crate) enum Entry {
    /// Always this.
    Fixed(u32),
    /// By the arguments: lists of conditions with their answers, and the answer when none holds.
    Rules { arch: ScmpArch, lists: Vec<(Vec<LinuxSeccompArg>, u32)>, default: u32 },
}

impl<'a> Literal<'a> {
    pub(crate) fn new(seccomp: &'a LinuxSeccomp) -> Self {
        let default = reference::action(seccomp.default_action(), seccomp.default_errno_ret());
        let calls = reference::calls(seccomp).into_iter();
        let rules = calls.filter(|(_, entry)| reference::action(entry.action(), entry.errno_ret()) != default);
        let rules = rules.map(|(name, entry)| Rule {
            name,
            answer: entry.action().as_u32(entry.errno_ret()),
            alternatives: alternatives(entry.args().clone().unwrap_or_default()),
            multiplexed: multiplexed(name),
        });
        Self {
            stub: Stub::new(seccomp),
            archs: reference::architectures(seccomp).into_iter().chain([ScmpArch::native()]).collect(),
            default: seccomp.default_action().as_u32(seccomp.default_errno_ret()),
            rules: rules.collect(),
        }
    }

    /// What it says of this number under this audit token.
    pub(crate) fn entry(&self, audit_token: u32, number: u32) -> Entry {
        if let Some(answer) = self.stub.answer(audit_token, number) {
            return Entry::Fixed(answer);
        }
        let Some(arch) = self.arch(audit_token, number) else {
            let listed = self.archs.iter().any(|arch| reference::token(*arch) == audit_token);
            return Entry::Fixed(if listed && number == u32::MAX { self.default } else { 0 });
        };
        let own = i32::try_from(number).ok().and_then(|call| ScmpSyscall::from(call).get_name_by_arch(arch).ok());
        let mut lists = Vec::new();
        for rule in &self.rules {
            if own.as_deref() == Some(rule.name) {
                lists.extend(rule.alternatives.iter().map(|list| (effective(list.clone(), arch), rule.answer)));
            }
            if let Some((through, selector)) = rule.multiplexed
                && (arch, through) == (ScmpArch::X86, number)
            {
                let list = |list: &Vec<_>| (effective(selected(list, selector), arch), rule.answer);
                lists.extend(rule.alternatives.iter().map(list));
            }
        }
        let always = lists.iter().find(|(list, _)| list.is_empty());
        match always {
            Some((_, answer)) => Entry::Fixed(*answer),
            None => Entry::Rules { arch, lists, default: self.default },
        }
    }

    fn arch(&self, audit_token: u32, number: u32) -> Option<ScmpArch> {
        let x32 = number >= 1 << 30;
        let is = |arch: &&ScmpArch| match arch {
            ScmpArch::X8664 => audit_token == reference::X86_64_TOKEN && !x32,
            ScmpArch::X32 => audit_token == reference::X86_64_TOKEN && x32,
            arch => audit_token == reference::token(**arch),
        };
        self.archs.iter().find(is).copied()
    }
}

impl Entry {
    pub(crate) fn reading(&self, call: &Call) -> Reading {
        let (arch, lists, default) = match self {
            Self::Fixed(answer) => return Reading::Answer(*answer),
            Self::Rules { arch, lists, default } => (*arch, lists, *default),
        };
        let matching = lists.iter().filter(|(list, _)| list.iter().all(|arg| holds(arg, arch, call)));
        let mut answers: Vec<u32> = matching.map(|(_, answer)| *answer).collect();
        answers.sort_unstable();
        answers.dedup();
        match answers.as_slice() {
            [] => Reading::Answer(default),
            [one] => Reading::Answer(*one),
            _ => Reading::Contested(answers),
        }
    }
}

fn alternatives(args: Vec<LinuxSeccompArg>) -> Vec<Vec<LinuxSeccompArg>> {
    let repeated = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
    if repeated { args.into_iter().map(|arg| vec![arg]).collect() } else { vec![args] }
}

/// libseccomp has negative numbers for the calls that x86 multiplexes; they hold the selector.
fn multiplexed(name: &str) -> Option<(u32, u64)> {
    let call = ScmpSyscall::from_name_by_arch(name, ScmpArch::X86).ok()?;
    let (through, selector) = match call.as_raw_syscall() {
        number @ -120..=-101 => (102, -number - 100),
        number @ -224..=-201 => (117, -number - 200),
        _ => return None,
    };
    Some((through, u64::try_from(selector).ok()?))
}

fn selected(list: &[LinuxSeccompArg], selector: u64) -> Vec<LinuxSeccompArg> {
    let select = LinuxSeccompArgBuilder::default().index(0_usize).op(LinuxSeccompOperator::ScmpCmpEq);
    let select = select.value(selector).build().expect("a condition");
    list.iter().filter(|arg| arg.index() != 0).copied().chain([select]).collect()
}

/// Without the conditions that look at no bit.
fn effective(mut list: Vec<LinuxSeccompArg>, arch: ScmpArch) -> Vec<LinuxSeccompArg> {
    list.retain(|arg| arg.op() != LinuxSeccompOperator::ScmpCmpMaskedEq || arg.value() & word(arch) != 0);
    list
}

fn word(arch: ScmpArch) -> u64 {
    match arch {
        ScmpArch::X8664 | ScmpArch::Aarch64 => u64::MAX,
        _ => u64::from(u32::MAX),
    }
}

fn holds(arg: &LinuxSeccompArg, arch: ScmpArch, call: &Call) -> bool {
    let word = word(arch);
    let (given, value) = (call.args[arg.index()] & word, arg.value() & word);
    match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => given != value,
        LinuxSeccompOperator::ScmpCmpLt => given < value,
        LinuxSeccompOperator::ScmpCmpLe => given <= value,
        LinuxSeccompOperator::ScmpCmpEq => given == value,
        LinuxSeccompOperator::ScmpCmpGe => given >= value,
        LinuxSeccompOperator::ScmpCmpGt => given > value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => given & value == arg.value_two().unwrap_or(0) & value,
    }
}
