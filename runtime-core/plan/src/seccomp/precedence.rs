//! Which of several rules for one system call wins, as in libseccomp 2.5: a rule without conditions beats every rule
//! with some, the first such rule the later ones; among rules with conditions the order is by what they compare, not by
//! where they stand, and two that compare the same but answer differently are refused.

use std::cmp::{Ordering, Reverse};

use super::abi::Word;
use super::decide::Case;
use super::rules::{Action, Condition, Operator};
use crate::Refusal;

/// What is left of the cases of a call.
pub(super) enum Ordered {
    /// One that has no condition.
    Always(Action),
    /// Those that can be reached, in the order in which they are tried.
    Cases(Vec<Case>),
}

/// Orders the cases that are about one call, which come in the order of the specification; each with the name that its
/// rule has for the call.
pub(super) fn ordered<'a>(word: Word, cases: impl Iterator<Item = (&'a str, Case)>) -> Result<Ordered, Refusal> {
    let mut ordered: Vec<Case> = Vec::new();
    for (name, case) in cases {
        let case = Case { conditions: compared(&case.conditions, word), action: case.action };
        if case.conditions.is_empty() {
            return Ok(Ordered::Always(case.action));
        }
        refuse_contradiction(name, &ordered, &case)?;
        // What an earlier rule answers in any event is never asked of this one.
        if !ordered.iter().any(|earlier| case.conditions.starts_with(&earlier.conditions)) {
            ordered.push(case);
        }
    }
    ordered.sort_by(|one, other| order(&one.conditions, &other.conditions));
    Ok(Ordered::Cases(ordered))
}

/// The conditions as they are compared in this word: the upper half of a value means nothing to a 32-bit ABI, and a
/// mask without bits lets everything through.
fn compared(conditions: &[Condition], word: Word) -> Vec<Condition> {
    let bits = match word {
        Word::Bits32 => u64::from(u32::MAX),
        Word::Bits64 => u64::MAX,
    };
    let cut = |one: &Condition| Condition { value: one.value & bits, mask: one.mask & bits, ..*one };
    conditions.iter().map(cut).filter(|condition| condition.mask != 0).collect()
}

fn refuse_contradiction(name: &str, earlier: &[Case], case: &Case) -> Result<(), Refusal> {
    let covers = |other: &Case| other.action != case.action && other.conditions.starts_with(&case.conditions);
    if earlier.iter().any(covers) {
        return Err(Refusal::new(
            "linux.seccomp.syscalls",
            format!("two rules for {name} have the same conditions and different actions"),
        ));
    }
    Ok(())
}

/// The order in which conditions are tried: the higher argument first, then equality before an upper bound before a
/// lower bound, then the narrower bound (for equality: the greater value); the shorter list before a longer one that
/// starts with it.
fn order(one: &[Condition], other: &[Condition]) -> Ordering {
    let pairs = one.iter().zip(other).map(|(one, other)| rank(one).cmp(&rank(other)));
    pairs.fold(Ordering::Equal, Ordering::then).then(one.len().cmp(&other.len()))
}

fn rank(condition: &Condition) -> (Reverse<u8>, u8, Reverse<u64>) {
    let (class, value) = match condition.operator {
        Operator::Equal | Operator::MaskedEqual | Operator::NotEqual => (0, condition.value),
        Operator::Less | Operator::LessOrEqual => (1, !condition.value),
        Operator::GreaterOrEqual | Operator::Greater => (2, condition.value),
    };
    (Reverse(condition.argument), class, Reverse(value))
}
