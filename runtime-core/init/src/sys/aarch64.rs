//! What depends on the processor: aarch64. System call numbers, the call itself, the entry point, and the memory
//! functions that the compiler may call in a program without libc.

use core::arch::asm;
#[cfg(tare_stub)]
use core::arch::naked_asm;

/// System call numbers (include/uapi/asm-generic/unistd.h).
#[allow(missing_docs, reason = "the names are the kernel's")]
pub(super) mod nr {
    pub(in crate::sys) const GETCWD: usize = 17;
    pub(in crate::sys) const DUP3: usize = 24;
    pub(in crate::sys) const FCNTL: usize = 25;
    pub(in crate::sys) const IOCTL: usize = 29;
    pub(in crate::sys) const IOPRIO_SET: usize = 30;
    pub(in crate::sys) const MKNODAT: usize = 33;
    pub(in crate::sys) const MKDIRAT: usize = 34;
    pub(in crate::sys) const UNLINKAT: usize = 35;
    pub(in crate::sys) const SYMLINKAT: usize = 36;
    pub(in crate::sys) const UMOUNT2: usize = 39;
    pub(in crate::sys) const PIVOT_ROOT: usize = 41;
    pub(in crate::sys) const FSTATFS: usize = 44;
    pub(in crate::sys) const CHDIR: usize = 49;
    pub(in crate::sys) const FCHDIR: usize = 50;
    pub(in crate::sys) const CHROOT: usize = 51;
    pub(in crate::sys) const FCHOWNAT: usize = 54;
    pub(in crate::sys) const CLOSE: usize = 57;
    pub(in crate::sys) const GETDENTS64: usize = 61;
    pub(in crate::sys) const READ: usize = 63;
    pub(in crate::sys) const WRITE: usize = 64;
    pub(in crate::sys) const READLINKAT: usize = 78;
    pub(in crate::sys) const NEWFSTATAT: usize = 79;
    pub(in crate::sys) const CAPGET: usize = 90;
    pub(in crate::sys) const CAPSET: usize = 91;
    pub(in crate::sys) const PERSONALITY: usize = 92;
    pub(in crate::sys) const EXIT_GROUP: usize = 94;
    pub(in crate::sys) const SENDFILE: usize = 71;
    pub(in crate::sys) const FCHMOD: usize = 52;
    pub(in crate::sys) const UNSHARE: usize = 97;
    pub(in crate::sys) const SCHED_SETAFFINITY: usize = 122;
    pub(in crate::sys) const RT_SIGACTION: usize = 134;
    pub(in crate::sys) const RT_SIGPROCMASK: usize = 135;
    pub(in crate::sys) const SETRESUID: usize = 147;
    pub(in crate::sys) const GETRESUID: usize = 148;
    pub(in crate::sys) const SETRESGID: usize = 149;
    pub(in crate::sys) const GETRESGID: usize = 150;
    pub(in crate::sys) const SETSID: usize = 157;
    pub(in crate::sys) const GETGROUPS: usize = 158;
    pub(in crate::sys) const SETGROUPS: usize = 159;
    pub(in crate::sys) const SETHOSTNAME: usize = 161;
    pub(in crate::sys) const SETDOMAINNAME: usize = 162;
    pub(in crate::sys) const UMASK: usize = 166;
    pub(in crate::sys) const PRCTL: usize = 167;
    pub(in crate::sys) const SOCKET: usize = 198;
    pub(in crate::sys) const SENDMSG: usize = 211;
    pub(in crate::sys) const RECVMSG: usize = 212;
    pub(in crate::sys) const MOUNT: usize = 40;
    pub(in crate::sys) const KEYCTL: usize = 219;
    pub(in crate::sys) const EXECVE: usize = 221;
    pub(in crate::sys) const MMAP: usize = 222;
    pub(in crate::sys) const PRLIMIT64: usize = 261;
    pub(in crate::sys) const SETNS: usize = 268;
    pub(in crate::sys) const SET_MEMPOLICY: usize = 237;
    pub(in crate::sys) const SCHED_SETATTR: usize = 274;
    pub(in crate::sys) const SECCOMP: usize = 277;
}

/// One system call: the result, or a negative errno.
///
/// # Safety
/// The arguments must be what the call asks for; pointers must be valid for what it reads and writes.
pub(super) unsafe fn syscall(number: usize, arguments: [usize; 6]) -> isize {
    let result: isize;
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the kernel preserves all registers but x0; memory is the caller's promise.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d,
             in("x4") e, in("x5") f, options(nostack));
    }
    result
}

/// The first instruction: hands the initial stack (argc, argv, …) to `stub_main`.
#[cfg(tare_stub)]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub extern "C" fn _start() {
    naked_asm!("mov x29, xzr", "mov x0, sp", "bl {main}", "brk 1", main = sym crate::stub_main)
}

/// Copies `count` bytes forwards.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov x3, x0",
        "2:",
        "cbz x2, 3f",
        "ldrb w4, [x1], 1",
        "strb w4, [x3], 1",
        "sub x2, x2, 1",
        "b 2b",
        "3:",
        "ret"
    )
}

/// Fills `count` bytes with `byte`.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    naked_asm!("mov x3, x0", "2:", "cbz x2, 3f", "strb w1, [x3], 1", "sub x2, x2, 1", "b 2b", "3:", "ret")
}

/// Copies `count` bytes, the ranges may overlap.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!("sub x3, x0, x1", "cmp x3, x2", "b.lo 2f", "b {forwards}", "2:", "cbz x2, 3f", "sub x2, x2, 1",
        "ldrb w4, [x1, x2]", "strb w4, [x0, x2]", "b 2b", "3:", "ret", forwards = sym memcpy)
}

/// Compares `count` bytes: 0 when equal, else the sign of the first difference.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!(
        "mov w3, wzr",
        "2:",
        "cbz x2, 3f",
        "ldrb w3, [x0], 1",
        "ldrb w4, [x1], 1",
        "sub x2, x2, 1",
        "subs w3, w3, w4",
        "b.eq 2b",
        "3:",
        "mov w0, w3",
        "ret"
    )
}

/// `memcmp` where only equality matters.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!("b {memcmp}", memcmp = sym memcmp)
}

/// The length of a string.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    naked_asm!(
        "mov x1, x0",
        "mov x0, xzr",
        "2:",
        "ldrb w2, [x1, x0]",
        "cbz w2, 3f",
        "add x0, x0, 1",
        "b 2b",
        "3:",
        "ret"
    )
}
