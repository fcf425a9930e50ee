//! What depends on the processor: x86_64. System call numbers, the call itself, the entry point, and the memory
//! functions that the compiler may call in a program without libc.

use core::arch::asm;
#[cfg(tare_stub)]
use core::arch::naked_asm;

/// System call numbers (arch/x86/entry/syscalls/syscall_64.tbl).
#[allow(missing_docs, reason = "the names are the kernel's")]
pub(super) mod nr {
    pub(in crate::sys) const READ: usize = 0;
    pub(in crate::sys) const WRITE: usize = 1;
    pub(in crate::sys) const CLOSE: usize = 3;
    pub(in crate::sys) const MMAP: usize = 9;
    pub(in crate::sys) const RT_SIGACTION: usize = 13;
    pub(in crate::sys) const RT_SIGPROCMASK: usize = 14;
    pub(in crate::sys) const IOCTL: usize = 16;
    pub(in crate::sys) const SOCKET: usize = 41;
    pub(in crate::sys) const SENDMSG: usize = 46;
    pub(in crate::sys) const RECVMSG: usize = 47;
    pub(in crate::sys) const MOUNT: usize = 165;
    pub(in crate::sys) const EXECVE: usize = 59;
    pub(in crate::sys) const FCNTL: usize = 72;
    pub(in crate::sys) const GETCWD: usize = 79;
    pub(in crate::sys) const CHDIR: usize = 80;
    pub(in crate::sys) const FCHDIR: usize = 81;
    pub(in crate::sys) const UMASK: usize = 95;
    pub(in crate::sys) const SETSID: usize = 112;
    pub(in crate::sys) const SETGROUPS: usize = 116;
    pub(in crate::sys) const GETGROUPS: usize = 115;
    pub(in crate::sys) const SETRESUID: usize = 117;
    pub(in crate::sys) const GETRESUID: usize = 118;
    pub(in crate::sys) const SETRESGID: usize = 119;
    pub(in crate::sys) const GETRESGID: usize = 120;
    pub(in crate::sys) const CAPGET: usize = 125;
    pub(in crate::sys) const CAPSET: usize = 126;
    pub(in crate::sys) const PERSONALITY: usize = 135;
    pub(in crate::sys) const FSTATFS: usize = 138;
    pub(in crate::sys) const PIVOT_ROOT: usize = 155;
    pub(in crate::sys) const PRCTL: usize = 157;
    pub(in crate::sys) const CHROOT: usize = 161;
    pub(in crate::sys) const UMOUNT2: usize = 166;
    pub(in crate::sys) const SETHOSTNAME: usize = 170;
    pub(in crate::sys) const SETDOMAINNAME: usize = 171;
    pub(in crate::sys) const SCHED_SETAFFINITY: usize = 203;
    pub(in crate::sys) const GETDENTS64: usize = 217;
    pub(in crate::sys) const EXIT_GROUP: usize = 231;
    pub(in crate::sys) const SET_MEMPOLICY: usize = 238;
    pub(in crate::sys) const KEYCTL: usize = 250;
    pub(in crate::sys) const IOPRIO_SET: usize = 251;
    pub(in crate::sys) const MKDIRAT: usize = 258;
    pub(in crate::sys) const MKNODAT: usize = 259;
    pub(in crate::sys) const FCHOWNAT: usize = 260;
    pub(in crate::sys) const NEWFSTATAT: usize = 262;
    pub(in crate::sys) const UNLINKAT: usize = 263;
    pub(in crate::sys) const SYMLINKAT: usize = 266;
    pub(in crate::sys) const READLINKAT: usize = 267;
    pub(in crate::sys) const SENDFILE: usize = 40;
    pub(in crate::sys) const FCHMOD: usize = 91;
    pub(in crate::sys) const UNSHARE: usize = 272;
    pub(in crate::sys) const DUP3: usize = 292;
    pub(in crate::sys) const PRLIMIT64: usize = 302;
    pub(in crate::sys) const SETNS: usize = 308;
    pub(in crate::sys) const SCHED_SETATTR: usize = 314;
    pub(in crate::sys) const SECCOMP: usize = 317;
}

/// One system call: the result, or a negative errno.
///
/// # Safety
/// The arguments must be what the call asks for; pointers must be valid for what it reads and writes.
pub(super) unsafe fn syscall(number: usize, arguments: [usize; 6]) -> isize {
    let result: isize;
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the kernel preserves all registers but these three; memory is the caller's promise.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
             in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// The first instruction: hands the initial stack (argc, argv, …) to `stub_main`.
#[cfg(tare_stub)]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub extern "C" fn _start() {
    naked_asm!("xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {main}", "ud2", main = sym crate::stub_main)
}

/// Copies `count` bytes forwards.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!("mov rax, rdi", "mov rcx, rdx", "rep movsb", "ret")
}

/// Fills `count` bytes with `byte`.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    naked_asm!("mov r8, rdi", "mov eax, esi", "mov rcx, rdx", "rep stosb", "mov rax, r8", "ret")
}

/// Copies `count` bytes, the ranges may overlap.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rdx",
        "mov r8, rdi",
        "sub r8, rsi",
        "cmp r8, rdx",
        "jb 2f",
        "rep movsb",
        "ret",
        "2:",
        "lea rdi, [rdi + rdx - 1]",
        "lea rsi, [rsi + rdx - 1]",
        "std",
        "rep movsb",
        "cld",
        "ret"
    )
}

/// Compares `count` bytes: 0 when equal, else the sign of the first difference.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!(
        "xor eax, eax",
        "xor ecx, ecx",
        "2:",
        "cmp rcx, rdx",
        "je 3f",
        "movzx eax, byte ptr [rdi + rcx]",
        "movzx r8d, byte ptr [rsi + rcx]",
        "inc rcx",
        "sub eax, r8d",
        "je 2b",
        "3:",
        "ret"
    )
}

/// `memcmp` where only equality matters.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

/// The length of a string.
#[cfg(tare_stub)]
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    naked_asm!("xor eax, eax", "2:", "cmp byte ptr [rdi + rax], 0", "je 3f", "inc rax", "jmp 2b", "3:", "ret")
}
