//! A task and the disk: a container that is written there, and one that is there until it is started.

use std::sync::{Arc, PoisonError};

use runtime_core::{Checkpoint, Error, Kind, Restoring};

use super::{Deleted, Task};
use crate::decode::CRIU_WORK;
use crate::lifecycle::{Request, allow};
use crate::orphans::Birth;
use crate::stdio;
use crate::work::blocking;

/// A container that is still on disk, and the shim's side of its streams.
#[derive(Debug)]
pub(super) struct OnDisk {
    pub(super) restoring: Box<Restoring>,
    pub(super) streams: stdio::Prepared,
}

impl Task {
    /// Brings the container's processes back. What was half-made is taken away again.
    pub(super) async fn bring_back(self: &Arc<Self>, on_disk: OnDisk) -> Result<(), Error> {
        let birth = Birth::expected();
        let OnDisk { restoring, streams } = on_disk;
        let (container, mut init) = blocking(move || restoring.bring_back()).await?;
        let container = Arc::new(container);
        let connected = streams.connect(init.take_console()).and_then(|io| self.init.born(init, io));
        if let Err(error) = connected {
            blocking(move || container.delete()).await?;
            return Err(error);
        }
        drop(birth);
        if self.container.set(container).is_err() {
            return Err(Error::new(Kind::State, "container restored twice"));
        }
        self.watch();
        Ok(())
    }

    /// Writes the container to disk. CRIU's log is left where it failed.
    ///
    /// # Errors
    /// Refused, or what CRIU could not write.
    pub(crate) async fn checkpoint(self: Arc<Self>, request: Checkpoint) -> Result<(), Error> {
        let _turn = self.gate.lock().await;
        allow(Request::Checkpoint, self.init.progress().state)?;
        let container = self.container()?;
        // What a client has named is the client's.
        let work = request.work.clone().filter(|work| *work == self.bundle.join(CRIU_WORK));
        blocking(move || {
            container.checkpoint(request)?;
            // Its log and statistics are of use to nobody; should they stay, they go with the bundle.
            work.into_iter().for_each(|work| drop(std::fs::remove_dir_all(work)));
            Ok(())
        })
        .await
    }

    /// Takes away a container that was never brought back from disk.
    pub(super) async fn forget(self: Arc<Self>) -> Result<Deleted, Error> {
        let _turn = self.gate.lock().await;
        // A start may have come first.
        allow(Request::Delete, self.init.progress().state)?;
        if self.init.progress().gone {
            return Err(Error::new(Kind::NotFound, "container does not exist"));
        }
        let on_disk = self.on_disk.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(OnDisk { restoring, .. }) = on_disk {
            blocking(move || restoring.give_up()).await?;
        }
        let found = Deleted { pid: 0, exit: None };
        self.announce_delete(&self.init, &found);
        self.init.deleted();
        Ok(found)
    }
}
