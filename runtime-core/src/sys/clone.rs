//! `clone3(2)` of a child that shares this process's memory and executes a program at once, as `vfork` would: no page
//! table is copied, so that a birth costs the same however large the parent is. The calling thread sleeps until the
//! child has executed or ended; the child runs twenty instructions of ours on a stack of its own.
//!
//! SECURITY: it is born in this process's own namespaces and cgroup. While it shares this memory, no process of a
//! container may see it (CAP_SYS_PTRACE passes every other hurdle), and no out-of-memory kill of a container's cgroup may
//! reach it, because the kernel kills all that share the memory. It is the stub that forks into the container.

use std::ffi::{CStr, c_char};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::io::Errno;

/// Handlers of the parent are not the child's (`CLONE_CLEAR_SIGHAND`, Linux 5.5).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// Bytes of the child's stack; it needs a few hundred.
const STACK: usize = 16 * 1024;

/// What is born.
#[derive(Debug)]
pub(crate) struct Birth<'a> {
    /// The program, an open file.
    pub(crate) program: BorrowedFd<'a>,
    /// Its arguments; the environment is empty.
    pub(crate) arguments: [&'a CStr; 2],
    /// Descriptors that it keeps, at the same numbers.
    pub(crate) inherit: &'a [BorrowedFd<'a>],
}

/// `struct clone_args`, version 2 (Linux 5.7).
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

/// What the child reads, and the one word that it writes.
#[repr(C)]
struct Orders {
    program: RawFd,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    inherit: *const RawFd,
    count: usize,
    errno: i32,
}

/// Brings the child to life. When this returns, it is executing the program.
pub(crate) fn clone_and_execute(birth: &Birth<'_>) -> Result<(i32, OwnedFd), Errno> {
    let [name, argument] = birth.arguments;
    let arguments = [name.as_ptr(), argument.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null()];
    let inherit: Vec<RawFd> = birth.inherit.iter().map(|fd| fd.as_raw_fd()).collect();
    let mut orders = Orders {
        program: birth.program.as_raw_fd(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        inherit: inherit.as_ptr(),
        count: inherit.len(),
        errno: 0,
    };
    let mut stack = vec![0_u128; STACK / 16];
    let mut pidfd: RawFd = -1;
    let flags = CLONE_CLEAR_SIGHAND | (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64;
    let clone = CloneArgs {
        flags,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr().expose_provenance() as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    let blocked = block_signals();
    // SAFETY: `clone` and `orders` live until the child has executed, because this thread sleeps until then
    // (CLONE_VFORK); the stack is the child's alone and large enough.
    let result = unsafe { clone3(&clone, &mut orders) };
    restore_signals(&blocked);
    drop(stack);
    let pid = i32::try_from(result).map_err(|_| Errno::INVAL)?;
    if pid < 0 {
        return Err(Errno::from_raw_os_error(-pid));
    }
    // SAFETY: the kernel has put a new descriptor there, and nobody else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if orders.errno == 0 {
        return Ok((pid, pidfd));
    }
    reap(&pidfd);
    Err(Errno::from_raw_os_error(orders.errno))
}

/// The child ended without executing: its status says nothing more than `orders.errno` has.
fn reap(pidfd: &OwnedFd) {
    let id = rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(pidfd));
    // It is our child and has ended: there is nothing to fail.
    let _ = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED);
}

/// A signal handler must not run in the child, on the parent's memory.
fn block_signals() -> libc::sigset_t {
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: the call initialises the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    let mut before = std::mem::MaybeUninit::uninit();
    // SAFETY: `all` is initialised; the call writes `before`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    // SAFETY: written just now; with a valid first argument the call cannot fail.
    unsafe { before.assume_init() }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: the set was filled by the same call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

/// The child's whole life in our program: keep the descriptors, execute. It makes system calls and nothing else; the
/// memory it sees is the parent's, whose other threads are running.
///
/// # Safety
/// `orders` and all that it points to must be alive.
unsafe extern "C" fn child(orders: *mut Orders) -> ! {
    // SAFETY: the parent sleeps and does not look at it.
    let orders = unsafe { &mut *orders };
    for index in 0..orders.count {
        // SAFETY: there are `count` numbers.
        let place = unsafe { orders.inherit.add(index) };
        // SAFETY: as above, and the place is inside the parent's array.
        let fd = unsafe { place.read() };
        // SAFETY: no memory is involved; without CLONE_FILES the table is the child's own.
        unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFD, 0) };
    }
    // SAFETY: both tables end with a null and point to C strings that are alive.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            orders.program,
            c"".as_ptr(),
            orders.arguments,
            orders.environment,
            libc::AT_EMPTY_PATH,
        )
    };
    // SAFETY: always a valid place; errno is the parent thread's, which sleeps.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    orders.errno = unsafe { errno.read() };
    loop {
        // SAFETY: no memory is involved.
        unsafe { libc::syscall(libc::SYS_exit, 127) };
    }
}

/// # Safety
/// See [`clone_and_execute`].
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(clone: &CloneArgs, orders: &mut Orders) -> isize {
    let result: isize;
    // SAFETY: in the parent this is a system call; the child, on its own stack, calls `child` and never returns.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call {child}",
            "ud2",
            "2:",
            child = sym child,
            inlateout("rax") 435_isize => result,
            in("rdi") clone,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") orders,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// # Safety
/// See [`clone_and_execute`].
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(clone: &CloneArgs, orders: &mut Orders) -> isize {
    let result: isize;
    // SAFETY: in the parent this is a system call; the child, on its own stack, calls `child` and never returns.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "bl {child}",
            "brk 1",
            "2:",
            child = sym child,
            in("x8") 435_isize,
            inlateout("x0") clone => result,
            in("x1") size_of::<CloneArgs>(),
            in("x20") orders,
            lateout("x30") _,
        );
    }
    result
}
