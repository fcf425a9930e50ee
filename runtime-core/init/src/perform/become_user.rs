//! Ops that change who the process is, and those that read it back.

use core::ffi::CStr;

use super::{AtStep, Done, Interpreter};
use crate::script::{Numbers, Op, Slot};
use crate::sys::{self, Errno};

const PR_CAPBSET_READ: i32 = 23;
const PR_CAPBSET_DROP: i32 = 24;
const PR_GET_NO_NEW_PRIVS: i32 = 39;
const PR_CAP_AMBIENT: i32 = 47;
const AMBIENT_RAISE: u64 = 2;
const AMBIENT_CLEAR_ALL: u64 = 4;

pub(super) fn perform(op: Op<'_>, mut keep: impl FnMut(Slot, i32) -> Done) -> Done {
    match op {
        Op::Groups { groups } => Ok(sys::setgroups(groups.0)?),
        Op::Ids { uid, gid } => {
            sys::setresgid(gid).at(1)?;
            sys::setresuid(uid).at(2)
        }
        Op::Bounding { keep, last } => bounding(keep, last),
        Op::Capabilities { effective, permitted, inheritable } => Ok(sys::capset([effective, permitted, inheritable])?),
        Op::Ambient { set, last } => ambient(set, last),
        Op::Seccomp { flags, program, into } => {
            let listener = sys::seccomp_filter(flags, program)?;
            if listener > 0 { keep(into, listener) } else { Ok(()) }
        }
        Op::VerifyIds { uid, gid } => same(sys::ids()?, ([uid; 3], [gid; 3]), 1),
        Op::VerifyGroups { groups } => verify_groups(groups),
        Op::VerifyPrivileges { effective, permitted, inheritable, bounding, last, no_new_privileges } => {
            same(sys::capget()?, [effective, permitted, inheritable], 1)?;
            for capability in 0..=last {
                let held = sys::prctl(PR_CAPBSET_READ, u64::from(capability), 0)? == 1;
                same(held, has(bounding, capability), 2)?;
            }
            same(sys::prctl(PR_GET_NO_NEW_PRIVS, 0, 0)?.cast_unsigned(), no_new_privileges, 3)
        }
        _ => Err(Errno::EBADMSG.into()),
    }
}

/// What was read back is what was asked for.
fn same<T: PartialEq>(held: T, wanted: T, step: u32) -> Done {
    if held == wanted { Ok(()) } else { Err(Errno::EPERM).at(step) }
}

fn has(set: u64, capability: u32) -> bool {
    set.checked_shr(capability).unwrap_or(0) & 1 == 1
}

fn bounding(keep: u64, last: u32) -> Done {
    (0..=last)
        .filter(|capability| !has(keep, *capability))
        .try_for_each(|capability| sys::prctl(PR_CAPBSET_DROP, u64::from(capability), 0).map(drop).at(capability))
}

fn ambient(set: u64, last: u32) -> Done {
    sys::prctl(PR_CAP_AMBIENT, AMBIENT_CLEAR_ALL, 0)?;
    (0..=last)
        .filter(|capability| has(set, *capability))
        .try_for_each(|capability| sys::prctl(PR_CAP_AMBIENT, AMBIENT_RAISE, u64::from(capability)).map(drop).at(1))
}

impl Interpreter<'_> {
    /// The working directory must be inside the root: a descriptor leaked from the host would make it "(unreachable)".
    /// It is tried with root's rights first and then, where a network file system has none for root, with the user's.
    pub(super) fn chdir(&mut self, path: &CStr, later: u32) -> Done {
        if self.arrived {
            return Ok(());
        }
        match sys::chdir(path) {
            Err(Errno::EACCES | Errno::EPERM) if later == 1 => return Ok(()),
            other => other?,
        }
        self.arrived = true;
        if sys::first_of_cwd().at(1)? == b'/' { Ok(()) } else { Err(Errno::ENOENT).at(2) }
    }
}

fn verify_groups(groups: Numbers<'_>) -> Done {
    // The kernel sorts groups; as many, and each one wanted, is the same set unless the list has duplicates.
    let mut held = [0_u32; 64];
    let wanted = groups.0.len() / 4;
    if wanted > held.len() {
        return same(sys::getgroups(&mut [])?, wanted, 1);
    }
    let count = sys::getgroups(&mut held)?;
    same(count, wanted, 1)?;
    groups.iter().try_for_each(|group| same(held.iter().take(count).any(|id| *id == group), true, 2))
}

/// Joins the session keyring, so that the host's is out of reach. A kernel without keyrings has nothing to hide.
pub(super) fn keyring(name: &CStr, permissions: u32) -> Done {
    let key = match sys::join_session_keyring(name) {
        Err(Errno::ENOSYS) => return Ok(()),
        other => other?,
    };
    if permissions == 0 { Ok(()) } else { sys::set_key_permissions(key, permissions).at(1) }
}
