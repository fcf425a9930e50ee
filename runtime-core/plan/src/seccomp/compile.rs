//! Decisions become BPF: a balanced search over the ranges of numbers, with the argument checks as its leaves. Nothing
//! is chosen here.

use super::abi::Word;
use super::bpf::{Compare, Program, Target};
use super::decide::{Case, Cases, Decision, FOREIGN, Machine, Range};
use super::rules::{Action, Condition, Operator};

/// Offsets in `struct seccomp_data`; little endian, as every ABI we have a table for.
const NUMBER: u32 = 0;
const AUDIT_TOKEN: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The whole filter; the first machine is tried first.
pub(super) fn compile(machines: &[Machine], default: Action) -> Program {
    let mut program = Program::default();
    let mut entry = Target::Return(FOREIGN);
    for machine in machines.iter().rev() {
        let ranges = machine.ranges();
        let written = vec![None; machine.cases.len()];
        let mut writer = Writer { program: &mut program, default, cases: &machine.cases, written };
        let search = writer.search(&ranges);
        let start = program.load(NUMBER, search);
        entry = program.branch(Compare::Equal, machine.audit_token, start, entry);
    }
    program.load(AUDIT_TOKEN, entry);
    program
}

/// Writes the code of one machine.
struct Writer<'a> {
    program: &'a mut Program,
    default: Action,
    cases: &'a [Cases],
    /// Argument checks already written, by their place among the cases: several calls may share them.
    written: Vec<Option<Target>>,
}

impl Writer<'_> {
    /// Finds the range of the number in the accumulator.
    fn search(&mut self, ranges: &[Range]) -> Target {
        match ranges {
            [] => Target::Return(self.default),
            [only] => self.leaf(only.decision),
            // One number that differs from what is around it takes one comparison instead of two.
            [below, one, above] if below.decision == above.decision && one.first + 1 == above.first => {
                let around = self.leaf(below.decision);
                let here = self.leaf(one.decision);
                self.program.branch(Compare::Equal, one.first, here, around)
            }
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let first = above.first().map_or(0, |range| range.first);
                let above = self.search(above);
                let below = self.search(below);
                self.program.branch(Compare::GreaterOrEqual, first, above, below)
            }
        }
    }

    fn leaf(&mut self, decision: Decision) -> Target {
        let place = match decision {
            Decision::Always(action) => return Target::Return(action),
            Decision::Depends(place) => place,
        };
        if let Some(Some(target)) = self.written.get(place) {
            return *target;
        }
        let mut target = Target::Return(self.default);
        let Some(Cases(word, cases)) = self.cases.get(place) else { return target };
        for case in cases.iter().rev() {
            target = self.case(*word, case, target);
        }
        self.written[place] = Some(target);
        target
    }

    fn case(&mut self, word: Word, case: &Case, otherwise: Target) -> Target {
        let mut target = Target::Return(case.action);
        for condition in case.conditions.iter().rev() {
            target = self.condition(word, condition, target, otherwise);
        }
        target
    }

    fn condition(&mut self, word: Word, condition: &Condition, yes: Target, no: Target) -> Target {
        match condition.operator {
            Operator::Equal | Operator::MaskedEqual => self.equal(word, condition, yes, no),
            Operator::NotEqual => self.equal(word, condition, no, yes),
            Operator::Greater => self.above(word, condition, Compare::Greater, (yes, no)),
            Operator::GreaterOrEqual => self.above(word, condition, Compare::GreaterOrEqual, (yes, no)),
            Operator::LessOrEqual => self.above(word, condition, Compare::Greater, (no, yes)),
            Operator::Less => self.above(word, condition, Compare::GreaterOrEqual, (no, yes)),
        }
    }

    fn equal(&mut self, word: Word, condition: &Condition, yes: Target, no: Target) -> Target {
        let mut target = yes;
        let halves = [Half::Low, Half::High];
        for half in halves.into_iter().filter(|half| word == Word::Bits64 || *half == Half::Low) {
            let mask = half.of(condition.mask);
            if mask == 0 {
                continue;
            }
            target = self.program.branch(Compare::Equal, half.of(condition.value), target, no);
            if mask != u32::MAX {
                target = self.program.and(mask, target);
            }
            target = self.program.load(half.offset(condition.argument), target);
        }
        target
    }

    /// Compares by size; `compare` decides where the upper halves are equal.
    fn above(&mut self, word: Word, condition: &Condition, compare: Compare, (yes, no): (Target, Target)) -> Target {
        let low = self.program.branch(compare, Half::Low.of(condition.value), yes, no);
        let low = self.program.load(Half::Low.offset(condition.argument), low);
        if word == Word::Bits32 {
            return low;
        }
        let high = Half::High.of(condition.value);
        let equal = self.program.branch(Compare::Equal, high, low, no);
        let greater = self.program.branch(Compare::Greater, high, yes, equal);
        self.program.load(Half::High.offset(condition.argument), greater)
    }
}

/// Classic BPF compares 32 bits at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Low,
    High,
}

impl Half {
    fn of(self, value: u64) -> u32 {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        match self {
            Self::Low => u32::from_le_bytes([a, b, c, d]),
            Self::High => u32::from_le_bytes([e, f, g, h]),
        }
    }

    fn offset(self, argument: u8) -> u32 {
        let low = ARGUMENTS + 8 * u32::from(argument);
        match self {
            Self::Low => low,
            Self::High => low + 4,
        }
    }
}
