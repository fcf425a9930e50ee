//! Telling containerd that the kernel has killed for lack of memory: as it happens, and once more before an exit is
//! announced, so that whoever hears of the exit has heard of its reason.

use protos::events::TaskOOM;
use runtime_core::cgroup::OomWatch;
use tokio::io::Interest;
use tokio::sync::oneshot;

use crate::events::Events;
use crate::sys;

/// A running watch.
#[derive(Debug)]
pub(crate) struct Watch {
    finish: oneshot::Sender<oneshot::Sender<()>>,
}

impl Watch {
    /// Starts to watch.
    ///
    /// # Errors
    /// The kernel refusing.
    pub(crate) fn start(watch: OomWatch, container: String, events: Events) -> std::io::Result<Self> {
        let watch = sys::watch(watch, Interest::READABLE)?;
        let (finish, asked) = oneshot::channel();
        tokio::spawn(run(watch, container, events, asked));
        Ok(Self { finish })
    }

    /// Announces what there still is to announce, and stops.
    pub(crate) async fn finish(self) {
        let (done, wait) = oneshot::channel();
        if self.finish.send(done).is_ok() {
            // The watch has stopped by itself, with an error that it has logged.
            let _stopped = wait.await;
        }
    }
}

async fn run(
    mut watch: sys::Watch<OomWatch>,
    container: String,
    events: Events,
    mut asked: oneshot::Receiver<oneshot::Sender<()>>,
) {
    loop {
        let last = tokio::select! {
            done = &mut asked => Some(done),
            ready = watch.readable() => match ready {
                Ok(mut ready) => {
                    ready.clear_ready();
                    None
                }
                Err(error) => return log::warn!("container {container}: watch for memory: {error}"),
            },
        };
        match watch.get_mut().take() {
            Ok(0) => {}
            Ok(_) => events.publish(&TaskOOM { container_id: container.clone(), ..TaskOOM::new() }),
            Err(error) if last.is_none() => return log::warn!("container {container}: watch for memory: {error}"),
            // The cgroup may already be gone.
            Err(_) => {}
        }
        if let Some(done) = last {
            if let Ok(done) = done {
                // Whoever asked has given up.
                let _gone = done.send(());
            }
            return;
        }
    }
}
