//! How the shim's one thread does what takes longer than it may: on a thread that goes away again, and to the end, even
//! when the client that asked has gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runtime_core::{Error, Kind};

use crate::orphans::Birth;
use crate::sys;

/// After this much quiet, free memory is given back.
const QUIET: Duration = Duration::from_millis(500);

static SETTLING: AtomicBool = AtomicBool::new(false);

/// Runs a verb of the core. It may have children of its own (hooks), which it reaps.
///
/// # Errors
/// What `verb` says, or that it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    verb: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let birth = Birth::expected();
    let done = tokio::task::spawn_blocking(move || {
        let result = verb();
        drop(birth);
        result
    });
    done.await.unwrap_or_else(|error| Err(Error::new(Kind::System, format!("internal error: {error}"))))
}

/// Runs a request to its end: ttrpc drops a request whose connection closes or whose time is up, and half a Create is
/// nothing that anybody could clean up.
///
/// # Errors
/// What `request` says, or that it panicked.
pub(crate) async fn whole<T: Send + 'static>(
    request: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::spawn(request).await;
    settle();
    done.unwrap_or_else(|error| Err(Error::new(Kind::System, format!("internal error: {error}"))))
}

/// Gives free memory back once nothing has happened for a while.
fn settle() {
    if !SETTLING.swap(true, Ordering::Relaxed) {
        tokio::spawn(async {
            tokio::time::sleep(QUIET).await;
            SETTLING.store(false, Ordering::Relaxed);
            sys::trim_heap();
        });
    }
}
