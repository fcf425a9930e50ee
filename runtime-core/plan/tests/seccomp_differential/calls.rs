//! Which calls both filters are asked about: every number of every listed ABI and around them, and for numbers with
//! rules about arguments, arguments on and beside the edges of those rules.

use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg};

use crate::profiles::{ARCHES, Random};
use crate::reference::{self, X86_64_TOKEN};

/// Audit tokens that no filter lists.
const FOREIGN: [u32; 5] = [0x8000_0015, 0xc000_00f3, 0x8000_0016, 0, u32::MAX];

/// How many arguments are tried on a number that some rule looks at the arguments of.
const TRIES: usize = 100;

/// A number under an audit token, and the arguments to ask about.
pub(crate) struct Asked {
    pub(crate) audit_token: u32,
    pub(crate) number: u32,
    pub(crate) args: Vec<[u64; 6]>,
}

pub(crate) fn asked(profile: &LinuxSeccomp, seed: u64) -> Vec<Asked> {
    let mut random = Random::new(seed ^ 0x5ec_c0de);
    let edges = edges(profile);
    let plain = |(audit_token, number)| Asked { audit_token, number, args: vec![[0; 6]] };
    let mut asked: Vec<Asked> = numbers(&mut random).into_iter().map(plain).collect();
    for (audit_token, number) in conditional(profile) {
        let args = (0..TRIES).map(|_| args(&edges, &mut random)).collect();
        asked.push(Asked { audit_token, number, args });
    }
    asked
}

fn numbers(random: &mut Random) -> Vec<(u32, u32)> {
    let far = [0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xbfff_ffff, 0xc000_0000, u32::MAX - 1, u32::MAX];
    let mut numbers = Vec::new();
    for arch in ARCHES {
        let token = reference::token(arch);
        let own: Vec<u32> = match arch {
            ScmpArch::X32 => (0..=600).map(|number| number | 1 << 30).collect(),
            ScmpArch::Arm => (0..=600).chain(0x0e_ffff..0x0f_0009).collect(),
            _ => (0..=600).collect(),
        };
        let any = (0..40).map(|_| u32::try_from(random.next() >> 32).expect("32 bits"));
        numbers.extend(own.into_iter().chain(any).chain(far).map(|number| (token, number)));
    }
    for token in FOREIGN {
        numbers.extend([0, 1, 59, 102, 1 << 30, 1 << 30 | 1, u32::MAX].map(|number| (token, number)));
    }
    numbers
}

/// The numbers of calls with conditions, and of the calls they are multiplexed through.
fn conditional(profile: &LinuxSeccomp) -> Vec<(u32, u32)> {
    let x86 = reference::token(ScmpArch::X86);
    let mut numbers = vec![(x86, 102), (x86, 117), (X86_64_TOKEN, 102)];
    for (name, entry) in reference::calls(profile) {
        if entry.args().as_ref().is_none_or(Vec::is_empty) {
            continue;
        }
        for arch in ARCHES {
            let call = ScmpSyscall::from_name_by_arch(name, arch).ok();
            let number = call.and_then(|call| u32::try_from(call.as_raw_syscall()).ok());
            numbers.extend(number.map(|number| (reference::token(arch), number)));
        }
        // The direct calls that x86 has beside the multiplexed ones.
        let direct = (350..400).filter(|number| is_named(*number, name));
        numbers.extend(direct.filter_map(|number| Some((x86, u32::try_from(number).ok()?))));
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn is_named(number: i32, name: &str) -> bool {
    ScmpSyscall::from(number).get_name_by_arch(ScmpArch::X86).is_ok_and(|own| own == name)
}

/// For each argument, the values beside which some rule changes its mind.
fn edges(profile: &LinuxSeccomp) -> [Vec<u64>; 6] {
    let mut edges = [const { Vec::new() }; 6];
    for arg in profile.syscalls().iter().flatten().flat_map(|entry| entry.args().iter().flatten()) {
        edges[arg.index()].extend(around(arg));
    }
    for (index, edges) in (0_u64..).zip(&mut edges) {
        edges.extend([0, 1, index, u64::MAX]);
        edges.sort_unstable();
        edges.dedup();
    }
    // What socketcall(2) and ipc(2) select by.
    edges[0].extend(0..=24);
    edges
}

fn around(arg: &LinuxSeccompArg) -> Vec<u64> {
    let (value, two) = (arg.value(), arg.value_two().unwrap_or(0));
    let mut values = vec![two, !value, two & value, (two & value) | !value];
    for value in [value, two & value] {
        let high = 1 << 32;
        values.extend([value, value.wrapping_add(1), value.wrapping_sub(1), value ^ 1 << 31, value ^ 1 << 63]);
        values.extend([value.wrapping_add(high), value.wrapping_sub(high), value & 0xffff_ffff, value | !0 << 32]);
    }
    values
}

fn args(edges: &[Vec<u64>; 6], random: &mut Random) -> [u64; 6] {
    std::array::from_fn(|index| if random.below(50) == 0 { random.next() } else { *random.pick(&edges[index]) })
}
