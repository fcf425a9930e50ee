//! Asking what may never answer. A file system of a container's own (FUSE) decides when a lookup in it ends, and whoever
//! looks from outside would wait as long: a thread looks, and is left behind when its time is up. The kernel lets it go
//! with the file system, or with this process.

use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::{Error, Kind};

/// How long a lookup may take: a slow network file system passes.
pub(crate) const LOOKUP: Duration = Duration::from_secs(10);
/// How many threads may be left behind before nobody is asked any more: a container must not fill this process with them.
const MOST: usize = 8;

static LEFT_BEHIND: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// What `work` returns, if that is within `limit`.
///
/// # Errors
/// [`Kind::Timeout`] when it is not, or when too many before it still hang.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let hanging = {
        let mut left = LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|thread| !thread.is_finished());
        left.len()
    };
    if hanging >= MOST {
        return Err(Error::new(Kind::Timeout, format!("{what}: {hanging} others hang in a container's file system")));
    }
    let (tell, hear) = mpsc::sync_channel(1);
    // Nobody hears it any more when it is late.
    let thread = Builder::new().spawn(move || drop(tell.send(work())));
    let thread = thread.map_err(|error| Error::io(format!("start a thread to {what}"), &error))?;
    match hear.recv_timeout(limit) {
        Ok(answer) => Ok(answer),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::new(Kind::System, format!("{what}: no answer"))),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
            let what = format!("{what}: no answer within {limit:?}: the container's file system hangs");
            Err(Error::new(Kind::Timeout, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::{Duration, Kind, MOST, within};

    #[test]
    fn what_does_not_answer_is_left_behind_and_not_too_often() {
        let short = Duration::from_millis(1);
        let mut held = Vec::new();
        for _ in 0..MOST {
            let (end, wait) = channel::<()>();
            held.push(end);
            let error = within(short, "look", move || wait.recv()).unwrap_err();
            assert_eq!(error.kind(), Kind::Timeout);
            assert!(error.to_string().contains("no answer within 1ms"), "{error}");
        }
        let error = within(Duration::from_secs(60), "look", || 7).unwrap_err();
        assert!(error.to_string().contains("8 others hang"), "{error}");
        drop(held);
        // They end when what they wait for does.
        while let Err(error) = within(Duration::from_secs(60), "look", || 7) {
            assert_eq!(error.kind(), Kind::Timeout);
            std::thread::yield_now();
        }
    }
}
