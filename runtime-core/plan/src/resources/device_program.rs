//! Device rules as an eBPF program for cgroup v2 (`BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! The program looks at the rules from the last to the first and keeps, in one register, the accesses that no rule has
//! decided yet. A rule that allows takes its accesses out, and when none is left the answer is yes; a rule that denies
//! one that is left ends it with no; so does the end. No loops, no helpers, no memory.

use super::devices::{Kind, Rule, Verdict};

/// What a request is about, as the program finds it on entry (`struct bpf_cgroup_dev_ctx`): kind in the lower and
/// access in the upper half of the first word, then major and minor.
const REQUEST: u8 = 1;
const ANSWER: u8 = 0;
const KIND: u8 = 2;
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const SET: u8 = 0xb7;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_UNLESS_ANY: u8 = 0x45;
const JUMP: u8 = 0x05;
const EXIT: u8 = 0x95;

/// One instruction: `struct bpf_insn`.
struct Instruction {
    code: u8,
    target: u8,
    source: u8,
    offset: i16,
    value: i32,
}

/// The program for `rules`, eight bytes an instruction, native endian.
pub(super) fn assemble(rules: &[Rule]) -> Vec<u8> {
    let mut program = vec![
        load(KIND, 0),
        Instruction { code: MOVE, target: UNDECIDED, source: KIND, offset: 0, value: 0 },
        with(AND, KIND, 0xffff),
        with(SHIFT_RIGHT, UNDECIDED, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        let verdict = match rule.verdict {
            Verdict::Allow => vec![
                with(AND, UNDECIDED, !i32::from(rule.access)),
                jump(JUMP_UNLESS_EQUAL, UNDECIDED, 0, 2),
                with(SET, ANSWER, 1),
                with(EXIT, 0, 0),
            ],
            Verdict::Deny => vec![
                jump(JUMP_UNLESS_ANY, UNDECIDED, i32::from(rule.access), 1),
                jump(JUMP, 0, 0, 2),
                with(SET, ANSWER, 0),
                with(EXIT, 0, 0),
            ],
        };
        program.extend(matching(rule, verdict));
    }
    program.extend([with(SET, ANSWER, 0), with(EXIT, 0, 0)]);
    program.iter().flat_map(Instruction::bytes).collect()
}

/// The verdict behind the conditions of a rule; each jumps over all that is left of it.
fn matching(rule: &Rule, verdict: Vec<Instruction>) -> Vec<Instruction> {
    let kind = match rule.devices.kind {
        Kind::Any => None,
        Kind::Block => Some(1),
        Kind::Character => Some(2),
    };
    let conditions = [(MINOR, rule.devices.minor), (MAJOR, rule.devices.major), (KIND, kind)];
    let mut left = 4;
    let mut program = verdict;
    for (register, wanted) in conditions {
        // Device numbers have been checked to be far below the sign bit.
        if let Some(wanted) = wanted.and_then(|wanted| i32::try_from(wanted).ok()) {
            program.insert(0, jump(JUMP_UNLESS_EQUAL, register, wanted, left));
            left += 1;
        }
    }
    program
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction { code: LOAD_WORD, target: register, source: REQUEST, offset, value: 0 }
}

fn with(code: u8, register: u8, value: i32) -> Instruction {
    Instruction { code, target: register, source: 0, offset: 0, value }
}

fn jump(code: u8, register: u8, value: i32, offset: i16) -> Instruction {
    Instruction { code, target: register, source: 0, offset, value }
}

impl Instruction {
    fn bytes(&self) -> [u8; 8] {
        let registers = if cfg!(target_endian = "little") {
            self.source << 4 | self.target
        } else {
            self.target << 4 | self.source
        };
        let [o0, o1] = self.offset.to_ne_bytes();
        let [v0, v1, v2, v3] = self.value.to_ne_bytes();
        [self.code, registers, o0, o1, v0, v1, v2, v3]
    }
}

#[cfg(test)]
mod tests;
