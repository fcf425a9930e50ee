//! The script: what the stub is told to do, as flat position-independent bytes. Written by the parent, mapped
//! read-only by the child. Both sides share this one definition; neither side's way of working is in it.
//!
//! The first script is there when the stub begins. One that ends with [`Op::Next`] is followed by another, which comes over
//! the control socket with its descriptors: what takes long and needs no decision begins before everything is decided.
//!
//! Layout, native endian, eight-byte words: a header (magic, number of ops, control socket, length of the data), the
//! ops (eight words each: code and up to seven operands), the data (strings and bytes that operands point into).

use core::ffi::CStr;

/// First word of every script; the last byte is the format's version. Both sides come from one build.
pub const MAGIC: u64 = 0x7461_7265_0000_0001;
/// Words in the header.
pub const HEADER_WORDS: usize = 4;
/// Words in an op.
pub const OP_WORDS: usize = 8;
/// How many descriptors one message carries (`SCM_MAX_FD`).
pub const IN_ONE_MESSAGE: usize = 253;
/// How many slots for descriptors the interpreter has: a mount of a user namespace may hold one until it is attached.
pub const SLOTS: usize = 1024;

/// A descriptor operand: one from the parent (0 and up: in the first script the parent's own number, since it is
/// inherited; in a later one its place among those that came with it, of which the script is the first), a slot filled by
/// an earlier op, or the current working directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fd(pub i32);

/// What slot 0 is as an operand; the others follow downwards.
const FIRST_SLOT: i32 = -1000;

impl Fd {
    /// `AT_FDCWD`.
    pub const CWD: Self = Self(-100);
    /// No descriptor.
    pub const NONE: Self = Self(-99);

    /// The descriptor that an earlier op left in `slot`.
    #[must_use]
    pub const fn slot(slot: Slot) -> Self {
        Self(FIRST_SLOT - slot.0)
    }

    /// The slot this operand names, if it names one.
    #[must_use]
    pub const fn as_slot(self) -> Option<Slot> {
        if self.0 <= FIRST_SLOT { Some(Slot(FIRST_SLOT - self.0)) } else { None }
    }
}

/// A slot of the interpreter, below [`SLOTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub i32);

/// NUL-terminated strings, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strings<'a>(pub &'a [u8]);

impl<'a> Strings<'a> {
    /// The strings, in order.
    pub fn iter(self) -> impl Iterator<Item = &'a CStr> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let string = CStr::from_bytes_until_nul(rest).ok()?;
            rest = rest.get(string.to_bytes_with_nul().len()..)?;
            Some(string)
        })
    }
}

/// 32-bit numbers, native endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers<'a>(pub &'a [u8]);

/// Where the writer puts what does not fit into a word.
pub trait Sink {
    /// Stores `bytes` in the data and returns their offset.
    fn store(&mut self, bytes: &[u8]) -> u32;
}

/// An operand.
trait Field<'a>: Sized {
    fn put(self, sink: &mut impl Sink) -> u64;
    fn get(word: u64, data: &'a [u8]) -> Option<Self>;
}

macro_rules! number_field {
    ($($kind:ty, $put:expr, $get:expr;)*) => {$(
        impl Field<'_> for $kind {
            fn put(self, _: &mut impl Sink) -> u64 {
                $put(self)
            }
            fn get(word: u64, _: &[u8]) -> Option<Self> {
                $get(word)
            }
        }
    )*};
}

number_field! {
    u64, |v| v, Some;
    u32, u64::from, |w: u64| u32::try_from(w).ok();
    i32, |v: i32| u64::from(v.cast_unsigned()), |w: u64| u32::try_from(w).ok().map(u32::cast_signed);
    Fd, |v: Fd| u64::from(v.0.cast_unsigned()), |w: u64| u32::try_from(w).ok().map(|n| Fd(n.cast_signed()));
    Slot, |v: Slot| u64::from(v.0.cast_unsigned()), |w: u64| u32::try_from(w).ok().map(|n| Slot(n.cast_signed()));
}

impl<'a> Field<'a> for &'a [u8] {
    fn put(self, sink: &mut impl Sink) -> u64 {
        let offset = sink.store(self);
        // A script is far below 4 GiB: the sink refuses more.
        let length = u32::try_from(self.len()).unwrap_or(u32::MAX);
        (u64::from(offset) << 32) | u64::from(length)
    }

    fn get(word: u64, data: &'a [u8]) -> Option<Self> {
        let start = usize::try_from(word >> 32).ok()?;
        let length = usize::try_from(word & 0xffff_ffff).ok()?;
        data.get(start..start.checked_add(length)?)
    }
}

impl<'a> Field<'a> for &'a CStr {
    fn put(self, sink: &mut impl Sink) -> u64 {
        self.to_bytes_with_nul().put(sink)
    }

    fn get(word: u64, data: &'a [u8]) -> Option<Self> {
        CStr::from_bytes_with_nul(<&[u8]>::get(word, data)?).ok()
    }
}

impl<'a> Field<'a> for Strings<'a> {
    fn put(self, sink: &mut impl Sink) -> u64 {
        self.0.put(sink)
    }

    fn get(word: u64, data: &'a [u8]) -> Option<Self> {
        <&[u8]>::get(word, data).map(Strings)
    }
}

impl<'a> Field<'a> for Numbers<'a> {
    fn put(self, sink: &mut impl Sink) -> u64 {
        self.0.put(sink)
    }

    fn get(word: u64, data: &'a [u8]) -> Option<Self> {
        <&[u8]>::get(word, data).map(Numbers)
    }
}

impl Numbers<'_> {
    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + Clone {
        self.0.chunks_exact(4).map(|bytes| match bytes {
            &[a, b, c, d] => u32::from_ne_bytes([a, b, c, d]),
            _ => 0,
        })
    }
}

macro_rules! ops {
    ($($(#[$doc:meta])* $code:literal $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty),* $(,)? })*) => {
        /// One step of the script: one to six system calls.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "operands are named for the arguments of the calls they go to")]
        pub enum Op<'a> {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $kind),* },)*
        }

        impl<'a> Op<'a> {
            /// The op as words; what is longer than a word goes to `sink`.
            pub fn encode(self, sink: &mut impl Sink) -> [u64; OP_WORDS] {
                let mut words = [0; OP_WORDS];
                match self {
                    $(Self::$name { $($field),* } => {
                        let operands: &[u64] = &[$code, $($field.put(sink)),*];
                        words.iter_mut().zip(operands).for_each(|(word, operand)| *word = *operand);
                    })*
                }
                words
            }

            /// Reads an op back; `None` when the words are not one.
            #[must_use]
            pub fn decode(words: &[u64; OP_WORDS], data: &'a [u8]) -> Option<Self> {
                let mut operands = words.iter().copied();
                match operands.next()? {
                    $($code => Some(Self::$name { $($field: <$kind as Field<'a>>::get(operands.next()?, data)?),* }),)*
                    _ => None,
                }
            }
        }
    };
}

ops! {
    // The process itself.
    /// Every signal back to its default, none blocked: what the parent ignored must not be inherited.
    1 ResetSignals {}
    /// `prctl(option, value, 0, 0, 0)`.
    2 Prctl { option: i32, value: u64 }
    /// `personality(2)`.
    3 Personality { persona: u32 }
    /// Joins the session keyring of this name, made when absent; `permissions` other than 0 are set on it.
    4 Keyring { name: &'a CStr, permissions: u32 }
    /// `prlimit64(2)` on itself.
    5 Rlimit { resource: u32, soft: u64, hard: u64 }
    /// `sched_setattr(2)`; the bytes are a `struct sched_attr`.
    6 Scheduler { attributes: &'a [u8] }
    /// `ioprio_set(2)` on itself.
    7 IoPriority { value: u32 }
    /// `sched_setaffinity(2)` on itself.
    8 Affinity { mask: &'a [u8] }
    /// `set_mempolicy(2)` on itself.
    9 MemoryPolicy { mode: u32, nodes: &'a [u8] }

    // Descriptors and files.
    /// `openat2(2)`.
    10 Open { dir: Fd, path: &'a CStr, flags: u64, resolve: u64, into: Slot }
    /// Writes all of it in one call.
    11 Write { fd: Fd, data: &'a [u8] }
    /// Writes into a kernel file below `dir`: opened beneath it, no magic link followed, no mount crossed.
    12 Set { dir: Fd, path: &'a CStr, data: &'a [u8] }
    /// Closes a slot or an inherited descriptor.
    13 Close { fd: Fd }
    /// `dup3(2)` onto this number, without `O_CLOEXEC`.
    14 Dup { from: Fd, to: i32 }
    /// Gives 0, 1 and 2 to this user, /dev/null excepted, as runc does.
    15 OwnStdio { uid: u32 }
    /// Closes everything from this number up, except for the control socket and these, which close on exec.
    16 CloseFrom { first: u32, keep: Numbers<'a> }

    // Namespaces.
    /// `setns(2)` into the namespace (or the process, for a pidfd) behind `fd`.
    20 SetNs { fd: Fd, kinds: u32 }
    /// `unshare(2)`.
    21 Unshare { kinds: u32 }
    /// `clone3(CLONE_PARENT | kinds)`, into the version 2 cgroup if one is given: the child goes on with the script once
    /// the parent has its pidfd; this process sends that and leaves.
    22 Fork { kinds: u32, cgroup: Fd }
    /// `sethostname(2)`.
    23 Hostname { name: &'a CStr }
    /// `setdomainname(2)`.
    24 Domainname { name: &'a CStr }
    /// Brings up `lo`.
    25 Loopback {}
    /// `socket(2)` of the routing netlink family, in the network namespace as it is now.
    26 Netlink { into: Slot }

    // Talking to the parent.
    /// Reports this point and waits for the word to go on.
    30 Sync { point: u32 }
    /// Reports this point and goes on.
    32 Report { point: u32 }
    /// Sends a descriptor.
    31 Send { fd: Fd, tag: u32 }
    /// Reports this point and goes on with the script that comes in answer: messages of four bytes, how many descriptors
    /// there are altogether, and up to [`IN_ONE_MESSAGE`] of them. The last op of a script.
    34 Next { point: u32 }
    /// Reports this point and waits for the word to go on, and then for another at a FIFO: whoever started this may have
    /// gone by then. From there on failures are written to `answer`.
    33 Gate { point: u32, word: Fd, answer: Fd }

    // Talking to another stub.
    /// Sends a descriptor into `socket`.
    38 Give { socket: Fd, fd: Fd }
    /// Receives the next descriptor from `socket`.
    39 Take { socket: Fd, into: Slot }

    // Mounts.
    /// `mount_setattr(2)` on what `tree` is the root of; `propagation` 0 leaves it.
    40 SetAttr { tree: Fd, recursive: u32, set: u64, clear: u64, propagation: u64 }
    /// A new file system, mounted nowhere: `fsopen`, `fsconfig`, `fsmount`. `parameters` are pairs; a flag has an
    /// empty second half. With `like`, its root has the mode of what is there inside `root`, if anything is.
    41 Filesystem { kind: &'a CStr, source: &'a CStr, parameters: Strings<'a>, attributes: u64, root: Fd, like: &'a CStr,
        into: Slot }
    /// A clone of the tree at `path` below `dir`, mounted nowhere.
    42 CloneTree { dir: Fd, path: &'a CStr, flags: u32, into: Slot }
    /// Finds `path` inside `root`, following links as the container would; `make` says what is made when it is absent, with
    /// [`make::LIKE`] what `like` is.
    43 Target { root: Fd, path: &'a CStr, make: u32, like: Fd, into: Slot }
    /// `move_mount(2)` of a detached tree onto a target.
    44 Attach { tree: Fd, target: Fd }
    /// Copies what lies at `from` into the detached `to` (tmpcopyup).
    45 CopyUp { from: Fd, to: Fd }
    /// A symbolic link inside `root`; an existing entry is kept, or replaced when `replace` is 1.
    46 Symlink { root: Fd, path: &'a CStr, target: &'a CStr, replace: u32 }
    /// A device node inside `root`, verified after it is made; one that is there and equal is kept. Where the kernel lets
    /// nobody make it (`EPERM`), `instead` is attached, a tree of the host's own node, if there is one.
    47 Node { root: Fd, path: &'a CStr, mode: u32, number: u64, uid: u32, gid: u32, instead: Fd }
    /// Hides a path: a directory behind a clone of `directory`, anything else behind a clone of `file`.
    48 Mask { root: Fd, path: &'a CStr, file: Fd, directory: Fd }
    /// Makes a path and all mounts below it read-only by a clone of itself on top.
    49 Seal { root: Fd, path: &'a CStr }
    /// `mount_setattr(2)` on the mount at `path` inside `root`.
    50 SetAttrAt { root: Fd, path: &'a CStr, recursive: u32, set: u64, clear: u64, propagation: u64 }
    /// Makes `root` the root of the mount namespace and drops the old one.
    51 Pivot { root: Fd }
    /// Maps the ids of a detached tree as the user namespace `users` does (`MOUNT_ATTR_IDMAP`).
    52 IdMap { tree: Fd, recursive: u32, users: Fd }
    /// `mount(2)`, for what has more options than fsconfig(2) takes; paths of the host.
    53 Mount { source: &'a CStr, target: &'a CStr, kind: &'a CStr, flags: u64, data: &'a CStr }
    /// Changes parameters of the file system that is mounted at `path` inside `root`: `fspick(2)`.
    54 Reconfigure { root: Fd, path: &'a CStr, parameters: Strings<'a> }
    /// Detaches what is mounted at a path of the host's, in this mount namespace; what is locked there is covered.
    55 Hide { path: &'a CStr }
    /// Moves `root` over `/` and changes the root to it; the old one stays underneath.
    56 MoveRoot { root: Fd }

    // Terminals.
    /// A new terminal of the devpts at `pts` inside `root`: master and peer into slots.
    60 Terminal { root: Fd, path: &'a CStr, master: Slot, peer: Slot }
    /// A new session with this controlling terminal; without one, only the session.
    61 Session { terminal: Fd }

    // Who it becomes.
    /// `umask(2)`; `u32::MAX` is what the stub was born with.
    70 Umask { mask: u32 }
    /// `setgroups(2)`, exactly these.
    71 Groups { groups: Numbers<'a> }
    /// `setresgid(2)` and `setresuid(2)`.
    72 Ids { uid: u32, gid: u32 }
    /// Drops from the bounding set what is not in `keep`, up to capability `last`.
    73 Bounding { keep: u64, last: u32 }
    /// `capset(2)`.
    74 Capabilities { effective: u64, permitted: u64, inheritable: u64 }
    /// Raises these ambient capabilities, and no others.
    75 Ambient { set: u64, last: u32 }
    /// `chdir(2)`, unless an earlier one has succeeded, and the result is inside the root (CVE-2024-21626). With `later`
    /// at 1, being refused is no error yet.
    76 Chdir { path: &'a CStr, later: u32 }
    /// `seccomp(2)`; with `SECCOMP_FILTER_FLAG_NEW_LISTENER` the listener goes into the slot.
    77 Seccomp { flags: u32, program: &'a [u8], into: Slot }
    /// Reads the ids back; a difference is `EPERM`.
    78 VerifyIds { uid: u32, gid: u32 }
    /// Reads the supplementary groups back; a difference is `EPERM`.
    80 VerifyGroups { groups: Numbers<'a> }
    /// Reads capabilities and no_new_privs back; a difference is `EPERM`.
    79 VerifyPrivileges { effective: u64, permitted: u64, inheritable: u64, bounding: u64, last: u32, no_new_privileges: u32 }

    // The end.
    /// Finds the program among the candidates, as the user it has become.
    90 Find { candidates: Strings<'a> }
    /// Executes what was found.
    91 Exec { arguments: Strings<'a>, environment: Strings<'a> }
}

/// What [`Op::Target`] makes of an absent path.
pub mod make {
    /// Nothing: absence is an error.
    pub const NOTHING: u32 = 0;
    /// A directory, and those above it.
    pub const DIRECTORY: u32 = 1;
    /// An empty file, and the directories above it.
    pub const FILE: u32 = 2;
    /// One of the two above: what another descriptor is.
    pub const LIKE: u32 = 3;
    /// Added to one of the above: no symbolic link may be on the way.
    pub const PLAIN: u32 = 0x100;
    /// Added to one of the above: what is found must not lie on a procfs.
    pub const NOT_PROC: u32 = 0x200;
    /// What is left without the additions.
    pub const KIND: u32 = 0xff;
}

/// A record on the control socket, child to parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// One of [`record`].
    pub kind: u32,
    /// Index of the op that speaks.
    pub op: u32,
    /// An errno, a sync point, a pid or a tag.
    pub value: i32,
    /// Which part of the op failed.
    pub detail: u32,
}

/// The kernel's `dev_t`, as mknod(2) takes it and `stat` shows it.
#[must_use]
pub fn device_number(major: u32, minor: u32) -> u64 {
    u64::from((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// Major and minor of a `dev_t`.
#[must_use]
pub fn device_parts(number: u64) -> (u32, u32) {
    let part = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let (major, minor) =
        (((number >> 8) & 0xfff) | ((number >> 32) & 0xffff_f000), (number & 0xff) | ((number >> 12) & 0xffff_ff00));
    (part(major), part(minor))
}

/// Kinds of [`Record`].
pub mod record {
    /// An op could not be done: `value` is the errno, `detail` the step in it.
    pub const FAILED: u32 = 1;
    /// Waiting at point `value`.
    pub const SYNC: u32 = 2;
    /// The process that goes on is `value` in the parent's pid namespace; its pidfd comes with this record.
    pub const FORKED: u32 = 3;
    /// A descriptor comes with this record; `value` is its tag.
    pub const DESCRIPTOR: u32 = 4;
    /// Past point `value`, going on.
    pub const REPORT: u32 = 5;
}

impl Record {
    /// The record as bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let words = [self.kind, self.op, self.value.cast_unsigned(), self.detail];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// The record in these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 16]) -> Self {
        let mut words = Numbers(bytes).0.chunks_exact(4).map(|word| match word {
            &[a, b, c, d] => u32::from_ne_bytes([a, b, c, d]),
            _ => 0,
        });
        let mut next = || words.next().unwrap_or(0);
        Self { kind: next(), op: next(), value: next().cast_signed(), detail: next() }
    }
}
