//! System calls on files and descriptors.

use core::ffi::CStr;

use super::{Answer, Errno, answer, answer_fd, arg, long, nr, place, room, syscall, text, word};

/// `O_*` and friends, as both supported processors have them unless said otherwise.
#[allow(missing_docs, reason = "the names are the kernel's")]
pub mod flag {
    pub const O_RDONLY: u64 = 0;
    pub const O_WRONLY: u64 = 1;
    pub const O_RDWR: u64 = 2;
    pub const O_CREAT: u64 = 0o100;
    pub const O_EXCL: u64 = 0o200;
    pub const O_NOCTTY: u64 = 0o400;
    #[cfg(target_arch = "x86_64")]
    pub const O_DIRECTORY: u64 = 0o200_000;
    #[cfg(target_arch = "x86_64")]
    pub const O_NOFOLLOW: u64 = 0o400_000;
    #[cfg(target_arch = "aarch64")]
    pub const O_DIRECTORY: u64 = 0o40_000;
    #[cfg(target_arch = "aarch64")]
    pub const O_NOFOLLOW: u64 = 0o100_000;
    pub const O_CLOEXEC: u64 = 0o2_000_000;
    pub const O_PATH: u64 = 0o10_000_000;
    pub const RESOLVE_NO_XDEV: u64 = 0x01;
    pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
    pub const RESOLVE_NO_SYMLINKS: u64 = 0x04;
    pub const RESOLVE_BENEATH: u64 = 0x08;
    pub const RESOLVE_IN_ROOT: u64 = 0x10;
    pub const AT_EMPTY_PATH: u32 = 0x1000;
    pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
    pub const AT_EACCESS: u32 = 0x200;
    pub const S_IFMT: u32 = 0o170_000;
    pub const S_IFDIR: u32 = 0o040_000;
    pub const S_IFCHR: u32 = 0o020_000;
    pub const S_IFREG: u32 = 0o100_000;
    pub const S_IFLNK: u32 = 0o120_000;
    pub const S_IFIFO: u32 = 0o010_000;
}

/// How often a lookup is tried again when renames elsewhere disturb it (openat2(2): `EAGAIN`).
const LOOKUPS: usize = 256;

/// `struct open_how`.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// `openat2(2)`, close-on-exec, tried again a bounded number of times when a rename disturbs it.
pub fn openat2(dir: i32, path: &CStr, flags: u64, mode: u64, resolve: u64) -> Answer<i32> {
    let how = OpenHow { flags: flags | flag::O_CLOEXEC, mode, resolve };
    let mut last = Errno::EAGAIN;
    for _ in 0..LOOKUPS {
        // SAFETY: the string and the struct outlive the call, which only reads them.
        let result = unsafe { syscall(437, [arg(dir), text(path), place(&how), size_of::<OpenHow>(), 0, 0]) };
        match answer_fd(result) {
            Err(Errno::EAGAIN) => last = Errno::EAGAIN,
            other => return other,
        }
    }
    Err(last)
}

/// `close(2)`.
pub fn close(fd: i32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::CLOSE, [arg(fd), 0, 0, 0, 0, 0]) }).map(drop)
}

/// `read(2)`.
pub fn read(fd: i32, buffer: &mut [u8]) -> Answer<usize> {
    // SAFETY: the kernel writes at most the buffer's length into it.
    answer(unsafe { syscall(nr::READ, [arg(fd), buffer.as_mut_ptr().expose_provenance(), buffer.len(), 0, 0, 0]) })
}

/// `write(2)`, all or an error.
pub fn write_all(fd: i32, bytes: &[u8]) -> Answer<()> {
    // SAFETY: the kernel reads at most the length of the slice.
    let written =
        answer(unsafe { syscall(nr::WRITE, [arg(fd), bytes.as_ptr().expose_provenance(), bytes.len(), 0, 0, 0]) })?;
    if written == bytes.len() { Ok(()) } else { Err(Errno::EIO) }
}

/// `dup3(2)` without close-on-exec; onto itself it only clears the flag.
pub fn dup_onto(from: i32, to: i32) -> Answer<()> {
    if from == to {
        return set_close_on_exec(from, 0);
    }
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::DUP3, [arg(from), arg(to), 0, 0, 0, 0]) }).map(drop)
}

/// `fcntl(F_SETFD)`: 1 is close-on-exec.
pub fn set_close_on_exec(fd: i32, value: usize) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::FCNTL, [arg(fd), 2, value, 0, 0, 0]) }).map(drop)
}

/// `close_range(2)`.
pub fn close_range(first: u32, last: u32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(436, [word(first), word(last), 0, 0, 0, 0]) }).map(drop)
}

/// `struct stat`, as far as it is looked at; both layouts are 128 or 144 bytes long.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device of a device node, in the kernel's encoding.
    pub rdev: u64,
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: usize,
}

/// `fstatat(2)`; with an empty path and `AT_EMPTY_PATH`, of `dir` itself.
pub fn fstatat(dir: i32, path: &CStr, flags: u32) -> Answer<Stat> {
    let mut words = [0_u64; 20];
    // SAFETY: 160 bytes are more than `struct stat` is; the string outlives the call.
    answer(unsafe { syscall(nr::NEWFSTATAT, [arg(dir), text(path), room(&mut words), word(flags), 0, 0]) })?;
    let low = |number: u64| u32::try_from(number & 0xffff_ffff).unwrap_or(0);
    let high = |number: u64| u32::try_from(number >> 32).unwrap_or(0);
    // x86_64: dev ino nlink mode|uid gid|pad rdev size. aarch64: dev ino mode|nlink uid|gid rdev pad size.
    let [_, inode, third, fourth, fifth, sixth, seventh, ..] = words;
    let size = usize::try_from(seventh).map_err(|_| Errno::EIO)?;
    if cfg!(target_arch = "x86_64") {
        Ok(Stat { mode: low(fourth), uid: high(fourth), gid: low(fifth), rdev: sixth, inode, size })
    } else {
        Ok(Stat { mode: low(third), uid: low(fourth), gid: high(fourth), rdev: fifth, inode, size })
    }
}

/// `fstatat(2)` of an open descriptor.
pub fn fstat(fd: i32) -> Answer<Stat> {
    fstatat(fd, c"", flag::AT_EMPTY_PATH)
}

/// The `f_type` of `fstatfs(2)`.
pub fn file_system_type(fd: i32) -> Answer<u64> {
    let mut words = [0_u64; 16];
    // SAFETY: 128 bytes are more than `struct statfs` is.
    answer(unsafe { syscall(nr::FSTATFS, [arg(fd), room(&mut words), 0, 0, 0, 0]) })?;
    Ok(words[0])
}

/// `faccessat2(2)` with the effective ids.
pub fn may_execute(path: &CStr) -> Answer<()> {
    // SAFETY: the string outlives the call.
    answer(unsafe { syscall(439, [arg(-100), text(path), 1, word(flag::AT_EACCESS), 0, 0]) }).map(drop)
}

/// `mkdirat(2)`.
pub fn mkdirat(dir: i32, path: &CStr, mode: u32) -> Answer<()> {
    // SAFETY: the string outlives the call.
    answer(unsafe { syscall(nr::MKDIRAT, [arg(dir), text(path), word(mode), 0, 0, 0]) }).map(drop)
}

/// `mknodat(2)`; the device number is in the kernel's 32-bit encoding.
pub fn mknodat(dir: i32, path: &CStr, mode: u32, device: u64) -> Answer<()> {
    // SAFETY: the string outlives the call.
    answer(unsafe { syscall(nr::MKNODAT, [arg(dir), text(path), word(mode), long(device), 0, 0]) }).map(drop)
}

/// `symlinkat(2)`.
pub fn symlinkat(target: &CStr, dir: i32, path: &CStr) -> Answer<()> {
    // SAFETY: both strings outlive the call.
    answer(unsafe { syscall(nr::SYMLINKAT, [text(target), arg(dir), text(path), 0, 0, 0]) }).map(drop)
}

/// `readlinkat(2)`.
pub fn readlinkat(dir: i32, path: &CStr, buffer: &mut [u8]) -> Answer<usize> {
    let into = buffer.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes at most the buffer's length; the string outlives the call.
    answer(unsafe { syscall(nr::READLINKAT, [arg(dir), text(path), into, buffer.len(), 0, 0]) })
}

/// `unlinkat(2)`; flags 0x200 removes a directory.
pub fn unlinkat(dir: i32, path: &CStr) -> Answer<()> {
    // SAFETY: the string outlives the call.
    answer(unsafe { syscall(nr::UNLINKAT, [arg(dir), text(path), 0, 0, 0, 0]) }).map(drop)
}

/// `fchownat(2)` of the descriptor itself; `u32::MAX` leaves an id.
pub fn chown(fd: i32, uid: u32, gid: u32) -> Answer<()> {
    let flags = word(flag::AT_EMPTY_PATH);
    // SAFETY: the string is static.
    answer(unsafe { syscall(nr::FCHOWNAT, [arg(fd), text(c""), word(uid), word(gid), flags, 0]) }).map(drop)
}

/// `fchmod(2)`.
pub fn fchmod(fd: i32, mode: u32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::FCHMOD, [arg(fd), word(mode), 0, 0, 0, 0]) }).map(drop)
}

/// `sendfile(2)`, as much as it takes at once: how much was copied, 0 at the end.
pub fn sendfile(to: i32, from: i32) -> Answer<usize> {
    // SAFETY: the offset is null, so that the kernel uses the file's own.
    answer(unsafe { syscall(nr::SENDFILE, [arg(to), arg(from), 0, 1 << 30, 0, 0]) })
}

/// `getdents64(2)`.
pub fn getdents64(fd: i32, buffer: &mut [u8]) -> Answer<usize> {
    // SAFETY: the kernel writes at most the buffer's length into it.
    answer(unsafe {
        syscall(nr::GETDENTS64, [arg(fd), buffer.as_mut_ptr().expose_provenance(), buffer.len(), 0, 0, 0])
    })
}

/// `chdir(2)`.
pub fn chdir(path: &CStr) -> Answer<()> {
    // SAFETY: the string outlives the call.
    answer(unsafe { syscall(nr::CHDIR, [text(path), 0, 0, 0, 0, 0]) }).map(drop)
}

/// `fchdir(2)`.
pub fn fchdir(fd: i32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::FCHDIR, [arg(fd), 0, 0, 0, 0, 0]) }).map(drop)
}

/// `chroot(2)`.
pub fn chroot(path: &CStr) -> Answer<()> {
    // SAFETY: the string outlives the call.
    answer(unsafe { syscall(nr::CHROOT, [text(path), 0, 0, 0, 0, 0]) }).map(drop)
}

/// The first byte of `getcwd(2)`: `/` when the directory is inside the root, `(` of "(unreachable)" when not.
pub fn first_of_cwd() -> Answer<u8> {
    let mut buffer = [0_u8; 4096];
    let into = buffer.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes at most the buffer's length into it.
    answer(unsafe { syscall(nr::GETCWD, [into, buffer.len(), 0, 0, 0, 0]) })?;
    Ok(buffer[0])
}

/// `umask(2)`.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: no memory is involved.
    let old = unsafe { syscall(nr::UMASK, [word(mask), 0, 0, 0, 0, 0]) };
    u32::try_from(old).unwrap_or(0o022)
}

/// `ioctl(2)` with a number as argument; answers the result.
pub fn ioctl_number(fd: i32, request: u32, argument: usize) -> Answer<i32> {
    // SAFETY: the requests used with this take no pointer.
    answer_fd(unsafe { syscall(nr::IOCTL, [arg(fd), word(request), argument, 0, 0, 0]) })
}

/// `ioctl(2)` on a buffer that the kernel reads and fills; at least 40 bytes, as `struct ifreq` is.
pub fn ioctl_buffer(fd: i32, request: u32, buffer: &mut [u8; 40]) -> Answer<()> {
    // SAFETY: the requests used with this read and write at most a `struct ifreq` or an int.
    answer(unsafe { syscall(nr::IOCTL, [arg(fd), word(request), room(buffer), 0, 0, 0]) }).map(drop)
}

/// `socket(2)`.
pub fn socket(family: usize, kind: usize) -> Answer<i32> {
    // SAFETY: no memory is involved.
    answer_fd(unsafe { syscall(nr::SOCKET, [family, kind, 0, 0, 0, 0]) })
}

/// Maps a whole file read-only; the mapping stays until the next program.
pub fn map_whole(fd: i32) -> Answer<&'static [u8]> {
    map_file(fd, fstat(fd)?.size)
}

fn map_file(fd: i32, length: usize) -> Answer<&'static [u8]> {
    // SAFETY: a new private mapping, chosen by the kernel, overlaps nothing.
    let address = answer(unsafe { syscall(nr::MMAP, [0, length, 1, 2, arg(fd), 0]) })?;
    let bytes = core::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: the kernel mapped `length` readable bytes there, and nothing unmaps them; the file is sealed.
    Ok(unsafe { core::slice::from_raw_parts(bytes, length) })
}

/// A zeroed table of `count` words, for the pointers of argv and envp, or for descriptors; it stays until the next program.
pub fn map_table(count: usize) -> Answer<&'static mut [usize]> {
    let length = count.checked_mul(size_of::<usize>()).ok_or(Errno::EINVAL)?;
    // SAFETY: a new private anonymous mapping overlaps nothing.
    let address = answer(unsafe { syscall(nr::MMAP, [0, length, 3, 0x22, arg(-1), 0]) })?;
    let words = core::ptr::with_exposed_provenance_mut::<usize>(address);
    // SAFETY: the kernel mapped that many zeroed writable words, page-aligned, and nobody else knows them.
    Ok(unsafe { core::slice::from_raw_parts_mut(words, count) })
}
