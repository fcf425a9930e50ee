//! The stub, held once per process in a sealed memfd. The kernel executes it from there, so that neither the runtime's
//! binary nor its memory is ever visible in a container (CVE-2019-5736, CVE-2016-9962).

use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use crate::Error;

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tare-init"));
static STUB: OnceLock<OwnedFd> = OnceLock::new();

/// The stub's descriptor.
pub(crate) fn stub() -> Result<BorrowedFd<'static>, Error> {
    if let Some(stub) = STUB.get() {
        return Ok(stub.as_fd());
    }
    crate::sys::harden()?;
    // MFD_EXEC says what is meant; kernels before 6.3 do not know it, and need not be told.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let stub = match memfd_create("tare-init", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("tare-init", flags),
        other => other,
    };
    let stub = sealed(stub, PROGRAM).map_err(|errno| Error::system("hold the stub in an executable memfd", errno))?;
    Ok(STUB.get_or_init(|| stub).as_fd())
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
