//! Serving: the socket, who may connect, and when it ends.
//!
//! One thread. It ends when a client asks for it and there are no tasks, on SIGTERM or SIGINT without tasks, and by
//! itself when there are no tasks and nobody has been connected for a while: a shim whose containerd died between
//! starting it and creating something in it is otherwise never heard of again.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use protos::shim_async::create_task;
use protos::ttrpc::r#async::Server;
use protos::ttrpc::asynchronous::transport::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use crate::bootstrap::leave;
use crate::events::Events;
use crate::flags::Verbosity;
use crate::service::Service;
use crate::{logger, orphans};

/// How long a shim without tasks and without clients waits for either.
const LONELY: Duration = Duration::from_secs(60);
/// How long the last events may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// Enough for any verb of the core; the pages that were touched are given back with the thread.
const STACK: usize = 512 << 10;
/// How long a blocking thread waits for more to do.
const KEEP: Duration = Duration::from_millis(50);
/// After a shortage of descriptors.
const SHORTAGE: Duration = Duration::from_millis(100);

/// What a shim serves.
#[derive(Debug)]
pub(crate) struct Serve {
    /// Its socket, listening.
    pub(crate) listener: UnixListener,
    /// Where that is, to be removed at the end.
    pub(crate) socket: PathBuf,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// Where events go.
    pub(crate) events: String,
    /// How much to log.
    pub(crate) verbosity: Verbosity,
    /// For whom it was started.
    pub(crate) id: String,
}

/// Serves until the end. `ready` is called when requests are answered.
///
/// # Errors
/// It could not begin to serve.
pub(crate) fn run(serve: Serve, ready: impl FnOnce()) -> Result<(), String> {
    logger::begin(serve.verbosity);
    let runtime = runtime().map_err(|error| format!("runtime: {error}"))?;
    let served = runtime.block_on(served(serve, ready));
    // A verb that still blocks is cut off with the process: there are no tasks it could be about.
    runtime.shutdown_background();
    served
}

fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_io().enable_time().thread_stack_size(STACK).thread_keep_alive(KEEP).max_blocking_threads(64).build()
}

async fn served(serve: Serve, ready: impl FnOnce()) -> Result<(), String> {
    let says = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(says("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(says("SIGINT"))?;
    let events = Events::to(&serve.events, &serve.namespace);
    let service = Service::new(events.clone(), &serve.namespace, &serve.socket);
    let clients = Clients::default();
    let listener = tokio::net::UnixListener::from_std(serve.listener).map_err(says("listen"))?;
    let door = Door { listener, clients: clients.clone(), reserve: reserve(), pause: None };
    let mut server = Server::new().add_listener(Listener::new(door)).register_service(both(&service));
    server.start().await.map_err(|error| format!("serve: {error}"))?;
    let reaper = tokio::spawn(orphans::reap());
    log::info!("shim of {} in {} serves {}", serve.id, serve.namespace, serve.socket.display());
    ready();

    let (mut ending, count) = (service.ending(), service.count());
    let mut lonely = std::pin::pin!(lonely(service.count(), clients.count()));
    loop {
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => break,
            () = &mut lonely => break,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if *count.borrow() == 0 {
            break;
        }
        log::info!("signal ignored: there are tasks");
    }
    // Who was asked to end has left already, and another shim may be there by now.
    if !*ending.borrow() {
        leave(&serve.socket);
    }
    events.drained(FAREWELL).await;
    reaper.abort();
    Ok(())
}

/// The one service under both names.
fn both(service: &Service) -> HashMap<String, protos::ttrpc::r#async::Service> {
    let mut services = create_task(Arc::new(service.clone()));
    for (name, methods) in create_task(Arc::new(service.clone())) {
        services.insert(name.replace("task.v3", "task.v2"), methods);
    }
    services
}

/// Waits until there have been neither tasks nor clients for [`LONELY`].
async fn lonely(mut tasks: watch::Receiver<usize>, mut clients: watch::Receiver<usize>) {
    loop {
        // The senders outlive this; were they gone, so would be the server.
        let _none = tasks.wait_for(|count| *count == 0).await.is_ok();
        let _nobody = clients.wait_for(|count| *count == 0).await.is_ok();
        tokio::select! {
            () = sleep(LONELY) => return,
            _ = tasks.changed() => {}
            _ = clients.changed() => {}
        }
    }
}

/// How many clients are connected.
#[derive(Debug, Clone, Default)]
struct Clients(Arc<watch::Sender<usize>>);

impl Clients {
    fn count(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }

    fn enter(&self, stream: UnixStream) -> Client {
        self.0.send_modify(|count| *count += 1);
        Client { stream, clients: self.clone() }
    }
}

/// A connected client.
struct Client {
    stream: UnixStream,
    clients: Clients,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.clients.0.send_modify(|count| *count -= 1);
    }
}

/// Lets clients in: processes of this user alone. The socket's mode says so too; this is the second line
/// (CVE-2020-15257).
struct Door {
    listener: tokio::net::UnixListener,
    clients: Clients,
    /// Given up for a moment to let somebody in when there are no descriptors left.
    reserve: Option<std::fs::File>,
    /// After a shortage that the reserve did not help: ttrpc's server asks again at once, and would spin.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Stream for Door {
    type Item = io::Result<Client>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let door = self.get_mut();
        loop {
            if let Some(pause) = &mut door.pause {
                std::task::ready!(pause.as_mut().poll(context));
                door.pause = None;
            }
            match std::task::ready!(door.listener.poll_accept(context)) {
                Ok((stream, _)) if same_user(&stream) => {
                    if door.reserve.is_none() {
                        door.reserve = reserve();
                    }
                    return Poll::Ready(Some(Ok(door.clients.enter(stream))));
                }
                Ok(_) => log::warn!("a client of another user was turned away"),
                Err(error) => {
                    if door.reserve.take().is_none() {
                        log::warn!("accept: {error}");
                        door.pause = Some(Box::pin(sleep(SHORTAGE)));
                    }
                }
            }
        }
    }
}

fn reserve() -> Option<std::fs::File> {
    std::fs::File::open("/dev/null").ok()
}

fn same_user(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw())
}

impl AsyncRead for Client {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
