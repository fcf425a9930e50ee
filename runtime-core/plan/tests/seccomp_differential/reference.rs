//! The filter runc installs for a profile, made by libseccomp through the calls runc makes, with runc's ENOSYS stub
//! before it. Written from runc's behaviour and sharing nothing with the compiler under test.

use std::io::Read as _;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use crate::interpreter::{self, Call, Instruction};

/// runc's filter for a profile.
pub(crate) struct Reference {
    program: Vec<Instruction>,
    stub: Stub,
}

/// The program libseccomp makes, without the stub.
pub(crate) fn bytes(seccomp: &LinuxSeccomp) -> Result<Vec<u8>, SeccompError> {
    let default = action(seccomp.default_action(), seccomp.default_errno_ret());
    let mut filter = ScmpFilterContext::new(default)?;
    for arch in architectures(seccomp) {
        filter.add_arch(arch)?;
    }
    if calls(seccomp).len() > 32 {
        filter.set_ctl_optimize(2)?;
    }
    for (name, entry) in calls(seccomp) {
        add(&mut filter, name, entry, default)?;
    }
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    filter.export_bpf(&writer)?;
    drop(writer);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("the exported filter");
    Ok(bytes)
}

impl Reference {
    pub(crate) fn new(seccomp: &LinuxSeccomp) -> Result<Self, SeccompError> {
        Ok(Self { program: interpreter::decode(&bytes(seccomp)?), stub: Stub::new(seccomp) })
    }

    pub(crate) fn answer(&self, call: &Call) -> u32 {
        let newer = || interpreter::run(&self.program, call).expect("an answer of libseccomp's program");
        self.stub.answer(call.audit_token, call.number).unwrap_or_else(newer)
    }
}

/// What runc puts before the filter: for each architecture listed (and the native one), calls numbered after the last
/// one named get ENOSYS, unless the default action lets calls through.
pub(crate) struct Stub(Vec<(u32, bool, u32)>);

impl Stub {
    pub(crate) fn answer(&self, audit_token: u32, number: u32) -> Option<u32> {
        let x32 = audit_token == X86_64_TOKEN && number & (1 << 30) != 0;
        let newest = self.0.iter().find(|(token, is_x32, _)| *token == audit_token && *is_x32 == x32);
        newest.filter(|(_, _, newest)| number > *newest).map(|_| 0x0005_0000 | 38)
    }
}

pub(crate) const X86_64_TOKEN: u32 = 0xc000_003e;

/// Every name with its entry: runc flattens the profile before anything else.
pub(crate) fn calls(seccomp: &LinuxSeccomp) -> Vec<(&str, &LinuxSyscall)> {
    let entries = seccomp.syscalls().iter().flatten();
    entries.flat_map(|entry| entry.names().iter().map(move |name| (name.as_str(), entry))).collect()
}

pub(crate) fn architectures(seccomp: &LinuxSeccomp) -> Vec<ScmpArch> {
    seccomp.architectures().iter().flatten().map(|arch| architecture(*arch)).collect()
}

pub(crate) fn architecture(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchNative => ScmpArch::native(),
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchArm => ScmpArch::Arm,
        other => panic!("no test uses {other}"),
    }
}

fn add(
    filter: &mut ScmpFilterContext,
    name: &str,
    entry: &LinuxSyscall,
    default: ScmpAction,
) -> Result<(), SeccompError> {
    let action = action(entry.action(), entry.errno_ret());
    if action == default {
        return Ok(());
    }
    let Ok(call) = ScmpSyscall::from_name(name) else { return Ok(()) };
    let args = entry.args().as_deref().unwrap_or_default();
    if args.is_empty() {
        return filter.add_rule(action, call).map(|_| ());
    }
    let repeated = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
    let conditions: Vec<ScmpArgCompare> = args.iter().map(condition).collect();
    if repeated {
        for condition in conditions {
            filter.add_rule_conditional(action, call, &[condition])?;
        }
        return Ok(());
    }
    filter.add_rule_conditional(action, call, &conditions).map(|_| ())
}

fn condition(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let index = u32::try_from(arg.index()).expect("an index");
    let (operator, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or(0))
        }
    };
    ScmpArgCompare::new(index, operator, value)
}

pub(crate) fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    let errno = errno.unwrap_or(1);
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(i32::try_from(errno).expect("an errno")),
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(u16::try_from(errno).expect("trace data")),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
    }
}

impl Stub {
    pub(crate) fn new(seccomp: &LinuxSeccomp) -> Self {
        if matches!(
            seccomp.default_action(),
            LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace
        ) {
            return Self(Vec::new());
        }
        let mut newest_of = Vec::new();
        for arch in architectures(seccomp).into_iter().chain([ScmpArch::native()]) {
            let call = |(name, _): &(&str, _)| ScmpSyscall::from_name_by_arch(name, arch).ok();
            let numbers: Vec<i32> = calls(seccomp).iter().filter_map(call).map(ScmpSyscall::as_raw_syscall).collect();
            let newest = numbers.into_iter().filter(|number| *number > 0).max();
            let newest = newest.and_then(|newest| u32::try_from(newest).ok());
            newest_of.extend(newest.map(|newest| (token(arch), arch == ScmpArch::X32, newest)));
        }
        Self(newest_of)
    }
}

pub(crate) fn token(arch: ScmpArch) -> u32 {
    match arch {
        ScmpArch::X8664 | ScmpArch::X32 => X86_64_TOKEN,
        ScmpArch::X86 => 0x4000_0003,
        ScmpArch::Aarch64 => 0xc000_00b7,
        ScmpArch::Arm => 0x4000_0028,
        other => panic!("no test uses {other:?}"),
    }
}
