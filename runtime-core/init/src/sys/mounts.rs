//! System calls on mounts and namespaces.

use core::ffi::CStr;

use super::{Answer, answer, answer_fd, arg, long, nr, place, syscall, text, word};

/// `OPEN_TREE_CLONE`.
pub const OPEN_TREE_CLONE: u32 = 1;
/// `AT_RECURSIVE`.
pub const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = 0x1000;
const CLOEXEC: u32 = 0o2_000_000;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// `mount_setattr(2)` on the mount whose root `tree` is.
pub fn mount_setattr(tree: i32, flags: u32, set: u64, clear: u64, propagation: u64) -> Answer<()> {
    set_attributes(tree, flags, &MountAttr { set, clear, propagation, userns: 0 })
}

/// `mount_setattr(MOUNT_ATTR_IDMAP)` with the maps of the user namespace `users`.
pub fn mount_idmap(tree: i32, flags: u32, users: i32) -> Answer<()> {
    let userns = u64::from(users.cast_unsigned());
    set_attributes(tree, flags, &MountAttr { set: 0x10_0000, clear: 0, propagation: 0, userns })
}

fn set_attributes(tree: i32, flags: u32, attr: &MountAttr) -> Answer<()> {
    let flags = word(flags | AT_EMPTY_PATH);
    let size = size_of::<MountAttr>();
    // SAFETY: the string is static and the struct outlives the call, which only reads it.
    answer(unsafe { syscall(442, [arg(tree), text(c""), flags, place(attr), size, 0]) }).map(drop)
}

/// `fsopen(2)`.
pub fn fsopen(kind: &CStr) -> Answer<i32> {
    // SAFETY: the string outlives the call.
    answer_fd(unsafe { syscall(430, [text(kind), 1, 0, 0, 0, 0]) })
}

/// `fsconfig(FSCONFIG_SET_FLAG)`.
pub fn fsconfig_flag(fs: i32, key: &CStr) -> Answer<()> {
    // SAFETY: the string outlives the call.
    answer(unsafe { syscall(431, [arg(fs), 0, text(key), 0, 0, 0]) }).map(drop)
}

/// `fsconfig(FSCONFIG_SET_STRING)`.
pub fn fsconfig_string(fs: i32, key: &CStr, value: &CStr) -> Answer<()> {
    // SAFETY: both strings outlive the call.
    answer(unsafe { syscall(431, [arg(fs), 1, text(key), text(value), 0, 0]) }).map(drop)
}

/// `fsconfig(FSCONFIG_CMD_CREATE)`.
pub fn fsconfig_create(fs: i32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(431, [arg(fs), 6, 0, 0, 0, 0]) }).map(drop)
}

/// `fsconfig(FSCONFIG_CMD_RECONFIGURE)`.
pub fn fsconfig_reconfigure(fs: i32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(431, [arg(fs), 7, 0, 0, 0, 0]) }).map(drop)
}

/// `fspick(2)` of the file system whose mount's root `mounted` is.
pub fn fspick(mounted: i32) -> Answer<i32> {
    // FSPICK_CLOEXEC | FSPICK_EMPTY_PATH.
    // SAFETY: the string is static.
    answer_fd(unsafe { syscall(433, [arg(mounted), text(c""), 9, 0, 0, 0]) })
}

/// `mount(2)`.
pub fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Answer<()> {
    // SAFETY: the strings outlive the call; file systems that take `data` take text.
    answer(unsafe { syscall(nr::MOUNT, [text(source), text(target), text(kind), long(flags), text(data), 0]) })
        .map(drop)
}

/// `umount2(MNT_DETACH | UMOUNT_NOFOLLOW)`.
pub fn detach(path: &CStr) -> Answer<()> {
    // SAFETY: the string outlives the call.
    answer(unsafe { syscall(nr::UMOUNT2, [text(path), 2 | 8, 0, 0, 0, 0]) }).map(drop)
}

/// `fsmount(2)`.
pub fn fsmount(fs: i32, attributes: u64) -> Answer<i32> {
    // SAFETY: no memory is involved.
    answer_fd(unsafe { syscall(432, [arg(fs), 1, long(attributes), 0, 0, 0]) })
}

/// `open_tree(2)`, close-on-exec; an empty path is `dir` itself.
pub fn open_tree(dir: i32, path: &CStr, flags: u32) -> Answer<i32> {
    let flags = word(flags | CLOEXEC | if path.is_empty() { AT_EMPTY_PATH } else { 0 });
    // SAFETY: the string outlives the call.
    answer_fd(unsafe { syscall(428, [arg(dir), text(path), flags, 0, 0, 0]) })
}

/// `move_mount(2)` of the tree `from` onto what `onto` is.
pub fn move_mount(from: i32, onto: i32) -> Answer<()> {
    // MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH: neither end is a path that could be swapped.
    // SAFETY: the strings are static.
    answer(unsafe { syscall(429, [arg(from), text(c""), arg(onto), text(c""), 0x44, 0]) }).map(drop)
}

/// `pivot_root(".", ".")`.
pub fn pivot_root_here() -> Answer<()> {
    // SAFETY: the strings are static.
    answer(unsafe { syscall(nr::PIVOT_ROOT, [text(c"."), text(c"."), 0, 0, 0, 0]) }).map(drop)
}

/// `umount2(".", MNT_DETACH)`.
pub fn detach_here() -> Answer<()> {
    // SAFETY: the string is static.
    answer(unsafe { syscall(nr::UMOUNT2, [text(c"."), 2, 0, 0, 0, 0]) }).map(drop)
}

/// `setns(2)`.
pub fn setns(fd: i32, kinds: u32) -> Answer<()> {
    // SAFETY: no memory is involved.
    answer(unsafe { syscall(nr::SETNS, [arg(fd), word(kinds), 0, 0, 0, 0]) }).map(drop)
}

/// `unshare(2)`.
pub fn unshare(kinds: u32) -> Answer<()> {
    // SAFETY: this process has one thread; no memory is involved.
    answer(unsafe { syscall(nr::UNSHARE, [word(kinds), 0, 0, 0, 0, 0]) }).map(drop)
}

/// `sethostname(2)`.
pub fn sethostname(name: &CStr) -> Answer<()> {
    // SAFETY: the string outlives the call.
    answer(unsafe { syscall(nr::SETHOSTNAME, [text(name), name.count_bytes(), 0, 0, 0, 0]) }).map(drop)
}

/// `setdomainname(2)`.
pub fn setdomainname(name: &CStr) -> Answer<()> {
    // SAFETY: the string outlives the call.
    answer(unsafe { syscall(nr::SETDOMAINNAME, [text(name), name.count_bytes(), 0, 0, 0, 0]) }).map(drop)
}
