//! `bpf(2)`, for one purpose: the device programs of cgroup v2. A loader, an attacher and a question, no maps, no other
//! program types.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::io::Errno;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;
const BPF_F_QUERY_EFFECTIVE: u32 = 1;

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used; the kernel takes the rest as zero.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Loads a device program: eBPF instructions of eight bytes each, native endian.
pub(crate) fn load_device_program(program: &[u8]) -> Result<OwnedFd, Errno> {
    // A program that calls no helper may carry any license.
    let license = c"Apache-2.0";
    let attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instructions: u32::try_from(program.len() / 8).map_err(|_| Errno::TOOBIG)?,
        program: address(program.as_ptr()),
        license: address(license.as_ptr()),
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    descriptor(call(BPF_PROG_LOAD, &attributes)?)
}

/// Attaches a device program to a cgroup directory: in place of `replaced`, or beside what is there.
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let number = |fd: BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF);
    let attributes = Attach {
        target: number(cgroup)?,
        program: number(program)?,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | if replaced.is_some() { BPF_F_REPLACE } else { 0 },
        replaced: replaced.map(number).transpose()?.unwrap_or(0),
    };
    call(BPF_PROG_ATTACH, &attributes).map(drop)
}

/// The device programs attached to this cgroup itself, in the order they run. At most 64, which is the kernel's limit.
pub(crate) fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0_u32; 64];
    let mut attributes = Query {
        target: u32::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::BADF)?,
        kind: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: address(ids.as_mut_ptr()),
        count: 64,
        padding: 0,
    };
    call_mut(BPF_PROG_QUERY, &mut attributes)?;
    let count = usize::try_from(attributes.count).map_err(|_| Errno::RANGE)?;
    let ids = ids.iter().take(count);
    ids.map(|&id| descriptor(call(BPF_PROG_GET_FD_BY_ID, &ById { id, next: 0, flags: 0 })?)).collect()
}

/// How many device programs rule a process in this cgroup, those of the cgroups above among them.
pub(crate) fn ruling_device_programs(cgroup: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut attributes = Query {
        target: u32::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::BADF)?,
        kind: BPF_CGROUP_DEVICE,
        query_flags: BPF_F_QUERY_EFFECTIVE,
        attach_flags: 0,
        ids: 0,
        count: 0,
        padding: 0,
    };
    call_mut(BPF_PROG_QUERY, &mut attributes)?;
    Ok(attributes.count)
}

/// The kernel's answer: the errno of a call that failed, else its value.
pub(crate) fn checked(outcome: libc::c_long) -> Result<libc::c_long, Errno> {
    if outcome >= 0 {
        return Ok(outcome);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

fn address<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.addr()).unwrap_or(0)
}

fn call<T>(command: libc::c_long, attributes: &T) -> Result<libc::c_long, Errno> {
    // SAFETY: `attributes` is one of the structs above, alive and as long as the size says. None of the commands passed
    // here writes into it or through the addresses in it: those lead to the caller's program and license.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    checked(outcome)
}

fn call_mut(command: libc::c_long, attributes: &mut Query) -> Result<libc::c_long, Errno> {
    // SAFETY: the kernel writes into the struct, which is exclusively ours and as long as the size says, and through
    // `ids`, which leads to `count` words of the caller that outlive the call, if any.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<Query>()) };
    checked(outcome)
}

fn descriptor(number: libc::c_long) -> Result<OwnedFd, Errno> {
    let number = RawFd::try_from(number).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us (bpf(2) sets close-on-exec itself), so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
