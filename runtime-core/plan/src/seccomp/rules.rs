//! `linux.seccomp` read as rules: for each named system call an action, under conditions on its arguments. What runc
//! ignores (unknown names, rules that repeat the default) is gone here; what it refuses is refused. Numbers and ABIs
//! come later, in [`super::decide`].

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use super::abi::{Multiplexed, multiplexed_on_x86};
use super::table::{self, Row};
use crate::Refusal;

/// What a filter answers, as `SECCOMP_RET_*` with its data.
pub(super) type Action = u32;

const EPERM: u32 = 1;
const MAX_ERRNO: u32 = 4095;

/// One system call, its action, and the conditions that must all hold for it.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    pub(super) name: &'a str,
    /// Its numbers.
    pub(super) row: &'static Row,
    pub(super) multiplexed: Option<Multiplexed>,
    pub(super) action: Action,
    /// In the order of their arguments, one for each at most.
    pub(super) conditions: Vec<Condition>,
}

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u8,
    pub(super) operator: Operator,
    pub(super) value: u64,
    /// The bits that [`Operator::MaskedEqual`] compares; all of them for the others.
    pub(super) mask: u64,
}

/// How an argument is compared with a value; unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    MaskedEqual,
    NotEqual,
    Less,
    LessOrEqual,
    GreaterOrEqual,
    Greater,
}

/// The action of calls that no rule matches.
pub(super) fn default_action(seccomp: &LinuxSeccomp) -> Result<Action, Refusal> {
    // runc refuses it too: with every call handed to the listener, nothing is left to hand it over with.
    if seccomp.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(Refusal::new("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action"));
    }
    action(seccomp.default_action(), seccomp.default_errno_ret(), "linux.seccomp.defaultErrnoRet")
}

/// A call that the specification names and we know, whatever its action.
#[derive(Debug)]
pub(super) struct Named<'a> {
    /// The index of the entry that names it.
    entry: usize,
    pub(super) name: &'a str,
    pub(super) row: &'static Row,
    pub(super) multiplexed: Option<Multiplexed>,
}

impl<'a> Named<'a> {
    fn known(entry: usize, name: &'a str) -> Option<Self> {
        Some(Self { entry, name, row: table::find(name)?, multiplexed: multiplexed_on_x86(name) })
    }
}

/// The rules, in the order of the specification, from its calls in that order.
pub(super) fn rules<'a>(
    seccomp: &'a LinuxSeccomp,
    named: &[Named<'a>],
    default: Action,
) -> Result<Vec<Rule<'a>>, Refusal> {
    let mut rules = Vec::with_capacity(named.len());
    let mut named = named.iter().peekable();
    for (index, call) in entries(seccomp).iter().enumerate() {
        let field = format!("linux.seccomp.syscalls[{index}]");
        let action = action(call.action(), call.errno_ret(), &format!("{field}.errnoRet"))?;
        let alternatives = alternatives(call, &field)?;
        for name in call.names() {
            refuse_name(name, call.action(), &field)?;
        }
        while let Some(&Named { name, row, multiplexed, .. }) = named.next_if(|named| named.entry == index) {
            if action != default {
                let rule = |all: &Vec<Condition>| Rule { name, row, multiplexed, action, conditions: all.clone() };
                rules.extend(alternatives.iter().map(rule));
            }
        }
    }
    Ok(rules)
}

/// Every call that the specification names and we know: what the profile's author knew of.
pub(super) fn named(seccomp: &LinuxSeccomp) -> Vec<Named<'_>> {
    let names = entries(seccomp)
        .iter()
        .enumerate()
        .flat_map(|(entry, call)| call.names().iter().map(move |name| (entry, name)));
    names.filter_map(|(entry, name)| Named::known(entry, name)).collect()
}

/// Whether any rule hands calls to a listener.
pub(super) fn notifies(seccomp: &LinuxSeccomp) -> bool {
    entries(seccomp).iter().any(|call| call.action() == LinuxSeccompAction::ScmpActNotify)
}

fn entries(seccomp: &LinuxSeccomp) -> &[LinuxSyscall] {
    seccomp.syscalls().as_deref().unwrap_or_default()
}

fn action(action: LinuxSeccompAction, errno: Option<u32>, field: &str) -> Result<Action, Refusal> {
    let data = match action {
        LinuxSeccompAction::ScmpActErrno => below(errno.unwrap_or(EPERM), MAX_ERRNO, field)?,
        LinuxSeccompAction::ScmpActTrace => below(errno.unwrap_or(EPERM), u32::from(u16::MAX), field)?,
        _ => return Ok(action.as_u32(None)),
    };
    Ok(action.as_u32(Some(data)))
}

fn below(data: u32, most: u32, field: &str) -> Result<u32, Refusal> {
    if data > most {
        return Err(Refusal::new(field, format!("{data} is more than {most}")));
    }
    Ok(data)
}

fn refuse_name(name: &str, action: LinuxSeccompAction, field: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::new(format!("{field}.names"), "an empty string is not a system call"));
    }
    // A process that must hand over its listener cannot have the calls it does so with wait for that listener.
    if ["write", "sendmsg"].contains(&name) && action == LinuxSeccompAction::ScmpActNotify {
        let problem = format!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall");
        return Err(Refusal::new(format!("{field}.names"), problem));
    }
    Ok(())
}

/// The lists of conditions of which one must hold whole. Conditions on different arguments are one list; as soon as two
/// are on one argument, each is a list of its own (runc's reading, kept for profiles that rely on it).
fn alternatives(call: &LinuxSyscall, field: &str) -> Result<Vec<Vec<Condition>>, Refusal> {
    let args = call.args().as_deref().unwrap_or_default();
    let mut conditions = Vec::with_capacity(args.len());
    for (index, arg) in args.iter().enumerate() {
        conditions.push(condition(arg, &format!("{field}.args[{index}].index"))?);
    }
    conditions.sort_by_key(|condition| condition.argument);
    let distinct = conditions.is_sorted_by(|one, next| one.argument < next.argument);
    Ok(if distinct { vec![conditions] } else { conditions.into_iter().map(|one| vec![one]).collect() })
}

fn condition(arg: &LinuxSeccompArg, field: &str) -> Result<Condition, Refusal> {
    let argument = u8::try_from(arg.index()).ok().filter(|index| *index < 6);
    let argument = argument.ok_or_else(|| Refusal::new(field, "a system call has arguments 0 to 5"))?;
    let operator = match arg.op() {
        LinuxSeccompOperator::ScmpCmpEq => Operator::Equal,
        LinuxSeccompOperator::ScmpCmpMaskedEq => Operator::MaskedEqual,
        LinuxSeccompOperator::ScmpCmpNe => Operator::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => Operator::Less,
        LinuxSeccompOperator::ScmpCmpLe => Operator::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpGe => Operator::GreaterOrEqual,
        LinuxSeccompOperator::ScmpCmpGt => Operator::Greater,
    };
    Ok(if operator == Operator::MaskedEqual {
        let mask = arg.value();
        Condition { argument, operator, value: arg.value_two().unwrap_or(0) & mask, mask }
    } else {
        Condition { argument, operator, value: arg.value(), mask: u64::MAX }
    })
}
