//! Ops on mounts. Every path inside the container is resolved here and nowhere else, under a root descriptor and once:
//! what was found is a descriptor from then on (CVE-2021-30465, CVE-2024-45310).

use core::ffi::CStr;

use super::{AtStep, Done, Failure};
use crate::script::{Fd, Strings, make};
use crate::sys::{self, AT_RECURSIVE, Answer, Errno, OPEN_TREE_CLONE, flag};

const MOUNT_ATTR_RDONLY: u64 = 1;
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// The container's own view of a path, with no way through another process's `/proc` links.
const INSIDE: u64 = flag::RESOLVE_IN_ROOT | flag::RESOLVE_NO_MAGICLINKS;
/// One step down from a directory that is held open.
const STEP: u64 = flag::RESOLVE_BENEATH | flag::RESOLVE_NO_SYMLINKS;

pub(super) fn reach(recursive: u32) -> u32 {
    if recursive == 0 { 0 } else { AT_RECURSIVE }
}

/// What is to be made, where that depends on what `like` is.
pub(super) fn kind(wanted: u32, like: i32) -> Answer<u32> {
    if wanted & make::KIND != make::LIKE {
        return Ok(wanted);
    }
    let directory = sys::fstat(like)?.mode & flag::S_IFMT == flag::S_IFDIR;
    Ok(wanted & !make::KIND | if directory { make::DIRECTORY } else { make::FILE })
}

/// Finds a path inside `root`; what is absent is made, step by step, below directories that are held open.
pub(super) fn target(root: i32, path: &CStr, wanted: u32) -> Answer<i32> {
    let resolve = if wanted & make::PLAIN == 0 { INSIDE } else { INSIDE | flag::RESOLVE_NO_SYMLINKS };
    let found = match sys::openat2(root, path, flag::O_PATH, 0, resolve) {
        Err(Errno::ENOENT) if wanted & make::KIND != make::NOTHING => make_path(root, path, wanted, resolve),
        other => other,
    }?;
    // A link in the image must not lead a mount onto the kernel's files (CVE-2019-16884).
    if wanted & make::NOT_PROC != 0 && sys::file_system_type(found)? == PROC_SUPER_MAGIC {
        return Err(Errno::EPERM);
    }
    Ok(found)
}

/// Walks down the path: what exists is followed as the container would, the rest is made. A link that leads nowhere is
/// followed, too: what it names is made.
fn make_path(root: i32, path: &CStr, wanted: u32, resolve: u64) -> Answer<i32> {
    const LINKS: usize = 40;
    let mut buffer = [0; LONGEST];
    let mut length = path.to_bytes().len();
    buffer.get_mut(..length).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(path.to_bytes());
    for _ in 0..LINKS {
        let bytes = buffer.get(..length).ok_or(Errno::ENAMETOOLONG)?;
        match walk(root, bytes, wanted, resolve)? {
            Step::Found(fd) => return Ok(fd),
            Step::Link { above, start, end } => {
                length = follow(above, &mut buffer, length, (start, end))?;
                sys::close(above)?;
            }
        }
    }
    Err(Errno::ELOOP)
}

/// The longest path.
const LONGEST: usize = 4096;

/// Where a walk ends, or its component does: there, or at a link that leads nowhere.
enum Step {
    Found(i32),
    Link { above: i32, start: usize, end: usize },
}

/// Puts what the link in `above` says in its place in the path, and answers how long that is now.
fn follow(above: i32, path: &mut [u8; LONGEST], length: usize, (start, end): (usize, usize)) -> Answer<usize> {
    let mut name = [0; 256];
    let name = c_string(&mut name, path.get(start..end))?;
    let mut said = [0; LONGEST];
    let count = sys::readlinkat(above, name, &mut said)?;
    let said = said.get(..count).ok_or(Errno::ENAMETOOLONG)?;
    // A relative one begins where the link is.
    let from = if said.first() == Some(&b'/') { 0 } else { start };
    let after = from + said.len();
    let whole = after + length.saturating_sub(end);
    if whole > LONGEST {
        return Err(Errno::ENAMETOOLONG);
    }
    path.copy_within(end..length, after);
    path.get_mut(from..after).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(said);
    Ok(whole)
}

fn walk(root: i32, bytes: &[u8], wanted: u32, resolve: u64) -> Answer<Step> {
    let (mut above, mut start) = deepest(root, bytes, resolve)?;
    while start < bytes.len() {
        let length = bytes.iter().skip(start).position(|byte| *byte == b'/').unwrap_or(bytes.len() - start);
        let end = start + length;
        if length > 0 {
            let last = bytes.iter().skip(end).all(|byte| *byte == b'/');
            let kind = if last { wanted & make::KIND } else { make::DIRECTORY };
            match make_one(above, (bytes, start, end), kind)? {
                Step::Found(found) => {
                    sys::close(above)?;
                    above = found;
                }
                link @ Step::Link { .. } => return Ok(link),
            }
        }
        start = end + 1;
    }
    Ok(Step::Found(above))
}

/// The deepest directory on the way that is there, and where in the path the rest begins.
fn deepest(root: i32, bytes: &[u8], resolve: u64) -> Answer<(i32, usize)> {
    let mut so_far = [0; LONGEST + 1];
    let mut end = bytes.len();
    while let Some(cut) = bytes.iter().take(end).rposition(|byte| *byte == b'/').filter(|cut| *cut > 0) {
        so_far.fill(0);
        let path = c_string(&mut so_far, bytes.get(..cut))?;
        match sys::openat2(root, path, flag::O_PATH, 0, resolve) {
            Err(Errno::ENOENT) => end = cut,
            other => return Ok((other?, cut + 1)),
        }
    }
    Ok((sys::openat2(root, c"/", flag::O_PATH | flag::O_DIRECTORY, 0, resolve)?, 0))
}

/// Makes one component below `above`, where none was.
fn make_one(above: i32, part: (&[u8], usize, usize), kind: u32) -> Answer<Step> {
    let (bytes, start, end) = part;
    let mut name = [0; 256];
    let name = c_string(&mut name, bytes.get(start..end))?;
    let made = if kind == make::FILE {
        let flags = flag::O_CREAT | flag::O_EXCL | flag::O_NOFOLLOW | flag::O_RDONLY;
        sys::openat2(above, name, flags, 0o644, STEP).and_then(sys::close)
    } else {
        sys::mkdirat(above, name, 0o755)
    };
    match made {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    // Someone else may have made it in the meantime, or it is a link that leads nowhere: this lookup follows none.
    let found = sys::openat2(above, name, flag::O_PATH | flag::O_NOFOLLOW, 0, STEP)?;
    if sys::fstat(found)?.mode & flag::S_IFMT != flag::S_IFLNK {
        return Ok(Step::Found(found));
    }
    sys::close(found)?;
    Ok(Step::Link { above, start, end })
}

/// `bytes` as a C string in `buffer`.
pub(super) fn c_string<'a>(buffer: &'a mut [u8], bytes: Option<&[u8]>) -> Answer<&'a CStr> {
    let bytes = bytes.ok_or(Errno::EINVAL)?;
    buffer.get_mut(..bytes.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(bytes);
    CStr::from_bytes_until_nul(buffer).map_err(|_| Errno::ENAMETOOLONG)
}

/// A new file system, mounted nowhere. Steps: 1 its kind, 2 a parameter, 3 making it, 4 its mount.
pub(super) fn filesystem(
    (kind, source, parameters): (&CStr, &CStr, Strings<'_>),
    attributes: u64,
    more: impl FnOnce(i32) -> Answer<()>,
) -> Result<i32, Failure> {
    let fs = sys::fsopen(kind).at(1)?;
    if !source.is_empty() {
        sys::fsconfig_string(fs, c"source", source).at(2)?;
    }
    configure(fs, parameters).at(2)?;
    more(fs).at(2)?;
    sys::fsconfig_create(fs).at(3)?;
    let tree = sys::fsmount(fs, attributes).at(4)?;
    sys::close(fs)?;
    Ok(tree)
}

/// The parameter `mode`, as what is at `path` inside `root` has it. What is not there yet has none.
pub(super) fn as_mode(fs: i32, root: i32, path: &CStr) -> Answer<()> {
    if path.is_empty() {
        return Ok(());
    }
    let found = match target(root, path, make::NOTHING) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    let mode = sys::fstat(found)?.mode;
    sys::close(found)?;
    // Four octal digits.
    let mut text = *b"0000\0";
    for (place, digit) in (0..4).rev().zip(&mut text) {
        *digit += u8::try_from(mode >> (3 * place) & 7).unwrap_or(0);
    }
    sys::fsconfig_string(fs, c"mode", CStr::from_bytes_until_nul(&text).map_err(|_| Errno::EINVAL)?)
}

fn configure(fs: i32, parameters: Strings<'_>) -> Answer<()> {
    let mut strings = parameters.iter();
    while let (Some(key), Some(value)) = (strings.next(), strings.next()) {
        if value.is_empty() { sys::fsconfig_flag(fs, key) } else { sys::fsconfig_string(fs, key, value) }?;
    }
    Ok(())
}

/// Attaches a detached tree to a target. For a file onto a directory, or the other way round, `move_mount(2)` answers
/// EINVAL; `mount(2)` said ENOTDIR, whose words clients look for.
pub(super) fn attach(tree: i32, target: i32) -> Answer<()> {
    let directory = |fd| Ok(sys::fstat(fd)?.mode & flag::S_IFMT == flag::S_IFDIR);
    match sys::move_mount(tree, target) {
        Err(Errno::EINVAL) if directory(tree)? != directory(target)? => Err(Errno::ENOTDIR),
        other => other,
    }
}

/// Other parameters for a file system that is mounted. Steps: 1 finding it, 2 a parameter, 3 the change.
pub(super) fn reconfigure(root: i32, path: &CStr, parameters: Strings<'_>) -> Done {
    let found = target(root, path, make::NOTHING).at(1)?;
    let fs = sys::fspick(found).at(1)?;
    configure(fs, parameters).at(2)?;
    sys::fsconfig_reconfigure(fs).at(3)?;
    sys::close(fs)?;
    Ok(sys::close(found)?)
}

/// Hides a path behind an empty file or directory. What is absent needs no hiding.
pub(super) fn mask(root: i32, path: &CStr, trees: [i32; 2], attached: &mut [i32; 2]) -> Done {
    let Some(found) = present(root, path)? else { return Ok(()) };
    let directory = usize::from(sys::fstat(found).at(2)?.mode & flag::S_IFMT == flag::S_IFDIR);
    let ([file, folder], [file_done, folder_done]) = (trees, attached);
    let (tree, done) = if directory == 1 { (folder, folder_done) } else { (file, file_done) };
    if *done == tree {
        let copy = sys::open_tree(tree, c"", OPEN_TREE_CLONE).at(3)?;
        sys::move_mount(copy, found).at(4)?;
        sys::close(copy)?;
    } else {
        sys::move_mount(tree, found).at(4)?;
        *done = tree;
    }
    Ok(sys::close(found)?)
}

/// Makes a path read-only: a read-only clone of it, with all below, goes on top in one move, so that there is no moment
/// at which it is there and writable.
pub(super) fn seal(root: i32, path: &CStr) -> Done {
    let Some(found) = present(root, path)? else { return Ok(()) };
    let tree = sys::open_tree(found, c"", OPEN_TREE_CLONE | AT_RECURSIVE).at(2)?;
    sys::mount_setattr(tree, AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0, 0).at(3)?;
    sys::move_mount(tree, found).at(4)?;
    sys::close(tree)?;
    Ok(sys::close(found)?)
}

fn present(root: i32, path: &CStr) -> Result<Option<i32>, Failure> {
    match target(root, path, make::NOTHING) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        other => other.map(Some).at(1),
    }
}

/// Makes `root`, which is attached somewhere below, the root of the namespace. The old root ends up on top of it and is
/// dropped; it is a slave by now, so the host's mounts stay.
pub(super) fn pivot(root: i32) -> Done {
    sys::fchdir(root).at(1)?;
    sys::pivot_root_here().at(2)?;
    sys::detach_here().at(3)?;
    sys::chdir(c"/").at(4)
}

/// For an old root that cannot be put away (an initramfs): `root` goes over it. What is below can be reached again by
/// whoever may chroot(2).
pub(super) fn move_root(root: i32) -> Done {
    let top = sys::openat2(root, c"/", flag::O_PATH | flag::O_DIRECTORY, 0, 0).at(1)?;
    sys::move_mount(root, top).at(2)?;
    sys::close(top)?;
    sys::fchdir(root).at(3)?;
    sys::chroot(c".").at(4)?;
    sys::chdir(c"/").at(4)
}

/// Puts away what is mounted at a path of the host's. What is locked there, or hidden behind another mount, is covered by
/// an empty directory; what cannot be found has gone with what it was in.
pub(super) fn hide(path: &CStr) -> Done {
    match sys::detach(path) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
        Err(Errno::EINVAL | Errno::EPERM) => {
            let found = sys::openat2(Fd::CWD.0, path, flag::O_PATH | flag::O_NOFOLLOW, 0, 0).at(1)?;
            let cover =
                filesystem((c"tmpfs", c"tmpfs", Strings(b"nr_inodes\x002\x00")), MOUNT_ATTR_RDONLY, |_| Ok(()))?;
            sys::move_mount(cover, found).at(2)?;
            sys::close(cover)?;
            Ok(sys::close(found)?)
        }
        other => Ok(other?),
    }
}

/// `lo` up: netdevice(7), `SIOCGIFFLAGS`, `IFF_UP`, `SIOCSIFFLAGS`.
pub(super) fn loopback() -> Done {
    let socket = sys::socket(2, 2 | 0o2_000_000).at(1)?;
    let mut request = [0_u8; 40];
    let (name, rest) = request.split_at_mut(16);
    if let ([l, o, ..], [flags, ..]) = (name, rest) {
        (*l, *o, *flags) = (b'l', b'o', 0);
    }
    sys::ioctl_buffer(socket, 0x8913, &mut request).at(2)?;
    if let Some(flags) = request.get_mut(16) {
        *flags |= 1;
    }
    sys::ioctl_buffer(socket, 0x8914, &mut request).at(3)?;
    Ok(sys::close(socket)?)
}
