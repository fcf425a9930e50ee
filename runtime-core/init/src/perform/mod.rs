//! The interpreter: a loop over the ops of a script. It decides nothing but "did this call fail"; what failed goes to
//! the parent as op index, step and errno, and the parent, who owns the script, finds the words.

mod become_user;
mod copy_up;
mod files;
mod mounts;
mod program;
mod talk;

use core::ffi::CStr;

use crate::script::{Fd, HEADER_WORDS, MAGIC, OP_WORDS, Op, Record, SLOTS, Slot, record};
use crate::sys::{self, Answer, Errno};

/// Why an op could not be done, and at which of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    errno: Errno,
    step: u32,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self { errno, step: 0 }
    }
}

/// Names the step at which a call of a composite op failed.
trait AtStep<T> {
    fn at(self, step: u32) -> Result<T, Failure>;
}

impl<T> AtStep<T> for Answer<T> {
    fn at(self, step: u32) -> Result<T, Failure> {
        self.map_err(|errno| Failure { errno, step })
    }
}

type Done = Result<(), Failure>;

/// A script, split into its parts.
#[derive(Debug, Clone, Copy)]
pub struct Script<'a> {
    line: i32,
    ops: &'a [u8],
    data: &'a [u8],
}

impl<'a> Script<'a> {
    /// Reads the header. `None`: these bytes are not a script.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(HEADER_WORDS * 8)?;
        let mut words = header.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_ne_bytes);
        if words.next()? != MAGIC {
            return None;
        }
        let count = usize::try_from(words.next()?).ok()?;
        let line = i32::try_from(words.next()?).ok()?;
        let length = usize::try_from(words.next()?).ok()?;
        let (ops, rest) = rest.split_at_checked(count.checked_mul(OP_WORDS * 8)?)?;
        Some(Self { line, ops, data: rest.get(..length)? })
    }

    /// The control socket's number.
    #[must_use]
    pub fn line(&self) -> i32 {
        self.line
    }

    /// The ops, in order; `None` for one that cannot be read.
    pub fn ops(self) -> impl Iterator<Item = Option<Op<'a>>> {
        self.ops.chunks_exact(OP_WORDS * 8).map(move |chunk| {
            let mut words = [0; OP_WORDS];
            for (word, bytes) in words.iter_mut().zip(chunk.chunks_exact(8)) {
                *word = u64::from_ne_bytes(bytes.try_into().ok()?);
            }
            Op::decode(&words, self.data)
        })
    }
}

/// What ops leave for later ops.
#[derive(Debug)]
struct Interpreter<'a> {
    line: i32,
    op: u32,
    slots: [i32; SLOTS],
    /// What came with the script, if it is not the first.
    received: Option<&'static [usize]>,
    umask: u32,
    /// Masks that are attached already and can be cloned; the first use attaches the tree itself, because a detached
    /// tree could not be cloned before Linux 6.15.
    attached: [i32; 2],
    program: Option<&'a CStr>,
    /// The working directory has been entered.
    arrived: bool,
}

/// Performs the script, and those that follow it. Does not return: the last op becomes the container's process, or the
/// line tells the parent which op could not be done.
pub fn run(script: Script<'_>) -> ! {
    let umask = sys::umask(0);
    let mut interpreter = Interpreter {
        line: script.line,
        op: 0,
        slots: [-1; SLOTS],
        received: None,
        umask,
        attached: [-1; 2],
        program: None,
        arrived: false,
    };
    let mut script = script;
    loop {
        match interpreter.act(script) {
            Ok(Some(next)) => script = next,
            Ok(None) => sys::exit(0),
            Err(Failure { errno, step }) => {
                let failed = Record { kind: record::FAILED, op: interpreter.op, value: errno.0, detail: step };
                // Nobody is left to be told when this fails too.
                let _ = sys::write_all(interpreter.line, &failed.to_bytes());
                sys::exit(1)
            }
        }
    }
}

impl<'a> Interpreter<'a> {
    /// Performs one script; answers the one that follows it.
    fn act(&mut self, script: Script<'a>) -> Result<Option<Script<'a>>, Failure> {
        for op in script.ops() {
            let op = op.ok_or(Errno::EBADMSG)?;
            let next = if let Op::Next { point } = op {
                Some(self.next_script(point)?)
            } else {
                self.perform(op).map(|()| None)?
            };
            self.op += 1;
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }

    /// The descriptor an operand means.
    fn fd(&self, fd: Fd) -> i32 {
        if let Some(slot) = fd.as_slot() {
            return usize::try_from(slot.0).ok().and_then(|slot| self.slots.get(slot)).copied().unwrap_or(-1);
        }
        match (usize::try_from(fd.0), self.received) {
            (Ok(place), Some(received)) => {
                received.get(place).and_then(|number| i32::try_from(*number).ok()).unwrap_or(-1)
            }
            _ => fd.0,
        }
    }

    /// Leaves a descriptor for later ops.
    fn keep(&mut self, slot: Slot, fd: i32) -> Done {
        let place = usize::try_from(slot.0).ok().and_then(|slot| self.slots.get_mut(slot));
        *place.ok_or(Errno::EBADMSG)? = fd;
        Ok(())
    }

    fn perform(&mut self, op: Op<'a>) -> Done {
        match op {
            Op::ResetSignals {} => Ok(sys::reset_signals()?),
            Op::Prctl { option, value } => Ok(sys::prctl(option, value, 0).map(drop)?),
            Op::Personality { persona } => Ok(sys::personality(persona)?),
            Op::Keyring { name, permissions } => become_user::keyring(name, permissions),
            Op::Rlimit { resource, soft, hard } => Ok(sys::set_rlimit(resource, soft, hard)?),
            Op::Scheduler { attributes } => Ok(sys::sched_setattr(attributes)?),
            Op::IoPriority { value } => Ok(sys::ioprio_set(value)?),
            Op::Affinity { mask } => Ok(sys::sched_setaffinity(mask)?),
            Op::MemoryPolicy { mode, nodes } => Ok(sys::set_mempolicy(mode, nodes)?),
            Op::SetNs { fd, kinds } => Ok(sys::setns(self.fd(fd), kinds)?),
            Op::Unshare { kinds } => Ok(sys::unshare(kinds)?),
            Op::Hostname { name } => Ok(sys::sethostname(name)?),
            Op::Domainname { name } => Ok(sys::setdomainname(name)?),
            Op::Loopback {} => mounts::loopback(),
            // AF_NETLINK; SOCK_RAW with SOCK_CLOEXEC; NETLINK_ROUTE is protocol 0.
            Op::Netlink { into } => self.keep(into, sys::socket(16, 3 | 0o2_000_000)?),
            Op::Fork { kinds, cgroup } => self.fork(kinds, cgroup),
            Op::Sync { point } => self.sync(point),
            Op::Gate { point, word, answer } => self.gate(point, word, answer),
            Op::Report { point } => self.report(point),
            Op::Send { fd, tag } => self.send(fd, tag),
            Op::Give { socket, fd } => Ok(sys::send_fd(self.fd(socket), &[0; 4], self.fd(fd))?),
            Op::Take { socket, into } => {
                let fd = sys::receive_fd(self.fd(socket))?;
                self.keep(into, fd)
            }
            Op::Find { candidates } => self.find(candidates),
            Op::Exec { arguments, environment } => self.exec(arguments, environment),
            _ => self.perform_on_files(op),
        }
    }

    fn perform_on_files(&mut self, op: Op<'a>) -> Done {
        match op {
            Op::Open { dir, path, flags, resolve, into } => {
                let fd = sys::openat2(self.fd(dir), path, flags, 0, resolve)?;
                self.keep(into, fd)
            }
            Op::Write { fd, data } => Ok(sys::write_all(self.fd(fd), data)?),
            Op::Set { dir, path, data } => files::set(self.fd(dir), path, data),
            Op::Close { fd } => Ok(sys::close(self.fd(fd))?),
            Op::Dup { from, to } => Ok(sys::dup_onto(self.fd(from), to)?),
            Op::OwnStdio { uid } => files::own_stdio(uid),
            Op::CloseFrom { first, keep } => {
                let keep = keep.iter().map(|fd| self.fd(Fd(fd.cast_signed())).cast_unsigned());
                files::close_from(first, self.line, keep)
            }
            Op::Terminal { root, path, master, peer } => {
                let (master_fd, peer_fd) = files::terminal(self.fd(root), path)?;
                self.keep(master, master_fd)?;
                self.keep(peer, peer_fd)
            }
            Op::Session { terminal } => files::session(self.fd(terminal)),
            Op::Umask { mask } => {
                sys::umask(if mask == u32::MAX { self.umask } else { mask });
                Ok(())
            }
            Op::Symlink { root, path, target, replace } => files::symlink(self.fd(root), path, target, replace),
            Op::Node { root, path, mode, number, uid, gid, instead } => {
                let instead = (instead != Fd::NONE).then(|| self.fd(instead));
                files::node(self.fd(root), path, &files::Node { mode, number, uid, gid }, instead)
            }
            _ => self.perform_on_mounts(op),
        }
    }

    fn perform_on_mounts(&mut self, op: Op<'a>) -> Done {
        match op {
            Op::SetAttr { tree, recursive, set, clear, propagation } => {
                Ok(sys::mount_setattr(self.fd(tree), mounts::reach(recursive), set, clear, propagation)?)
            }
            Op::SetAttrAt { root, path, recursive, set, clear, propagation } => {
                let at = mounts::target(self.fd(root), path, 0).at(1)?;
                Ok(sys::mount_setattr(at, mounts::reach(recursive), set, clear, propagation).and(sys::close(at))?)
            }
            Op::Filesystem { kind, source, parameters, attributes, root, like, into } => {
                let root = self.fd(root);
                let tree =
                    mounts::filesystem((kind, source, parameters), attributes, |fs| mounts::as_mode(fs, root, like))?;
                self.keep(into, tree)
            }
            Op::CloneTree { dir, path, flags, into } => {
                let tree = sys::open_tree(self.fd(dir), path, sys::OPEN_TREE_CLONE | flags)?;
                self.keep(into, tree)
            }
            Op::Target { root, path, make, like, into } => {
                let make = mounts::kind(make, self.fd(like))?;
                let target = mounts::target(self.fd(root), path, make)?;
                self.keep(into, target)
            }
            Op::Attach { tree, target } => Ok(mounts::attach(self.fd(tree), self.fd(target))?),
            Op::CopyUp { from, to } => copy_up::copy_up(self.fd(from), self.fd(to)),
            Op::Mask { root, path, file, directory } => {
                let trees = [self.fd(file), self.fd(directory)];
                mounts::mask(self.fd(root), path, trees, &mut self.attached)
            }
            Op::Seal { root, path } => mounts::seal(self.fd(root), path),
            Op::Pivot { root } => mounts::pivot(self.fd(root)),
            Op::IdMap { tree, recursive, users } => {
                Ok(sys::mount_idmap(self.fd(tree), mounts::reach(recursive), self.fd(users))?)
            }
            Op::Mount { source, target, kind, flags, data } => Ok(sys::mount(source, target, kind, flags, data)?),
            Op::Reconfigure { root, path, parameters } => mounts::reconfigure(self.fd(root), path, parameters),
            Op::Hide { path } => mounts::hide(path),
            Op::MoveRoot { root } => mounts::move_root(self.fd(root)),
            Op::Chdir { path, later } => self.chdir(path, later),
            _ => become_user::perform(op, |slot, fd| self.keep(slot, fd)),
        }
    }
}
