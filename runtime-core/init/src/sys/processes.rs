//! System calls on processes, credentials and the program itself.

use core::ffi::CStr;

use crate::script::IN_ONE_MESSAGE;

use super::{Answer, Errno, answer, answer_fd, arg, long, nr, place, room, syscall, text, word};

/// `prctl(2)` with one argument; answers the result.
pub fn prctl(option: i32, value: u64, third: u64) -> Answer<i32> {
    // SAFETY: the options used take no pointer but `PR_SET_NAME`, whose string is static (see `set_name`).
    answer_fd(unsafe { syscall(nr::PRCTL, [arg(option), long(value), long(third), 0, 0, 0]) })
}

/// `prctl(PR_SET_NAME)`.
pub fn set_name(name: &'static CStr) {
    // SAFETY: the string is static. Failing changes nothing but what ps shows.
    unsafe { syscall(nr::PRCTL, [15, text(name), 0, 0, 0, 0]) };
}

/// Every signal back to `SIG_DFL`, none blocked; but what ends a process by default and is not raised by its own faults ends
/// this one by a handler until it executes its program: the first process of a pid namespace is spared by what it does not
/// handle (pid_namespaces(7)).
pub fn reset_signals() -> Answer<()> {
    /// SIGKILL and SIGSTOP, which nobody handles.
    const FIXED: [usize; 2] = [9, 19];
    /// SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS; and what ends nothing: SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU,
    /// SIGURG, SIGWINCH.
    const DEFAULT: [usize; 13] = [4, 5, 7, 8, 11, 31, 17, 18, 20, 21, 22, 23, 28];
    const SA_RESTORER: usize = 0x0400_0000;
    // `struct kernel_sigaction`: handler, flags, restorer, mask; all zero is SIG_DFL. The handler never gets to the restorer.
    let handler = (leave as extern "C" fn(i32) -> !) as *const ();
    let handler = handler.expose_provenance();
    let (ending, default) = ([handler, SA_RESTORER, handler, 0], [0_usize; 4]);
    for signal in (1..=64).filter(|signal| !FIXED.contains(signal)) {
        let action = if DEFAULT.contains(&signal) { &default } else { &ending };
        // SAFETY: the struct outlives the call; the handler is a function of this program, which stays mapped.
        answer(unsafe { syscall(nr::RT_SIGACTION, [signal, place(action), 0, 8, 0, 0]) })?;
    }
    let none = 0_u64;
    // SAFETY: the mask outlives the call, which reads eight bytes.
    answer(unsafe { syscall(nr::RT_SIGPROCMASK, [2, place(&none), 0, 8, 0, 0]) }).map(drop)
}

/// A shell's number for who is ended by a signal.
extern "C" fn leave(signal: i32) -> ! {
    exit(128 + signal)
}

/// `personality(2)`.
pub fn personality(persona: u32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::PERSONALITY, [word(persona), 0, 0, 0, 0, 0]) }).map(drop)
}

/// `keyctl(KEYCTL_JOIN_SESSION_KEYRING)`: its serial number.
pub fn join_session_keyring(name: &CStr) -> Answer<i32> {
    // SAFETY: the string outlives the call.
    answer_fd(unsafe { syscall(nr::KEYCTL, [1, text(name), 0, 0, 0, 0]) })
}

/// `keyctl(KEYCTL_SETPERM)`.
pub fn set_key_permissions(key: i32, permissions: u32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::KEYCTL, [5, arg(key), word(permissions), 0, 0, 0]) }).map(drop)
}

/// `prlimit64(2)` on itself.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Answer<()> {
    let limit = [soft, hard];
    // SAFETY: the struct outlives the call, which only reads it.
    answer(unsafe { syscall(nr::PRLIMIT64, [0, word(resource), place(&limit), 0, 0, 0]) }).map(drop)
}

/// `sched_setattr(2)` on itself; the bytes are a `struct sched_attr` that begins with its size.
pub fn sched_setattr(attributes: &[u8]) -> Answer<()> {
    if attributes.len() < 48 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the struct says its own size, 48, and the slice is at least that long.
    answer(unsafe { syscall(nr::SCHED_SETATTR, [0, attributes.as_ptr().expose_provenance(), 0, 0, 0, 0]) }).map(drop)
}

/// `ioprio_set(IOPRIO_WHO_PROCESS, 0)`.
pub fn ioprio_set(value: u32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::IOPRIO_SET, [1, 0, word(value), 0, 0, 0]) }).map(drop)
}

/// `sched_setaffinity(2)` on itself.
pub fn sched_setaffinity(mask: &[u8]) -> Answer<()> {
    // SAFETY: the kernel reads at most the slice's length.
    answer(unsafe { syscall(nr::SCHED_SETAFFINITY, [0, mask.len(), mask.as_ptr().expose_provenance(), 0, 0, 0]) })
        .map(drop)
}

/// `set_mempolicy(2)`; the bytes are words of a mask of nodes.
pub fn set_mempolicy(mode: u32, nodes: &[u8]) -> Answer<()> {
    // The kernel takes one off the number of bits before it reads them.
    let bits = nodes.len() * 8 + 1;
    // SAFETY: the kernel reads the slice's length, which is a multiple of a word.
    answer(unsafe { syscall(nr::SET_MEMPOLICY, [word(mode), nodes.as_ptr().expose_provenance(), bits, 0, 0, 0]) })
        .map(drop)
}

/// `struct clone_args`, version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `clone3(CLONE_PARENT | CLONE_PIDFD | kinds)` with a copy of this memory, into a version 2 cgroup if one is given: 0 in
/// the child, its pid and pidfd in this process.
pub fn fork_beside(kinds: u32, cgroup: Option<i32>) -> Answer<(i32, i32)> {
    const CLONE_PARENT: u64 = 0x8000;
    const CLONE_PIDFD: u64 = 0x1000;
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd = -1_i32;
    let into = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let clone = CloneArgs {
        flags: CLONE_PARENT | CLONE_PIDFD | into | u64::from(kinds),
        pidfd: room(&mut pidfd) as u64,
        cgroup: cgroup.map_or(0, |fd| u64::from(fd.cast_unsigned())),
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM the child has its own copy of this single-threaded process, stack included; the kernel
    // writes one descriptor number to `pidfd`, which outlives the call.
    let pid = answer_fd(unsafe { syscall(435, [place(&clone), size_of::<CloneArgs>(), 0, 0, 0, 0]) })?;
    // SAFETY: an initialised local; read as volatile because the kernel has written it behind the compiler's back.
    Ok((pid, unsafe { core::ptr::read_volatile(&raw const pidfd) }))
}

/// `setsid(2)`.
pub fn setsid() -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::SETSID, [0; 6]) }).map(drop)
}

/// `setgroups(2)`; the bytes are 32-bit ids.
pub fn setgroups(groups: &[u8]) -> Answer<()> {
    // SAFETY: the kernel reads a quarter of the length as 32-bit ids.
    answer(unsafe { syscall(nr::SETGROUPS, [groups.len() / 4, groups.as_ptr().expose_provenance(), 0, 0, 0, 0]) })
        .map(drop)
}

/// How many supplementary groups there are; the first of them are put into `groups`.
pub fn getgroups(groups: &mut [u32]) -> Answer<usize> {
    // SAFETY: the kernel writes at most `len` ids.
    answer(unsafe { syscall(nr::GETGROUPS, [groups.len(), groups.as_mut_ptr().expose_provenance(), 0, 0, 0, 0]) })
}

/// `setresgid(2)`.
pub fn setresgid(gid: u32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::SETRESGID, [word(gid), word(gid), word(gid), 0, 0, 0]) }).map(drop)
}

/// `setresuid(2)`.
pub fn setresuid(uid: u32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::SETRESUID, [word(uid), word(uid), word(uid), 0, 0, 0]) }).map(drop)
}

/// Real, effective and saved ids: users, then groups.
pub fn ids() -> Answer<([u32; 3], [u32; 3])> {
    let (mut users, mut groups) = ([0_u32; 3], [0_u32; 3]);
    let [a, b, c] = &mut users;
    // SAFETY: the kernel writes one id to each of the three.
    answer(unsafe { syscall(nr::GETRESUID, [room(a), room(b), room(c), 0, 0, 0]) })?;
    let [a, b, c] = &mut groups;
    // SAFETY: as above.
    answer(unsafe { syscall(nr::GETRESGID, [room(a), room(b), room(c), 0, 0, 0]) })?;
    Ok((users, groups))
}

/// `_LINUX_CAPABILITY_VERSION_3`, for itself.
const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];

/// `capset(2)`: effective, permitted, inheritable.
pub fn capset(sets: [u64; 3]) -> Answer<()> {
    let low = |set: u64| u32::try_from(set & 0xffff_ffff).unwrap_or(0);
    let high = |set: u64| u32::try_from(set >> 32).unwrap_or(0);
    let [effective, permitted, inheritable] = sets;
    let data = [low(effective), low(permitted), low(inheritable), high(effective), high(permitted), high(inheritable)];
    // SAFETY: both structs outlive the call, which reads two records of three words.
    answer(unsafe { syscall(nr::CAPSET, [place(&CAPABILITY_HEADER), place(&data), 0, 0, 0, 0]) }).map(drop)
}

/// `capget(2)`: effective, permitted, inheritable.
pub fn capget() -> Answer<[u64; 3]> {
    let mut header = CAPABILITY_HEADER;
    let mut data = [0_u32; 6];
    // SAFETY: the kernel writes two records of three words.
    answer(unsafe { syscall(nr::CAPGET, [room(&mut header), room(&mut data), 0, 0, 0, 0]) })?;
    let [e0, p0, i0, e1, p1, i1] = data.map(u64::from);
    Ok([e0 | e1 << 32, p0 | p1 << 32, i0 | i1 << 32])
}

/// `struct sock_fprog`.
#[repr(C)]
struct FilterProgram {
    length: u16,
    instructions: usize,
}

/// `seccomp(SECCOMP_SET_MODE_FILTER)`; answers the listener's descriptor when one was asked for.
pub fn seccomp_filter(flags: u32, program: &[u8]) -> Answer<i32> {
    let length = u16::try_from(program.len() / 8).map_err(|_| Errno::EINVAL)?;
    let filter = FilterProgram { length, instructions: program.as_ptr().expose_provenance() };
    // SAFETY: the kernel reads `length` instructions of eight bytes from the slice.
    answer_fd(unsafe { syscall(nr::SECCOMP, [1, word(flags), place(&filter), 0, 0, 0]) })
}

/// `execve(2)`: returns only to say why not.
pub fn execve(program: &CStr, arguments: &[usize], environment: &[usize]) -> Errno {
    let (arguments, environment) = (arguments.as_ptr().expose_provenance(), environment.as_ptr().expose_provenance());
    // SAFETY: both tables end with a null word and point to C strings in the script's mapping.
    let result = unsafe { syscall(nr::EXECVE, [text(program), arguments, environment, 0, 0, 0]) };
    answer(result).err().unwrap_or(Errno::EIO)
}

/// Leaves.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: no memory is involved.
        unsafe { syscall(nr::EXIT_GROUP, [arg(code), 0, 0, 0, 0, 0]) };
    }
}

/// `struct msghdr`.
#[repr(C)]
struct Header {
    name: usize,
    name_length: usize,
    vector: usize,
    vector_length: usize,
    control: usize,
    control_length: usize,
    flags: usize,
}

/// Sends `bytes` with one descriptor (`SCM_RIGHTS`).
pub fn send_fd(socket: i32, bytes: &[u8], fd: i32) -> Answer<()> {
    // `struct cmsghdr`: length 20, level SOL_SOCKET, type SCM_RIGHTS, the descriptor, padding.
    let control = [20_u64, 1 | 1 << 32, u64::from(fd.cast_unsigned())];
    let vector = [bytes.as_ptr().expose_provenance(), bytes.len()];
    let header = Header {
        name: 0,
        name_length: 0,
        vector: place(&vector),
        vector_length: 1,
        control: place(&control),
        control_length: 24,
        flags: 0,
    };
    // SAFETY: the header and all that it points to outlive the call, which only reads them.
    answer(unsafe { syscall(nr::SENDMSG, [arg(socket), place(&header), 0, 0, 0, 0]) }).map(drop)
}

/// Receives a message of four bytes with up to [`IN_ONE_MESSAGE`] descriptors, close-on-exec: the bytes, and how many
/// descriptors there are at the beginning of the place for them. `None` when the other side has closed the socket.
pub fn receive_fds(socket: i32, into: &mut [i32]) -> Answer<Option<([u8; 4], usize)>> {
    const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
    const MSG_CTRUNC: usize = 8;
    /// Of the length, the level and the type.
    const BEFORE: usize = 16;
    let mut word = [0_u8; 4];
    let mut control = [0_u64; BEFORE / 8 + IN_ONE_MESSAGE.div_ceil(2)];
    let mut vector = [room(&mut word), word.len()];
    let mut header = Header {
        name: 0,
        name_length: 0,
        vector: room(&mut vector),
        vector_length: 1,
        control: room(&mut control),
        control_length: size_of_val(&control),
        flags: 0,
    };
    // SAFETY: the kernel fills the header and the buffers that it names, which outlive the call, within their lengths.
    let received =
        answer(unsafe { syscall(nr::RECVMSG, [arg(socket), room(&mut header), MSG_CMSG_CLOEXEC, 0, 0, 0]) })?;
    if received == 0 {
        return Ok(None);
    }
    // SAFETY: an initialised local; read as volatile because the kernel has written it behind the compiler's back.
    let word = unsafe { core::ptr::read_volatile(&raw const word) };
    // SAFETY: as above.
    let control = unsafe { core::ptr::read_volatile(&raw const control) };
    // SAFETY: as above.
    let flags = unsafe { core::ptr::read_volatile(&raw const header.flags) };
    if flags & MSG_CTRUNC != 0 {
        // More than this process may have open, or what a security module keeps from it.
        return Err(Errno::EMFILE);
    }
    let [length, kind, fds @ ..] = control;
    let bytes = usize::try_from(length).ok().and_then(|length| length.checked_sub(BEFORE)).ok_or(Errno::EBADMSG)?;
    let count = bytes / 4;
    if received != 4 || kind != 1 | 1 << 32 || count > into.len() || count > IN_ONE_MESSAGE {
        return Err(Errno::EBADMSG);
    }
    let numbers = fds.into_iter().flat_map(|pair| [pair & 0xffff_ffff, pair >> 32]);
    for (place, number) in into.iter_mut().zip(numbers).take(count) {
        *place = u32::try_from(number).map_err(|_| Errno::EBADMSG)?.cast_signed();
    }
    Ok(Some((word, count)))
}

/// Receives a message with one descriptor; whatever else comes is no message of ours.
pub fn receive_fd(socket: i32) -> Answer<i32> {
    let mut into = [-1];
    match receive_fds(socket, &mut into)? {
        Some((_, 1)) => Ok(into[0]),
        _ => Err(Errno::EBADMSG),
    }
}

/// The second argument of the program, as a descriptor number. `stack` is the initial stack pointer.
#[cfg(tare_stub)]
pub fn script_descriptor(stack: *const usize) -> Option<i32> {
    // SAFETY: the kernel puts argc, argv[0], argv[1] there; the parent always passes two arguments.
    let argument = unsafe { stack.add(2).read() };
    let pointer = core::ptr::with_exposed_provenance::<core::ffi::c_char>(argument);
    // SAFETY: argv[1] is a string that the kernel copied onto this stack.
    let string = unsafe { CStr::from_ptr(pointer) };
    string.to_bytes().iter().try_fold(0_i32, |number, byte| {
        let digit = i32::from(byte.checked_sub(b'0')?);
        number.checked_mul(10)?.checked_add(digit)
    })
}
