//! Writing a script: ops, what they are about, and the descriptors that the child must inherit. It knows nothing of
//! containers; the planners in `lower` do.

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use tare_init::script::{Fd, MAGIC, OP_WORDS, Op, Sink, Slot};

/// What an op is about, for the error when it cannot be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum About {
    /// Phase, operation and object: `mount proc on /proc`.
    What(String),
    /// Phase and operation of a mount, with its source and its target.
    Mounting { what: String, source: String, target: String },
    /// Finding the program, by its first argument.
    Finding(String),
    /// Executing the program, by its first argument.
    Executing(String),
}

/// A script being written.
#[derive(Debug)]
pub(crate) struct Script<'fd> {
    ops: Vec<[u64; OP_WORDS]>,
    data: Blob,
    about: Vec<(usize, About)>,
    inherit: Vec<BorrowedFd<'fd>>,
    /// Slots in use, by number.
    slots: Vec<bool>,
}

/// The data of a script: strings and bytes, each at a multiple of eight.
#[derive(Debug, Default)]
struct Blob(Vec<u8>);

impl Sink for Blob {
    fn store(&mut self, bytes: &[u8]) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        // More than 4 GiB cannot come out of a config.json of 16 MiB; should it, the stub finds no such data.
        let offset = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(bytes);
        offset
    }
}

impl<'fd> Script<'fd> {
    pub(crate) fn new() -> Self {
        Self {
            ops: Vec::with_capacity(96),
            data: Blob::default(),
            about: Vec::new(),
            inherit: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// The ops from here on are about `what`.
    pub(crate) fn about(&mut self, what: About) {
        self.about.push((self.ops.len(), what));
    }

    /// The ops from here on do `what`: `mount proc on /proc`.
    pub(crate) fn what(&mut self, what: impl Into<String>) {
        self.about(About::What(what.into()));
    }

    pub(crate) fn push(&mut self, op: Op<'_>) {
        self.ops.push(op.encode(&mut self.data));
    }

    /// A slot that is free. One beyond what the stub has is refused by the stub.
    pub(crate) fn slot(&mut self) -> Slot {
        let free = self.slots.iter().position(|used| !used).unwrap_or_else(|| {
            self.slots.push(false);
            self.slots.len() - 1
        });
        self.slots[free] = true;
        Slot(i32::try_from(free).unwrap_or(i32::MAX))
    }

    /// The slot may be used again; its descriptor has been closed by an op.
    pub(crate) fn free(&mut self, slot: Slot) {
        if let Some(used) = usize::try_from(slot.0).ok().and_then(|slot| self.slots.get_mut(slot)) {
            *used = false;
        }
    }

    /// The child inherits `fd`, at the same number.
    pub(crate) fn inherit(&mut self, fd: BorrowedFd<'fd>) -> Fd {
        if !self.inherit.iter().any(|known| known.as_raw_fd() == fd.as_raw_fd()) {
            self.inherit.push(fd);
        }
        Fd(fd.as_raw_fd())
    }

    /// Descriptors that the child must inherit.
    pub(crate) fn inherited(&self) -> &[BorrowedFd<'fd>] {
        &self.inherit
    }

    /// The whole script; the stub speaks on `line`.
    pub(crate) fn to_bytes(&self, line: BorrowedFd<'_>) -> Vec<u8> {
        let line = u64::from(line.as_raw_fd().unsigned_abs());
        let header = [MAGIC, self.ops.len() as u64, line, self.data.0.len() as u64];
        let words = header.iter().chain(self.ops.iter().flatten());
        let mut bytes: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend_from_slice(&self.data.0);
        bytes
    }

    /// What the op is about.
    pub(crate) fn about_op(&self, op: u32) -> Option<&About> {
        let op = usize::try_from(op).ok()?;
        self.about.iter().rev().find(|(first, _)| *first <= op).map(|(_, about)| about)
    }

    /// The op itself, as text.
    pub(crate) fn op_text(&self, op: u32) -> String {
        let op = usize::try_from(op).ok().and_then(|index| self.ops.get(index));
        op.and_then(|words| Op::decode(words, &self.data.0)).map_or_else(|| "unknown op".into(), |op| op.to_string())
    }

    /// Each op, and what it is about, as text.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (String, String)> {
        (0_u32..).zip(&self.ops).map(|(index, _)| {
            let about = self.about_op(index).map(|about| match about {
                About::What(what) | About::Mounting { what, .. } => what.clone(),
                About::Finding(program) => format!("find {program}"),
                About::Executing(program) => format!("execute {program}"),
            });
            (about.unwrap_or_default(), self.op_text(index))
        })
    }

    /// One line per op: what golden tests compare.
    #[cfg(test)]
    pub(crate) fn to_text(&self) -> String {
        (0_u32..).zip(&self.ops).map(|(index, _)| self.op_text(index) + "\n").collect()
    }
}

/// Strings one after the other, as [`tare_init::script::Strings`] has them.
pub(crate) fn strings<'a>(strings: impl IntoIterator<Item = &'a CStr>) -> Vec<u8> {
    strings.into_iter().flat_map(CStr::to_bytes_with_nul).copied().collect()
}

/// Numbers one after the other, as [`tare_init::script::Numbers`] has them.
pub(crate) fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// Words of a mask one after the other.
pub(crate) fn words(mask: &[u64]) -> Vec<u8> {
    mask.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
