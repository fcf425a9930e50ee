//! `prlimit(2)` on another process, for one in a user namespace, which may not raise its own limits.

use crate::Error;

/// Sets `(resource, soft, hard)` limits on `pid`, a child that waits and therefore is nobody else.
pub(crate) fn set_all(pid: i32, limits: &[(u32, u64, u64)]) -> Result<(), Error> {
    limits.iter().try_for_each(|(resource, soft, hard)| {
        let limit = libc::rlimit64 { rlim_cur: *soft, rlim_max: *hard };
        // SAFETY: the struct outlives the call, which only reads it; a null old limit is allowed.
        let outcome = unsafe {
            libc::syscall(libc::SYS_prlimit64, pid, *resource, &raw const limit, std::ptr::null_mut::<libc::rlimit64>())
        };
        let set = super::bpf::checked(outcome).map(drop);
        set.map_err(|errno| Error::system(format!("set rlimit {resource} to {soft}:{hard}"), errno))
    })
}
