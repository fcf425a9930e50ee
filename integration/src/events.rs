//! containerd's event stream, recorded in the order it comes. Judging the order is left to the tests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use containerd_client::events as event;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use prost::Message;
use prost_types::{Any, Timestamp};

use crate::Client;

/// What an event tells of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// `/tasks/create` with init's number.
    Create(u32),
    /// `/tasks/start` with init's number.
    Start(u32),
    /// `/tasks/exit` of init (no exec id) or of an exec.
    Exit {
        /// The exec's id, or the container's for init.
        id: String,
        /// Its number.
        pid: u32,
        /// Its exit code.
        code: u32,
    },
    /// `/tasks/delete`, with the exec's id where there is one.
    Delete(String),
    /// `/tasks/exec-added`.
    ExecAdded(String),
    /// `/tasks/exec-started` with the exec's number.
    ExecStarted(String, u32),
    /// `/tasks/oom`.
    Oom,
    /// `/tasks/paused`.
    Paused,
    /// `/tasks/resumed`.
    Resumed,
}

/// An event of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The container's id.
    pub container: String,
    /// What happened.
    pub what: Happening,
    /// When the process had ended, of an exit.
    pub ended: Option<Timestamp>,
    /// When it reached us.
    pub seen: Instant,
}

/// A running subscription.
#[derive(Debug)]
pub struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
    task: tokio::task::JoinHandle<()>,
}

const READY: &str = "/tests/ready";

impl Recorder {
    /// Subscribes, and returns once the subscription is known to deliver.
    ///
    /// # Errors
    /// When containerd does not deliver an event of our own within five seconds.
    pub async fn start(client: &Client) -> Result<Self> {
        let events = Arc::new(Mutex::new(Vec::new()));
        let (ready, mut is_ready) = tokio::sync::watch::channel(());
        let (mut stream, request) = (EventsClient::new(client.channel()), client.request(SubscribeRequest::default()));
        let recorded = Arc::clone(&events);
        let namespace = client.daemon.namespace().to_owned();
        let task = tokio::spawn(async move {
            let Ok(answer) = stream.subscribe(request).await else { return };
            let mut envelopes = answer.into_inner();
            while let Ok(Some(envelope)) = envelopes.message().await {
                if envelope.topic == READY {
                    let _ = ready.send(());
                } else if envelope.namespace == namespace
                    && let Some(event) = decode(&envelope)
                {
                    lock(&recorded).push(event);
                }
            }
        });
        let recorder = Self { events, task };
        for _ in 0..100 {
            announce(client).await?;
            let heard = tokio::time::timeout(Duration::from_millis(50), is_ready.changed()).await;
            if heard.is_ok_and(|changed| changed.is_ok()) {
                return Ok(recorder);
            }
        }
        bail!("no event came through the subscription")
    }

    /// Everything so far.
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    /// What happened to one container so far.
    #[must_use]
    pub fn of(&self, container: &str) -> Vec<Happening> {
        lock(&self.events).iter().filter(|event| event.container == container).map(|event| event.what.clone()).collect()
    }

    /// Waits until something has happened to a container.
    ///
    /// # Errors
    /// When it does not happen in that many seconds; what did happen is in the error.
    pub async fn expect(&self, seconds: u64, container: &str, is: impl Fn(&Happening) -> bool) -> Result<Happening> {
        if until(seconds, || self.of(container).iter().any(&is)).await.is_err() {
            bail!("expected event of {container} did not come, only {:?}", self.of(container));
        }
        self.of(container).into_iter().find(is).ok_or_else(|| anyhow::anyhow!("the event is gone again"))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn announce(client: &Client) -> Result<()> {
    // containerd wants a type it can name; an empty create event on our own topic is one.
    let event = Any { type_url: "containerd.events.TaskCreate".to_owned(), value: Vec::new() };
    let request = PublishRequest { topic: READY.to_owned(), event: Some(event) };
    EventsClient::new(client.channel()).publish(client.request(request)).await?;
    Ok(())
}

fn decode(envelope: &Envelope) -> Option<Event> {
    let mut ended = None;
    let bytes = envelope.event.as_ref()?.value.as_slice();
    let (container, what) = match envelope.topic.as_str() {
        "/tasks/create" => event::TaskCreate::decode(bytes).ok().map(|e| (e.container_id, Happening::Create(e.pid)))?,
        "/tasks/start" => event::TaskStart::decode(bytes).ok().map(|e| (e.container_id, Happening::Start(e.pid)))?,
        "/tasks/exit" => {
            let exit = event::TaskExit::decode(bytes).ok()?;
            ended = exit.exited_at;
            (exit.container_id, Happening::Exit { id: exit.id, pid: exit.pid, code: exit.exit_status })
        }
        "/tasks/delete" => event::TaskDelete::decode(bytes).ok().map(|e| (e.container_id, Happening::Delete(e.id)))?,
        "/tasks/exec-added" => {
            event::TaskExecAdded::decode(bytes).ok().map(|e| (e.container_id, Happening::ExecAdded(e.exec_id)))?
        }
        "/tasks/exec-started" => event::TaskExecStarted::decode(bytes)
            .ok()
            .map(|e| (e.container_id, Happening::ExecStarted(e.exec_id, e.pid)))?,
        "/tasks/oom" => event::TaskOom::decode(bytes).ok().map(|e| (e.container_id, Happening::Oom))?,
        "/tasks/paused" => event::TaskPaused::decode(bytes).ok().map(|e| (e.container_id, Happening::Paused))?,
        "/tasks/resumed" => event::TaskResumed::decode(bytes).ok().map(|e| (e.container_id, Happening::Resumed))?,
        _ => return None,
    };
    Some(Event { container, what, ended, seen: Instant::now() })
}

/// Polls until something holds.
///
/// # Errors
/// When it does not hold after that many seconds.
pub async fn until(seconds: u64, holds: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + crate::pace::patience(Duration::from_secs(seconds));
    while !holds() {
        if Instant::now() > deadline {
            bail!("not within {seconds} s");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
