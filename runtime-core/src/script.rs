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
    account: Account,
    inherit: Vec<BorrowedFd<'fd>>,
    numbering: Numbering,
    /// Slots in use, by number.
    slots: Vec<bool>,
}

/// What a stub has been told to do: ops, and what they are about.
#[derive(Debug)]
pub(crate) struct Account {
    /// How many ops were in the scripts before.
    before: usize,
    ops: Vec<[u64; OP_WORDS]>,
    data: Blob,
    about: Vec<(usize, About)>,
}

/// How a script calls the descriptors that it gets from the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbering {
    /// As the parent does: they are inherited.
    Same,
    /// By their place behind the script itself, with which they come.
    ByPlace,
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
    /// One that is there when the stub begins.
    pub(crate) fn new() -> Self {
        Self::numbered(Numbering::Same)
    }

    /// One that follows another.
    pub(crate) fn later() -> Self {
        Self::numbered(Numbering::ByPlace)
    }

    fn numbered(numbering: Numbering) -> Self {
        let (ops, about) = (Vec::with_capacity(96), Vec::new());
        let account = Account { before: 0, ops, data: Blob::default(), about };
        Self { account, inherit: Vec::new(), numbering, slots: Vec::new() }
    }

    /// The ops from here on are about `what`.
    pub(crate) fn about(&mut self, what: About) {
        self.account.about.push((self.account.ops.len(), what));
    }

    /// The ops from here on do `what`: `mount proc on /proc`.
    pub(crate) fn what(&mut self, what: impl Into<String>) {
        self.about(About::What(what.into()));
    }

    pub(crate) fn push(&mut self, op: Op<'_>) {
        let words = op.encode(&mut self.account.data);
        self.account.ops.push(words);
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

    /// The child gets `fd`.
    pub(crate) fn inherit(&mut self, fd: BorrowedFd<'fd>) -> Fd {
        let known = self.inherit.iter().position(|known| known.as_raw_fd() == fd.as_raw_fd());
        let place = known.unwrap_or_else(|| {
            self.inherit.push(fd);
            self.inherit.len() - 1
        });
        match self.numbering {
            Numbering::Same => Fd(fd.as_raw_fd()),
            Numbering::ByPlace => Fd(i32::try_from(place + 1).unwrap_or(i32::MAX)),
        }
    }

    /// Descriptors that the child gets.
    pub(crate) fn inherited(&self) -> &[BorrowedFd<'fd>] {
        &self.inherit
    }

    /// The whole script. The stub speaks on `line`, which only the first script tells it.
    pub(crate) fn to_bytes(&self, line: Option<BorrowedFd<'_>>) -> Vec<u8> {
        let line = line.map_or(0, |line| line.as_raw_fd().unsigned_abs());
        let Account { ops, data, .. } = &self.account;
        let header = [MAGIC, ops.len() as u64, u64::from(line), data.0.len() as u64];
        let words = header.iter().chain(ops.iter().flatten());
        let mut bytes: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend_from_slice(&data.0);
        bytes
    }

    /// What remains of it when it has been given to a stub, after others.
    pub(crate) fn into_account(self, told: &[Account]) -> Account {
        Account { before: told.iter().map(|one| one.ops.len()).sum(), ..self.account }
    }

    /// Each op, and what it is about, as text.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (String, String)> {
        self.account.steps()
    }

    /// One line per op: what golden tests compare.
    #[cfg(test)]
    pub(crate) fn to_text(&self) -> String {
        self.steps().map(|(_, op)| op + "\n").collect()
    }
}

impl Account {
    /// The place here of an op that the stub speaks of: it counts from its first script on.
    fn place(&self, op: u32) -> Option<usize> {
        usize::try_from(op).ok()?.checked_sub(self.before).filter(|place| *place < self.ops.len())
    }

    /// The op is one of these.
    pub(crate) fn has(&self, op: u32) -> bool {
        self.place(op).is_some()
    }

    /// What the op is about.
    pub(crate) fn about_op(&self, op: u32) -> Option<&About> {
        self.about_place(self.place(op)?)
    }

    /// The op itself, as text.
    pub(crate) fn op_text(&self, op: u32) -> String {
        self.place(op).map_or_else(|| "unknown op".into(), |place| self.text(place))
    }

    fn about_place(&self, place: usize) -> Option<&About> {
        self.about.iter().rev().find(|(first, _)| *first <= place).map(|(_, about)| about)
    }

    fn text(&self, place: usize) -> String {
        let words = self.ops.get(place);
        let op = words.and_then(|words| Op::decode(words, &self.data.0));
        op.map_or_else(|| "unknown op".into(), |op| op.to_string())
    }

    fn steps(&self) -> impl Iterator<Item = (String, String)> {
        (0..self.ops.len()).map(|place| {
            let about = self.about_place(place).map(|about| match about {
                About::What(what) | About::Mounting { what, .. } => what.clone(),
                About::Finding(program) => format!("find {program}"),
                About::Executing(program) => format!("execute {program}"),
            });
            (about.unwrap_or_default(), self.text(place))
        })
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
