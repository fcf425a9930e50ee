//! The stub, held once per process in a sealed memfd. The kernel executes it from there, so that neither the runtime's
//! binary nor its memory is ever visible in a container (CVE-2019-5736, CVE-2016-9962).

use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, fspick,
};

use crate::Error;

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tare-init"));
static STUB: OnceLock<OwnedFd> = OnceLock::new();

/// The stub's descriptor.
pub(crate) fn stub() -> Result<BorrowedFd<'static>, Error> {
    if let Some(stub) = STUB.get() {
        return Ok(stub.as_fd());
    }
    crate::sys::harden()?;
    let stub = match in_memory() {
        Err(Errno::ACCESS) => on_disk_of_its_own(),
        other => other,
    };
    let stub = stub.map_err(|errno| Error::system("hold the stub in an executable memfd", errno))?;
    Ok(STUB.get_or_init(|| stub).as_fd())
}

fn in_memory() -> Result<OwnedFd, Errno> {
    // MFD_EXEC says what is meant; kernels before 6.3 do not know it, and need not be told.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let stub = match memfd_create("tare-init", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("tare-init", flags),
        other => other,
    };
    sealed(stub, PROGRAM)
}

/// Where no memfd may be executed (`vm.memfd_noexec=2`): a file on a tmpfs that is mounted nowhere, so that nobody has a
/// name for it, and that is read-only as a whole before the stub is first executed.
fn on_disk_of_its_own() -> Result<OwnedFd, Errno> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "nr_inodes", "2")?;
    fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let disk = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(openat(&disk, "tare-init", flags, Mode::RUSR | Mode::XUSR)?);
    file.write_all(PROGRAM).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    drop(file);
    let whole = fspick(&disk, "", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)?;
    fsconfig_set_flag(&whole, "ro")?;
    fsconfig_reconfigure(&whole)?;
    openat(&disk, "tare-init", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// A sealed memfd with these bytes, not executable (MFD_NOEXEC_SEAL, which kernels before 6.3 do not know).
pub(crate) fn sealed_bytes(name: &str, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(name, flags),
        other => other,
    };
    sealed(file, bytes)
}

fn sealed(file: Result<OwnedFd, Errno>, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let mut file = std::fs::File::from(file?);
    file.write_all(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let file = OwnedFd::from(file);
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file)
}
