//! Events to containerd: one queue for each shim, delivered in order, each retried until containerd has taken it.
//!
//! An event that cannot be delivered keeps its place at the head, so that nothing overtakes it however long containerd is
//! away; the queue is bounded by count. Without an address (CRI-O) nobody listens, and nothing is kept.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use protos::event::Envelope;
use protos::protobuf::{Message, MessageField};
use protos::ttrpc::asynchronous::{Client, transport::Socket};
use protos::ttrpc::proto::{KeyValue, Request};
use protos::ttrpc::{self, Code};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::encode;

/// More than a day of a busy pod; each takes about 200 bytes.
const LIMIT: usize = 100_000;
/// How long containerd may take for one event.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first and the longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A message that is an event.
pub(crate) trait Event: Message {
    /// Its full protobuf name.
    const FULL_NAME: &'static str;
    /// The topic it is published under.
    const TOPIC: &'static str;
}

macro_rules! events {
    ($($message:ident $topic:ident)*) => {
        $(impl Event for protos::events::$message {
            const FULL_NAME: &'static str = concat!("containerd.events.", stringify!($message));
            const TOPIC: &'static str = protos::topics::$topic;
        })*
    };
}

events! {
    TaskCreate TASK_CREATE_EVENT_TOPIC
    TaskStart TASK_START_EVENT_TOPIC
    TaskExit TASK_EXIT_EVENT_TOPIC
    TaskDelete TASK_DELETE_EVENT_TOPIC
    TaskOOM TASK_OOM_EVENT_TOPIC
    TaskExecAdded TASK_EXEC_ADDED_EVENT_TOPIC
    TaskExecStarted TASK_EXEC_STARTED_EVENT_TOPIC
    TaskPaused TASK_PAUSED_EVENT_TOPIC
    TaskResumed TASK_RESUMED_EVENT_TOPIC
}

/// The queue. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct Shared {
    namespace: String,
    queue: Mutex<Queue>,
    /// Something was put in, or the last was taken.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    dropped: u64,
}

#[derive(Debug)]
struct Waiting {
    topic: &'static str,
    /// A `ForwardRequest`, encoded once.
    payload: Arc<[u8]>,
}

impl Events {
    /// A queue whose events go to `address`, from a task of the current runtime.
    #[must_use]
    pub(crate) fn to(address: &str, namespace: &str) -> Self {
        if address.is_empty() {
            return Self { shared: None };
        }
        let shared = Arc::new(Shared { namespace: namespace.into(), queue: Mutex::default(), changed: Notify::new() });
        let url = if address.starts_with("unix://") { address.to_owned() } else { format!("unix://{address}") };
        tokio::spawn(deliver(url, shared.clone()));
        Self { shared: Some(shared) }
    }

    /// Announces `event`, after everything announced before it.
    pub(crate) fn publish<E: Event>(&self, event: &E) {
        let Some(shared) = &self.shared else { return };
        let envelope = Envelope {
            timestamp: encode::time(SystemTime::now()),
            namespace: shared.namespace.clone(),
            topic: E::TOPIC.into(),
            event: MessageField::some(encode::any(E::FULL_NAME, event)),
            ..Envelope::new()
        };
        let mut request = protos::forward::ForwardRequest::new();
        request.envelope = MessageField::some(envelope);
        let payload = request.write_to_bytes().unwrap_or_default().into();
        shared.push(Waiting { topic: E::TOPIC, payload });
    }

    /// Waits until everything is delivered, or until `patience` has run out.
    pub(crate) async fn drained(&self, patience: Duration) {
        let Some(shared) = &self.shared else { return };
        let empty = async {
            loop {
                let changed = shared.changed.notified();
                if shared.len() == 0 {
                    return;
                }
                changed.await;
            }
        };
        if timeout(patience, empty).await.is_err() {
            log::warn!("{} events could not be delivered before the shim ended", shared.len());
        }
    }
}

impl Shared {
    fn push(&self, event: Waiting) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() >= LIMIT {
            // The newest tell most of how things are; the oldest are of tasks that are likely gone.
            let oldest = queue.waiting.pop_front().map_or("", |event| event.topic);
            queue.dropped += 1;
            if queue.dropped.is_power_of_two() {
                log::error!("containerd takes no events; {} dropped, the last of {oldest}", queue.dropped);
            }
        }
        queue.waiting.push_back(event);
        drop(queue);
        self.changed.notify_waiters();
    }

    fn head(&self) -> Option<(&'static str, Arc<[u8]>)> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.front().map(|event| (event.topic, event.payload.clone()))
    }

    /// Takes the head away, if it still is `payload`: a full queue may have dropped it meanwhile.
    fn taken(&self, payload: &Arc<[u8]>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.front().is_some_and(|event| Arc::ptr_eq(&event.payload, payload)) {
            queue.waiting.pop_front();
        }
        if queue.waiting.is_empty() {
            queue.waiting = VecDeque::new();
        }
        drop(queue);
        self.changed.notify_waiters();
    }

    fn len(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).waiting.len()
    }
}

/// Delivers the head of the queue, for ever.
async fn deliver(url: String, shared: Arc<Shared>) {
    let mut line = Line { url, client: None, failing: Cell::new(None) };
    loop {
        let changed = shared.changed.notified();
        let Some((topic, payload)) = shared.head() else {
            changed.await;
            continue;
        };
        let mut pause = PAUSES.0;
        while let Err(why) = line.forward(&shared.namespace, &payload).await {
            if line.refused(&why) {
                log::error!("containerd refuses an event of {topic}: {}", text(&why));
                break;
            }
            line.note_failure(&why);
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
        line.note_success();
        shared.taken(&payload);
    }
}

/// The connection to containerd, made when it is needed.
struct Line {
    url: String,
    client: Option<Client>,
    /// Since when nothing has got through.
    failing: Cell<Option<Instant>>,
}

impl Line {
    async fn forward(&mut self, namespace: &str, payload: &Arc<[u8]>) -> ttrpc::Result<()> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let socket =
                    Socket::connect(&self.url).await.map_err(|error| ttrpc::Error::Socket(error.to_string()))?;
                Client::new(socket)
            }
        };
        let request = Request {
            service: "containerd.services.events.ttrpc.v1.Events".into(),
            method: "Forward".into(),
            payload: payload.to_vec(),
            timeout_nano: i64::try_from(PATIENCE.as_nanos()).unwrap_or(i64::MAX),
            metadata: vec![KeyValue {
                key: "containerd-namespace-ttrpc".into(),
                value: namespace.into(),
                ..KeyValue::new()
            }],
            ..Request::new()
        };
        // A connection on which anything went wrong is not used again.
        client.request(request).await?;
        self.client = Some(client);
        Ok(())
    }

    /// containerd has read the event and will never take it: to insist would hold up all others.
    fn refused(&self, why: &ttrpc::Error) -> bool {
        matches!(why, ttrpc::Error::RpcStatus(status)
            if matches!(status.code(), Code::INVALID_ARGUMENT | Code::UNIMPLEMENTED))
    }

    fn note_failure(&self, why: &ttrpc::Error) {
        if self.failing.get().is_none() {
            self.failing.set(Some(Instant::now()));
            log::warn!("events wait for containerd: {}", text(why));
        }
    }

    fn note_success(&self) {
        if let Some(since) = self.failing.take() {
            log::info!("events are delivered again after {} s", since.elapsed().as_secs());
        }
    }
}

/// An error without the reflection that its `Display` would use.
fn text(error: &ttrpc::Error) -> String {
    match error {
        ttrpc::Error::RpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
