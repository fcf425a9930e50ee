//! `delete`: cleaning up after a container whose shim may be dead. containerd runs it at every normal removal too, so
//! that finding nothing must be quick.

use std::io::Write;
use std::time::SystemTime;

use protos::api::DeleteResponse;
use protos::protobuf::Message;

use crate::flags::Flags;
use crate::{bootstrap, encode, root};

/// What is answered for a container whose end nobody saw: as if SIGKILL had ended it, which is what happens now.
const KILLED: u32 = 137;

/// Cleans up, and prints what is known of the container's end.
///
/// # Errors
/// What could not be taken away.
pub(crate) fn delete(flags: &Flags) -> Result<(), String> {
    let bundle = bootstrap::bundle(flags)?;
    let removed = runtime_core::remove(&bundle).map_err(|error| error.to_string())?;
    root::unlink(&bundle).map_err(|error| error.to_string())?;
    if let Some(socket) = bootstrap::known_socket(&bundle) {
        bootstrap::remove_stale(&socket);
    }
    let exit = removed.and_then(|removed| removed.exit);
    let response = DeleteResponse {
        pid: encode::pid(removed.map_or(0, |removed| removed.pid)),
        exit_status: exit.map_or(KILLED, |(status, _)| status.number()),
        exited_at: encode::time(exit.map_or_else(SystemTime::now, |(_, at)| at)),
        ..DeleteResponse::new()
    };
    let bytes = response.write_to_bytes().map_err(|error| error.to_string())?;
    std::io::stdout().write_all(&bytes).map_err(|error| format!("write the answer: {error}"))
}
