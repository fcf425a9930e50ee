//! A small assembler of classic BPF. Jumps only go forward, so a program is laid down from its end: every target exists
//! before the jump to it, and its distance is known. It knows nothing of system calls.

/// One `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    value: u32,
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// A comparison of the accumulator with a constant: the `BPF_JMP | BPF_J.. | BPF_K` codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Compare {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
}

/// Where control goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The filter ends with this action.
    Return(u32),
    /// An instruction already laid down, counted from the end of the program.
    Instruction(usize),
}

/// A program that grows towards its start.
#[derive(Debug, Default)]
pub(super) struct Program {
    backwards: Vec<Instruction>,
    /// The newest return of each action, to be shared while it is near.
    returns: Vec<(u32, usize)>,
}

/// A conditional jump reaches 255 instructions; two are kept for the steps laid down in between.
const REACH: usize = 253;

impl Program {
    /// `if accumulator <compare> value { yes } else { no }`.
    pub(super) fn branch(&mut self, compare: Compare, value: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        let (yes, no) = (self.distance(yes), self.distance(no));
        self.push(Instruction { code: compare as u16, yes: short(yes), no: short(no), value })
    }

    /// Loads the word at `offset` of `struct seccomp_data`, then goes on.
    pub(super) fn load(&mut self, offset: u32, then: Target) -> Target {
        self.directly(then);
        self.push(Instruction { code: LOAD, yes: 0, no: 0, value: offset })
    }

    /// Keeps the bits of `mask` in the accumulator, then goes on.
    pub(super) fn and(&mut self, mask: u32, then: Target) -> Target {
        self.directly(then);
        self.push(Instruction { code: AND, yes: 0, no: 0, value: mask })
    }

    /// How many instructions there are.
    pub(super) fn len(&self) -> usize {
        self.backwards.len()
    }

    /// The program as the kernel takes it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.backwards.len() * 8);
        for instruction in self.backwards.iter().rev() {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.yes, instruction.no]);
            bytes.extend_from_slice(&instruction.value.to_ne_bytes());
        }
        bytes
    }

    fn push(&mut self, instruction: Instruction) -> Target {
        self.backwards.push(instruction);
        Target::Instruction(self.backwards.len() - 1)
    }

    /// How many instructions lie between the next one laid down and `index`.
    fn distance(&self, index: usize) -> usize {
        self.backwards.len() - 1 - index
    }

    /// The target as an instruction that a conditional jump reaches, with a step to it where it is too far.
    fn near(&mut self, target: Target) -> usize {
        match target {
            Target::Return(action) => self.near_return(action),
            Target::Instruction(index) if self.distance(index) <= REACH => index,
            Target::Instruction(index) => self.jump(index),
        }
    }

    fn near_return(&mut self, action: u32) -> usize {
        let known = self.returns.iter().position(|(other, _)| *other == action);
        if let Some(&(_, index)) = known.and_then(|known| self.returns.get(known))
            && self.distance(index) <= REACH
        {
            return index;
        }
        self.fresh_return(action)
    }

    fn fresh_return(&mut self, action: u32) -> usize {
        self.backwards.push(Instruction { code: RETURN, yes: 0, no: 0, value: action });
        let index = self.backwards.len() - 1;
        self.returns.retain(|(other, _)| *other != action);
        self.returns.push((action, index));
        index
    }

    fn jump(&mut self, index: usize) -> usize {
        // The kernel takes 4096 instructions, so the distance of a program it takes fits.
        let value = u32::try_from(self.distance(index)).unwrap_or(u32::MAX);
        self.backwards.push(Instruction { code: JUMP, yes: 0, no: 0, value });
        self.backwards.len() - 1
    }

    /// Makes `target` the instruction that follows the next one laid down.
    fn directly(&mut self, target: Target) {
        match target {
            Target::Instruction(index) if index + 1 == self.backwards.len() => {}
            Target::Instruction(index) => {
                self.jump(index);
            }
            Target::Return(action) => {
                self.fresh_return(action);
            }
        }
    }
}

/// The distance to a target that `near` has brought within reach.
fn short(distance: usize) -> u8 {
    debug_assert!(distance <= usize::from(u8::MAX), "a conditional jump over {distance} instructions");
    u8::try_from(distance).unwrap_or(u8::MAX)
}
