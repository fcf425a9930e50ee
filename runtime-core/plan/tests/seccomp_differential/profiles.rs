//! The profiles that both compilers are given: what containerd makes for a default container, later changes to Docker's,
//! and generated ones, equal for equal seeds.

use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

/// The architectures that both compilers know.
pub(crate) const ARCHES: [ScmpArch; 5] =
    [ScmpArch::X8664, ScmpArch::X86, ScmpArch::X32, ScmpArch::Aarch64, ScmpArch::Arm];

/// What `ctr run --seccomp` of containerd 1.6 puts into `config.json` on x86_64.
pub(crate) fn docker() -> LinuxSeccomp {
    read(serde_json::from_str(include_str!("../fixtures/seccomp-docker.json")).expect("the fixture"))
}

/// The same with what Docker added since: no vsock, and ENOSYS for `clone3(2)`.
pub(crate) fn newer_docker() -> LinuxSeccomp {
    let mut profile: Value =
        serde_json::from_str(include_str!("../fixtures/seccomp-docker.json")).expect("the fixture");
    let entries = profile["syscalls"].as_array_mut().expect("entries");
    for entry in entries.iter_mut() {
        let names = entry["names"].as_array_mut().expect("names");
        names.retain(|name| name != "socket" && name != "clone3");
    }
    entries.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }));
    let not_vsock = json!([{ "index": 0, "value": 40, "op": "SCMP_CMP_NE" }]);
    entries.push(json!({ "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": not_vsock }));
    read(profile)
}

pub(crate) fn read(profile: Value) -> LinuxSeccomp {
    serde_json::from_value(profile).expect("a profile")
}

/// Every name that libseccomp knows on any of these architectures.
pub(crate) fn names() -> Vec<String> {
    let mut names = Vec::new();
    for arch in ARCHES {
        let x32 = if arch == ScmpArch::X32 { 1 << 30 } else { 0 };
        let numbers = (0..700).chain(0x0f_0000..0x0f_0010).map(|number| number | x32);
        names.extend(numbers.filter_map(|number| ScmpSyscall::from(number).get_name_by_arch(arch).ok()));
    }
    names.sort();
    names.dedup();
    names
}

/// The names of calls that every one of these architectures has, each as one number.
pub(crate) fn common_names() -> Vec<String> {
    let has =
        |name: &str, arch| ScmpSyscall::from_name_by_arch(name, arch).is_ok_and(|call| call.as_raw_syscall() >= 0);
    names().into_iter().filter(|name| ARCHES.into_iter().all(|arch| has(name, arch))).collect()
}

/// What a generated profile may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One rule with conditions at most.
    Plain,
    /// Any rules; those of one call have one action, so that their order cannot matter.
    OneActionPerCall,
    /// Any rules, each with its own action.
    MixedActions,
}

/// A small generator (xorshift64*), so that a seed names a profile for ever.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).expect("a length");
        usize::try_from((self.next() >> 11) % end).expect("less than a length")
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const ACTIONS: [&str; 8] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
];
const ARCHITECTURES: [&str; 5] =
    ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];
const OPERATORS: [&str; 7] =
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];
/// Values that lie on the edges of words, and a few small ones so that rules meet.
const VALUES: [u64; 14] = [
    0,
    1,
    2,
    7,
    0x0f,
    0x7e02_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0007,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

pub(crate) fn generated(seed: u64, shape: Shape, names: &[String]) -> LinuxSeccomp {
    let mut random = Random::new(seed);
    let mut profile = json!({ "defaultAction": random.pick(&ACTIONS) });
    if random.chance(30) {
        profile["defaultErrnoRet"] = json!(random.below(200));
    }
    if random.chance(85) {
        let listed: Vec<&str> = ARCHITECTURES.into_iter().filter(|_| random.chance(50)).collect();
        profile["architectures"] = json!(listed);
    }
    // A few names, so that calls meet several rules.
    let most = if random.chance(30) { 300 } else { 12 };
    let pool = 1 + random.below(most);
    let pool: Vec<&String> = (0..pool).map(|_| random.pick(names)).collect();
    let entries = 1 + random.below(24);
    let mut syscalls = Vec::new();
    for entry in 0..entries {
        let conditional = match shape {
            Shape::Plain => entry == 0,
            Shape::OneActionPerCall | Shape::MixedActions => random.chance(60),
        };
        let most = if shape == Shape::Plain && conditional { 1 } else { pool.len().min(30) };
        let count = 1 + random.below(most);
        let action = *random.pick(&ACTIONS);
        let errno = random.chance(40).then(|| random.below(4000));
        let args = if conditional { args(&mut random) } else { json!([]) };
        for _ in 0..count {
            let name = *random.pick(&pool);
            let (action, errno) = match shape {
                Shape::MixedActions => (action, errno),
                Shape::Plain | Shape::OneActionPerCall => (ACTIONS[name.len() % ACTIONS.len()], Some(name.len() % 7)),
            };
            syscalls.push(json!({ "names": [name], "action": action, "errnoRet": errno, "args": args }));
        }
    }
    if random.chance(30) {
        syscalls.push(json!({ "names": ["no_such_call"], "action": "SCMP_ACT_TRAP" }));
    }
    profile["syscalls"] = json!(syscalls);
    read(profile)
}

fn args(random: &mut Random) -> Value {
    let count = 1 + random.below(3);
    let args = (0..count).map(|_| {
        let value = if random.chance(85) { *random.pick(&VALUES) } else { random.next() };
        let second = if random.chance(85) { *random.pick(&VALUES) } else { random.next() };
        let end = if random.chance(60) { 3 } else { 6 };
        let index = random.below(end);
        json!({ "index": index, "op": random.pick(&OPERATORS), "value": value, "valueTwo": second })
    });
    args.collect()
}
