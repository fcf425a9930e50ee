//! The queue against a containerd that comes, goes, refuses and restarts.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use protos::api::Empty;
use protos::events::{TaskExit, TaskOOM};
use protos::forward::ForwardRequest;
use protos::shim_async::{self, create_events};
use protos::ttrpc::r#async::{Server, TtrpcContext};
use protos::ttrpc::asynchronous::transport::Listener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;

/// A containerd that notes what it takes; each id in `moody` is first answered that many times with an error.
struct Fake {
    taken: UnboundedSender<String>,
    moody: Mutex<HashMap<String, (u32, Code)>>,
}

#[async_trait]
impl shim_async::Events for Fake {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let any = request.envelope.event.clone().unwrap_or_default();
        assert_eq!(request.envelope.namespace, "ns");
        let id = TaskOOM::parse_from_bytes(&any.value).unwrap().container_id;
        if let Some((times, code)) = self.moody.lock().unwrap().get_mut(&id)
            && *times > 0
        {
            *times -= 1;
            return Err(ttrpc::error::get_rpc_status(*code, "moody"));
        }
        self.taken.send(id).unwrap();
        Ok(Empty::new())
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn containerd(path: &Path, moody: &[(&str, u32, Code)]) -> (Server, UnboundedReceiver<String>) {
    let (sender, receiver) = unbounded_channel();
    let moody = moody.iter().map(|(id, times, code)| ((*id).to_owned(), (*times, *code))).collect();
    let fake = Arc::new(Fake { taken: sender, moody: Mutex::new(moody) });
    let _stale = std::fs::remove_file(path);
    let listener = Listener::bind(format!("unix://{}", path.display())).unwrap();
    let mut server = Server::new().add_listener(listener).register_service(create_events(fake));
    server.start().await.unwrap();
    (server, receiver)
}

fn publish(events: &Events, ids: &[&str]) {
    for id in ids {
        events.publish(&TaskOOM { container_id: (*id).to_owned(), ..TaskOOM::new() });
    }
}

async fn expect(receiver: &mut UnboundedReceiver<String>, ids: &[&str]) {
    for id in ids {
        let taken = timeout(Duration::from_secs(10), receiver.recv()).await.unwrap().unwrap();
        assert_eq!(taken, *id);
    }
}

#[test]
fn the_order_survives_an_absent_and_a_restarted_containerd() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    runtime().block_on(async {
        let events = Events::to(path.to_str().unwrap(), "ns");
        publish(&events, &["1", "2", "3"]);
        sleep(Duration::from_millis(120)).await;
        let (mut server, mut receiver) = containerd(&path, &[]).await;
        expect(&mut receiver, &["1", "2", "3"]).await;
        events.drained(Duration::from_secs(5)).await;
        server.shutdown().await.unwrap();
        drop(server);
        publish(&events, &["4", "5"]);
        sleep(Duration::from_millis(50)).await;
        publish(&events, &["6"]);
        let (_server, mut receiver) = containerd(&path, &[]).await;
        expect(&mut receiver, &["4", "5", "6"]).await;
    });
}

#[test]
fn a_failure_holds_the_queue_and_a_refusal_does_not() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s");
    runtime().block_on(async {
        let moody = [("2", 3, Code::UNAVAILABLE), ("4", 1000, Code::INVALID_ARGUMENT)];
        let (_server, mut receiver) = containerd(&path, &moody).await;
        let events = Events::to(&format!("unix://{}", path.display()), "ns");
        publish(&events, &["1", "2", "3", "4", "5"]);
        expect(&mut receiver, &["1", "2", "3", "5"]).await;
    });
}

#[test]
fn without_an_address_nothing_is_kept() {
    runtime().block_on(async {
        let events = Events::to("", "ns");
        publish(&events, &["1"]);
        events.drained(Duration::from_secs(60)).await;
    });
}

#[test]
fn the_queue_is_bounded_and_keeps_the_newest() {
    runtime().block_on(async {
        let events = Events::to("/nonexistent/socket", "ns");
        for _ in 0..LIMIT + 5 {
            events.publish(&TaskExit::new());
        }
        publish(&events, &["last"]);
        let shared = events.shared.unwrap();
        let queue = shared.queue.lock().unwrap();
        assert_eq!((queue.waiting.len(), queue.dropped), (LIMIT, 6));
        assert_eq!(queue.waiting.back().unwrap().topic, "/tasks/oom");
    });
}
