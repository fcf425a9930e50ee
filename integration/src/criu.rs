//! A CRIU that works on this kernel, for the runtimes to find.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The CRIU that `scripts/peers` has unpacked, or the system's; CRIU on its own says whether this kernel is enough.
///
/// # Errors
/// Why there is none.
pub fn criu() -> Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

fn find() -> Result<PathBuf, String> {
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers/criu-4.2/bin/criu");
    let mut wrong = Vec::new();
    for program in [peer, PathBuf::from("/usr/sbin/criu")] {
        match Command::new(&program).arg("check").output() {
            Ok(output) if output.status.success() => return Ok(program),
            Ok(output) => {
                wrong.push(format!("{} check: {}", program.display(), String::from_utf8_lossy(&output.stderr)))
            }
            Err(error) => wrong.push(format!("{}: {error}", program.display())),
        }
    }
    Err(wrong.join("; "))
}

/// Says that a test needs CRIU: `true` when the test shall return at once.
#[must_use]
pub fn skip_without_criu() -> bool {
    let missing = criu().err();
    if let Some(why) = &missing {
        eprintln!("SKIPPED: {why}");
    }
    missing.is_some()
}
