//! What becomes of each system call number of one machine (one audit token): the rules, resolved to numbers, made one
//! decision per number, and the numbers grouped into ranges. It chooses; [`super::compile`] writes the choice as BPF.

use super::abi::{Abi, Word};
use super::precedence::{self, Ordered};
use super::rules::{Action, Condition, Named, Operator, Rule};
use super::table::X32_BIT;
use crate::Refusal;

/// `SECCOMP_RET_KILL_THREAD`: what libseccomp answers to an ABI that the filter does not list.
pub(super) const FOREIGN: Action = 0;
const ENOSYS: Action = 0x0005_0000 | 38;
/// A tracer skips a call by making its number -1; that must not count as an x32 call.
const SKIPPED: u32 = u32::MAX;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The same whatever its arguments.
    Always(Action),
    /// The first case whose conditions hold, else the default: the place of these [`Cases`] in their machine's.
    Depends(usize),
}

/// The cases of a call, in the order in which they are tried; its arguments are compared in this word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cases(pub(super) Word, pub(super) Vec<Case>);

/// An action and all the conditions for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// Numbers from `first` up to the next range, and what becomes of them.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) decision: Decision,
}

/// The ABIs that share one audit token, and the decisions on their numbers.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) audit_token: u32,
    abis: Vec<Abi>,
    default: Action,
    /// Sorted by number.
    decisions: Vec<(u32, Decision)>,
    /// No two are equal: many calls share the same.
    pub(super) cases: Vec<Cases>,
    /// The newest call that the profile names on each ABI: calls after it get ENOSYS.
    newest: Vec<(Abi, u32)>,
}

/// What holds for every machine of a filter.
#[derive(Debug)]
pub(super) struct Profile<'a> {
    pub(super) default: Action,
    pub(super) rules: &'a [Rule<'a>],
    /// The calls the profile names, when calls newer than those get ENOSYS.
    pub(super) named: Option<&'a [Named<'a>]>,
}

impl Machine {
    /// The machine of these ABIs, which share an audit token.
    pub(super) fn new(abis: &[Abi], profile: &Profile<'_>) -> Result<Self, Refusal> {
        let (mut decisions, mut cases) = (Vec::with_capacity(abis.len() * profile.rules.len()), Vec::new());
        for abi in abis {
            decide(*abi, profile.rules, &mut decisions, &mut cases)?;
        }
        decisions.sort_by_key(|(number, _)| *number);
        let named = profile.named.unwrap_or_default();
        let newest = abis.iter().filter_map(|abi| Some((*abi, newest(*abi, named)?))).collect();
        let audit_token = abis.first().map_or(0, |abi| abi.audit_token());
        Ok(Self { audit_token, abis: abis.to_vec(), default: profile.default, decisions, cases, newest })
    }

    /// All numbers, as ranges with one decision each.
    pub(super) fn ranges(&self) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        let mut known = self.decisions.iter().peekable();
        for first in self.borders() {
            while known.next_if(|(number, _)| *number < first).is_some() {}
            let listed = known.peek().filter(|(number, _)| *number == first).map(|(_, decision)| *decision);
            let decision = self.decision(first, listed);
            if ranges.last().is_none_or(|last| last.decision != decision) {
                ranges.push(Range { first, decision });
            }
        }
        ranges
    }

    /// In rising order, the numbers at which another decision may begin.
    fn borders(&self) -> Vec<u32> {
        let mut borders: Vec<u32> = Vec::with_capacity(2 * self.decisions.len() + 16);
        for (number, _) in &self.decisions {
            borders.pop_if(|last| last == number);
            borders.extend([*number, *number + 1]);
        }
        let after_newest = self.newest.iter().map(|(_, number)| *number + 1);
        for border in after_newest.chain([0, X32_BIT, X32_BIT << 1, X32_BIT | X32_BIT << 1, SKIPPED]) {
            if let Err(place) = borders.binary_search(&border) {
                borders.insert(place, border);
            }
        }
        borders
    }

    /// What becomes of a call with this number, for which the rules have `listed`: first as runc's ENOSYS stub has it, then
    /// as libseccomp's filter.
    fn decision(&self, number: u32, listed: Option<Decision>) -> Decision {
        // The stub tells x32 by its bit alone, the filter by size; the numbers from 2^31 up are where they differ.
        let by_bit = self.abi_of(if number & X32_BIT == 0 { Abi::X86_64 } else { Abi::X32 });
        let by_size = self.abi_of(if number < X32_BIT { Abi::X86_64 } else { Abi::X32 });
        if self.newest.iter().any(|(abi, newest)| *abi == by_bit && number > *newest) {
            return Decision::Always(ENOSYS);
        }
        if !self.abis.contains(&by_size) && number != SKIPPED {
            return Decision::Always(FOREIGN);
        }
        listed.unwrap_or(Decision::Always(self.default))
    }

    /// The ABI of a call: only the audit token of x86_64 has two to choose from.
    fn abi_of(&self, of_x86_64: Abi) -> Abi {
        match self.abis.first() {
            Some(abi @ (Abi::X86 | Abi::Aarch64 | Abi::Arm)) => *abi,
            _ => of_x86_64,
        }
    }
}

/// The newest of the named calls, as runc finds it: a call that x86 multiplexes does not count there, nor does call 0.
fn newest(abi: Abi, named: &[Named<'_>]) -> Option<u32> {
    let counted = named.iter().filter(|call| abi != Abi::X86 || call.multiplexed.is_none());
    counted.filter_map(|call| call.row.number(abi)).filter(|number| *number > 0).max()
}

/// The decisions of one ABI, by number: of the rules that have one there.
fn decide(
    abi: Abi,
    rules: &[Rule<'_>],
    decisions: &mut Vec<(u32, Decision)>,
    known: &mut Vec<Cases>,
) -> Result<(), Refusal> {
    let mut numbered = Vec::with_capacity(rules.len());
    for (place, rule) in rules.iter().enumerate() {
        if abi == Abi::X86 {
            numbered.extend(rule.multiplexed.map(|call| Numbered::through(call.through, place)));
        }
        numbered.extend(rule.row.number(abi).map(|number| Numbered::own(number, place)));
    }
    numbered.sort_unstable();
    for same in numbered.chunk_by(|one, next| one.number() == next.number()) {
        let Some(first) = same.first() else { continue };
        decisions.push((first.number(), among(abi.word(), same, rules, known)?));
    }
    Ok(())
}

/// The decision among the rules for one number.
fn among(word: Word, same: &[Numbered], rules: &[Rule<'_>], known: &mut Vec<Cases>) -> Result<Decision, Refusal> {
    // As it is with nearly every call of a profile.
    if let [only] = same
        && let Some(rule) = rules.get(only.place())
        && rule.conditions.is_empty()
        && !only.is_multiplexed()
    {
        return Ok(Decision::Always(rule.action));
    }
    let rules = same.iter().filter_map(|one| Some((rules.get(one.place())?, one.is_multiplexed())));
    let cases = rules.map(|(rule, is_multiplexed)| {
        (rule.name, case(rule, rule.multiplexed.filter(|_| is_multiplexed).map(|call| call.selector)))
    });
    match precedence::ordered(word, cases)? {
        Ordered::Always(action) => Ok(Decision::Always(action)),
        Ordered::Cases(cases) => {
            let cases = Cases(word, cases);
            let place = known.iter().position(|other| *other == cases).unwrap_or(known.len());
            if place == known.len() {
                known.push(cases);
            }
            Ok(Decision::Depends(place))
        }
    }
}

/// A call's number, the place of the rule for it, and whether the number is that of a multiplexer: one word, which sorts
/// as those three do, several times faster. Of two rules for one call the first stays first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Numbered(u64);

impl Numbered {
    /// A profile of 2^31 rules does not fit into memory.
    fn own(number: u32, place: usize) -> Self {
        Self(u64::from(number) << 32 | (place as u64) << 1)
    }

    fn through(multiplexer: u32, place: usize) -> Self {
        Self(Self::own(multiplexer, place).0 | 1)
    }

    fn number(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or(u32::MAX)
    }

    fn place(self) -> usize {
        usize::try_from(self.0 >> 1 & u64::from(u32::MAX >> 1)).unwrap_or(usize::MAX)
    }

    fn is_multiplexed(self) -> bool {
        self.0 & 1 == 1
    }
}

fn case(rule: &Rule<'_>, selector: Option<u64>) -> Case {
    let conditions = match selector {
        Some(selector) => through(&rule.conditions, selector),
        None => rule.conditions.clone(),
    };
    Case { conditions, action: rule.action }
}

/// A rule's conditions when its call comes through `socketcall(2)` or `ipc(2)`. The first argument is the selector
/// there and the call's own lie in memory, out of a filter's sight: a condition on argument 0 is lost and the others
/// look at other values, as they do in libseccomp.
fn through(conditions: &[Condition], selector: u64) -> Vec<Condition> {
    let selected = Condition { argument: 0, operator: Operator::Equal, value: selector, mask: u64::MAX };
    let others = conditions.iter().filter(|condition| condition.argument != 0);
    std::iter::once(&selected).chain(others).copied().collect()
}
