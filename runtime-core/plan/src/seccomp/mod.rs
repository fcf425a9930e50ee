//! `linux.seccomp` becomes a filter the kernel takes: classic BPF that answers as the one runc installs through
//! libseccomp does, several times shorter. It does not install anything. Why there is a compiler here and how it is
//! held to libseccomp: `docs/decisions/0004-seccomp.md`.
//!
//! The story: [`rules`] reads the specification, [`decide`] turns it into one decision per system call number of each
//! machine ([`precedence`] where rules compete), [`compile`] writes that as BPF.

mod abi;
mod bpf;
mod compile;
mod decide;
mod precedence;
mod rules;
mod spread;
mod table;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

use self::abi::{Abi, NATIVE};
use self::decide::{Machine, Profile};
use crate::{Filter, Refusal};

/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
const FLAG_NEW_LISTENER: u32 = 1 << 3;
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The filter of a container.
///
/// # Errors
/// A value outside its range, an architecture without a table, rules that contradict each other, a listener that cannot
/// be reached, or a filter longer than the kernel takes.
pub fn plan(seccomp: &LinuxSeccomp) -> Result<Filter, Refusal> {
    let default = rules::default_action(seccomp)?;
    let named = rules::named(seccomp);
    let rules = rules::rules(seccomp, &named, default)?;
    let newest = newer_get_enosys(seccomp.default_action()).then_some(named.as_slice());
    let profile = Profile { default, rules: &rules, named: newest };
    let machines = machines(seccomp)?;
    let machines: Vec<Machine> = machines.iter().map(|abis| Machine::new(abis, &profile)).collect::<Result<_, _>>()?;
    let program = compile::compile(&machines, default);
    if program.len() > MAX_INSTRUCTIONS {
        let problem = format!("{} instructions, the kernel takes {MAX_INSTRUCTIONS}", program.len());
        return Err(Refusal::new("linux.seccomp.syscalls", problem));
    }
    Ok(Filter { program: program.bytes(), flags: flags(seccomp), listener: listener(seccomp)? })
}

/// Whether calls newer than the profile get ENOSYS, for which libc has a fallback, instead of the default, for which it
/// has none. An emulating tracer wants to see them, so it does not count as refusing.
fn newer_get_enosys(default: LinuxSeccompAction) -> bool {
    let permissive =
        [LinuxSeccompAction::ScmpActAllow, LinuxSeccompAction::ScmpActLog, LinuxSeccompAction::ScmpActTrace];
    !permissive.contains(&default)
}

/// The ABIs of the filter, grouped by audit token; the native one is always there, and first.
fn machines(seccomp: &LinuxSeccomp) -> Result<Vec<Vec<Abi>>, Refusal> {
    let mut machines = vec![vec![NATIVE]];
    for arch in seccomp.architectures().as_deref().unwrap_or_default() {
        let abi = Abi::named(*arch)?;
        let same = machines.iter_mut().find(|abis| abis.iter().any(|other| other.audit_token() == abi.audit_token()));
        match same {
            Some(abis) if abis.contains(&abi) => {}
            Some(abis) => abis.push(abi),
            None => machines.push(vec![abi]),
        }
    }
    Ok(machines)
}

/// The flags of `seccomp(2)`. Without a list runc asks for `SPEC_ALLOW`; an empty list asks for nothing.
fn flags(seccomp: &LinuxSeccomp) -> u32 {
    let notifies = rules::notifies(seccomp);
    let listener = if notifies { FLAG_NEW_LISTENER } else { 0 };
    let Some(flags) = seccomp.flags() else { return listener | FLAG_SPEC_ALLOW };
    flags.iter().fold(listener, |all, flag| {
        all | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
            // The process that installs the filter has one thread, and the kernel refuses it beside a listener.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            // Only a listener can be waited for, and the kernel refuses the flag without one.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notifies => FLAG_WAIT_KILLABLE_RECV,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        }
    })
}

fn listener(seccomp: &LinuxSeccomp) -> Result<Option<(std::path::PathBuf, String)>, Refusal> {
    if !rules::notifies(seccomp) {
        return Ok(None);
    }
    let path = seccomp.listener_path().clone().filter(|path| !path.as_os_str().is_empty());
    let path =
        path.ok_or_else(|| Refusal::new("linux.seccomp.listenerPath", "missing, and SCMP_ACT_NOTIFY needs it"))?;
    Ok(Some((path, seccomp.listener_metadata().clone().unwrap_or_default())))
}
