//! Reaping what is not ours. As a child subreaper the shim inherits what containers that share its pid namespace leave
//! behind; nobody else would reap it.
//!
//! Every process the shim itself made has an owner who waits for exactly that one. A zombie that has no owner is reaped
//! here, but never while a process is being born, for then its owner may not yet have its number.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::signal::unix::{SignalKind, signal};

use crate::sys;

/// Long enough for owners to have reaped theirs; nothing waits for an orphan.
const GRACE: Duration = Duration::from_millis(100);

static KNOWN: Mutex<Known> = Mutex::new(Known { births: 0, owned: BTreeSet::new() });

struct Known {
    births: usize,
    owned: BTreeSet<i32>,
}

fn known() -> std::sync::MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, children may be born whose owner does not yet know them.
#[derive(Debug)]
pub(crate) struct Birth(());

impl Birth {
    /// Children are about to be born.
    #[must_use]
    pub(crate) fn expected() -> Self {
        known().births += 1;
        Self(())
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        known().births -= 1;
    }
}

/// The claim of an owner on a child.
#[derive(Debug)]
pub(crate) struct Owned(i32);

impl Owned {
    /// Claims the child `pid`. Must be made before the [`Birth`] it came from is over.
    #[must_use]
    pub(crate) fn child(pid: i32) -> Self {
        known().owned.insert(pid);
        Self(pid)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        known().owned.remove(&self.0);
    }
}

/// Reaps orphans, for ever.
///
/// # Errors
/// There is no way to hear of children.
pub(crate) async fn reap() -> std::io::Result<()> {
    let mut children = signal(SignalKind::child())?;
    while children.recv().await.is_some() {
        tokio::time::sleep(GRACE).await;
        while let Some(pid) = sys::peek_zombie() {
            if !adopt(pid) {
                // Its owner, or the end of a birth, is near; another zombie may hide behind it.
                tokio::time::sleep(GRACE).await;
            }
        }
    }
    Ok(())
}

/// Reaps `pid` if it is nobody's. The registry stays locked meanwhile, so that no birth can begin in between.
fn adopt(pid: i32) -> bool {
    let known = known();
    if known.births > 0 || known.owned.contains(&pid) {
        return false;
    }
    let Some(number) = Pid::from_raw(pid) else { return false };
    // Somebody else's wait has won: then it is reaped all the same.
    let _status = waitid(WaitId::Pid(number), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    true
}
