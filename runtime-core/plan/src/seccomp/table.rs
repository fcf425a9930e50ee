//! System call names and their numbers on each ABI: a table laid out by `build.rs`, looked up by name. It knows
//! numbers only; which of them a filter names is for [`super::rules`].

use super::abi::Abi;
use super::spread;

/// The numbers of one system call.
#[derive(Debug)]
pub(super) struct Row {
    start: u16,
    end: u16,
    numbers: [u16; 5],
}

include!(concat!(env!("OUT_DIR"), "/syscalls.rs"));

/// An ABI that does not have the call.
const ABSENT: u16 = u16::MAX;
/// The mark of a call private to 32-bit ARM, and where those are counted from.
const ARM_PRIVATE: u16 = 0xf000;
const ARM_PRIVATE_BASE: u32 = 0x0f_0000;
/// What x32 adds to its numbers, to be told from x86_64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The system call of this name, if any ABI we know has it.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    let first = spread::place(name);
    let rows = PLACES.iter().cycle().skip(first).take(PLACES.len()).map(|row| usize::from(*row).checked_sub(1));
    rows.map_while(|row| ROWS.get(row?)).find(|row| row.name() == name)
}

impl Row {
    fn name(&self) -> &'static str {
        NAMES.get(usize::from(self.start)..usize::from(self.end)).unwrap_or("")
    }

    /// The number that the kernel shows to a filter for this call on `abi`.
    pub(super) fn number(&self, abi: Abi) -> Option<u32> {
        let [x86_64, x86, x32, aarch64, arm] = self.numbers;
        let number = match abi {
            Abi::X86_64 => x86_64,
            Abi::X86 => x86,
            Abi::X32 => x32,
            Abi::Aarch64 => aarch64,
            Abi::Arm => arm,
        };
        match (abi, number) {
            (_, ABSENT) => None,
            (Abi::X32, number) => Some(u32::from(number) | X32_BIT),
            (Abi::Arm, number) if number >= ARM_PRIVATE => Some(u32::from(number - ARM_PRIVATE) + ARM_PRIVATE_BASE),
            (_, number) => Some(u32::from(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use libseccomp::{ScmpArch, ScmpSyscall};

    use super::{ROWS, find};
    use crate::seccomp::abi::Abi;

    const ABIS: [(Abi, ScmpArch); 5] = [
        (Abi::X86_64, ScmpArch::X8664),
        (Abi::X86, ScmpArch::X86),
        (Abi::X32, ScmpArch::X32),
        (Abi::Aarch64, ScmpArch::Aarch64),
        (Abi::Arm, ScmpArch::Arm),
    ];

    /// libseccomp's number of a call; it has negative ones for calls that an ABI has not or that it multiplexes.
    fn theirs(name: &str, arch: ScmpArch) -> Option<u32> {
        u32::try_from(ScmpSyscall::from_name_by_arch(name, arch).ok()?.as_raw_syscall()).ok()
    }

    #[test]
    fn every_name_is_found() {
        assert!(ROWS.iter().all(|row| find(row.name()).is_some()));
        assert!(find("no_such_call").is_none());
    }

    #[test]
    fn every_number_of_libseccomp_is_here() {
        for (abi, arch) in ABIS {
            let x32 = if abi == Abi::X32 { 1 << 30 } else { 0 };
            for number in (0..700).chain(0x0f_0000..0x0f_0010).map(|number: i32| number | x32) {
                let Ok(name) = ScmpSyscall::from(number).get_name_by_arch(arch) else { continue };
                let ours = find(&name).and_then(|row| row.number(abi));
                assert_eq!(ours, u32::try_from(number).ok(), "{name} on {abi:?}");
            }
        }
    }

    #[test]
    fn no_number_contradicts_libseccomp() {
        for (abi, arch) in ABIS {
            for row in &ROWS {
                let known = ScmpSyscall::from_name(row.name()).is_ok();
                let multiplexed = abi == Abi::X86 && crate::seccomp::abi::multiplexed_on_x86(row.name()).is_some();
                if known && !multiplexed {
                    assert_eq!(row.number(abi), theirs(row.name(), arch), "{} on {abi:?}", row.name());
                }
            }
        }
    }
}
