//! The ABIs a filter can tell apart: their audit tokens, their word, and the multiplexed calls of x86. Facts only.

use oci_spec::runtime::Arch;

use crate::Refusal;

/// A way into the kernel with its own system call numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// How wide an argument is compared. x32 counts as 32-bit, as in libseccomp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Bits32,
    Bits64,
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the filter compiler has no system call table for this processor");

/// The ABI of the machine this was compiled for.
pub(super) const NATIVE: Abi = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };

impl Abi {
    /// `seccomp_data.arch`: x86_64 and x32 share one.
    pub(super) fn audit_token(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    pub(super) fn word(self) -> Word {
        match self {
            Self::X86_64 | Self::Aarch64 => Word::Bits64,
            Self::X86 | Self::X32 | Self::Arm => Word::Bits32,
        }
    }

    /// The ABI that `linux.seccomp.architectures` names.
    pub(super) fn named(arch: Arch) -> Result<Self, Refusal> {
        match arch {
            Arch::ScmpArchNative => Ok(NATIVE),
            Arch::ScmpArchX86_64 => Ok(Self::X86_64),
            Arch::ScmpArchX86 => Ok(Self::X86),
            Arch::ScmpArchX32 => Ok(Self::X32),
            Arch::ScmpArchAarch64 => Ok(Self::Aarch64),
            Arch::ScmpArchArm => Ok(Self::Arm),
            other => Err(Refusal::new(
                "linux.seccomp.architectures",
                format!("{other} has no system call table here: x86_64, x86, x32, AArch64 and ARM have"),
            )),
        }
    }
}

/// A call that x86 also takes through `socketcall(2)` or `ipc(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Multiplexed {
    /// `socketcall` or `ipc`.
    pub(super) through: u32,
    /// Its first argument, which says the call meant.
    pub(super) selector: u64,
}

const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

/// How x86 multiplexes the call of this name: `linux/net.h` and `linux/ipc.h`.
pub(super) fn multiplexed_on_x86(name: &str) -> Option<Multiplexed> {
    let (through, selector) = match name {
        "socket" => (SOCKETCALL, 1),
        "bind" => (SOCKETCALL, 2),
        "connect" => (SOCKETCALL, 3),
        "listen" => (SOCKETCALL, 4),
        "accept" => (SOCKETCALL, 5),
        "getsockname" => (SOCKETCALL, 6),
        "getpeername" => (SOCKETCALL, 7),
        "socketpair" => (SOCKETCALL, 8),
        "send" => (SOCKETCALL, 9),
        "recv" => (SOCKETCALL, 10),
        "sendto" => (SOCKETCALL, 11),
        "recvfrom" => (SOCKETCALL, 12),
        "shutdown" => (SOCKETCALL, 13),
        "setsockopt" => (SOCKETCALL, 14),
        "getsockopt" => (SOCKETCALL, 15),
        "sendmsg" => (SOCKETCALL, 16),
        "recvmsg" => (SOCKETCALL, 17),
        "accept4" => (SOCKETCALL, 18),
        "recvmmsg" => (SOCKETCALL, 19),
        "sendmmsg" => (SOCKETCALL, 20),
        "semop" => (IPC, 1),
        "semget" => (IPC, 2),
        "semctl" => (IPC, 3),
        "semtimedop" => (IPC, 4),
        "msgsnd" => (IPC, 11),
        "msgrcv" => (IPC, 12),
        "msgget" => (IPC, 13),
        "msgctl" => (IPC, 14),
        "shmat" => (IPC, 21),
        "shmdt" => (IPC, 22),
        "shmget" => (IPC, 23),
        "shmctl" => (IPC, 24),
        _ => return None,
    };
    Some(Multiplexed { through, selector })
}
