//! What leaves the shim, in containerd's words: errors, times, states, payloads. No message is ever formatted or packed
//! by reflection, which would build its descriptors and keep them.

use std::time::{SystemTime, UNIX_EPOCH};

use protos::protobuf::well_known_types::any::Any;
use protos::protobuf::well_known_types::timestamp::Timestamp;
use protos::protobuf::{Message, MessageField};
use protos::ttrpc::{self, Code};
use protos::types::task::Status;
use runtime_core::{Error, Kind};

use crate::lifecycle::{Refused, Request, State};

/// The status that a kind of error is answered with. A program that cannot be executed and a kernel that refuses are
/// UNKNOWN, as in containerd's own shim: clients read the text.
fn code(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::INVALID_ARGUMENT,
        Kind::NotFound | Kind::Finished => Code::NOT_FOUND,
        Kind::Exists => Code::ALREADY_EXISTS,
        Kind::State => Code::FAILED_PRECONDITION,
        Kind::Unsupported => Code::UNIMPLEMENTED,
        Kind::Timeout => Code::DEADLINE_EXCEEDED,
        _ => Code::UNKNOWN,
    }
}

/// An error as the answer to a request.
#[must_use]
pub(crate) fn status(error: &Error) -> ttrpc::Error {
    ttrpc::error::get_rpc_status(code(error.kind()), error.to_string())
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let kind = match (refused.request, refused.state) {
            (Request::Kill, State::Stopped) => Kind::Finished,
            _ => Kind::State,
        };
        Self::new(kind, refused.to_string())
    }
}

/// A moment, for a message.
#[must_use]
pub(crate) fn time(at: SystemTime) -> MessageField<Timestamp> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    MessageField::some(Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
        ..Timestamp::new()
    })
}

/// A state, for a message.
#[must_use]
pub(crate) fn state(state: State) -> Status {
    match state {
        State::Created => Status::CREATED,
        State::Running => Status::RUNNING,
        State::Pausing => Status::PAUSING,
        State::Paused => Status::PAUSED,
        State::Stopped => Status::STOPPED,
    }
}

/// A message as a payload. `name` is its full name: containerd registers its types without a prefix.
#[must_use]
pub(crate) fn any(name: &str, message: &impl Message) -> Any {
    // Writing to memory fails only for a message that lacks a required field, and proto3 has none.
    Any { type_url: name.into(), value: message.write_to_bytes().unwrap_or_default(), ..Any::new() }
}

/// A process number, for a message; none is 0.
#[must_use]
pub(crate) fn pid(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or_default()
}
