//! The Task API: each method decodes, does, encodes. The same service answers as `containerd.task.v2.Task` and
//! `containerd.task.v3.Task`, whose messages are the same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use protos::api;
use protos::events::{TaskCreate, TaskIO};
use protos::protobuf::MessageField;
use protos::protobuf::well_known_types::any::Any;
use protos::shim_async;
use protos::ttrpc;
use protos::ttrpc::r#async::TtrpcContext;
use runtime_core::{
    CgroupDriver, Container, Create, CriuOptions, Error, Kind, Restore, Restoring, RootfsMount, Stdio, oci,
};
use tokio::sync::watch;

use crate::bootstrap::leave;
use crate::decode::{self, CRIU_WORK};
use crate::encode;
use crate::events::Events;
use crate::options::{self, Options};
use crate::orphans::Birth;
use crate::process::Process;
use crate::root;
use crate::stats;
use crate::stdio::{self, Owner, Streams};
use crate::task::Task;
use crate::work::{blocking, whole};

/// The service. Clones share the tasks.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    tasks: Arc<Mutex<HashMap<String, Slot>>>,
    /// How many tasks there are, for those that wait for there to be none.
    count: Arc<watch::Sender<usize>>,
    /// Set once a client has asked for the end.
    ending: Arc<watch::Sender<bool>>,
    events: Events,
    namespace: String,
    /// Where clients find this shim.
    socket: Arc<Path>,
}

/// What an id stands for.
#[derive(Debug)]
enum Slot {
    /// A container is being made.
    Coming,
    /// A task.
    Here(Arc<Task>),
}

impl Service {
    /// A service without tasks.
    #[must_use]
    pub(crate) fn new(events: Events, namespace: &str, socket: &Path) -> Self {
        Self {
            tasks: Arc::default(),
            count: Arc::new(watch::Sender::new(0)),
            ending: Arc::new(watch::Sender::new(false)),
            events,
            namespace: namespace.into(),
            socket: socket.into(),
        }
    }

    /// How many tasks there are, now and from now on.
    #[must_use]
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Whether a client has asked for the end.
    #[must_use]
    pub(crate) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self, id: &str) -> Result<Arc<Task>, Error> {
        match self.tasks().get(id) {
            Some(Slot::Here(task)) => Ok(task.clone()),
            _ => Err(Error::new(Kind::NotFound, "container not created")),
        }
    }

    /// Holds the id of a container that is about to be made.
    fn reserve(&self, id: &str) -> Result<Reserved, Error> {
        let mut tasks = self.tasks();
        if tasks.contains_key(id) {
            return Err(Error::new(Kind::Exists, format!("task {id} already exists")));
        }
        tasks.insert(id.to_owned(), Slot::Coming);
        self.count.send_replace(tasks.len());
        Ok(Reserved { service: self.clone(), id: id.to_owned() })
    }

    fn forget(&self, id: &str) {
        let mut tasks = self.tasks();
        tasks.remove(id);
        self.count.send_replace(tasks.len());
    }

    async fn make(self, request: api::CreateTaskRequest) -> Result<u32, Error> {
        let reserved = self.reserve(&request.id)?;
        let options = options::read(&request.options.clone().unwrap_or_default())?;
        let streams = Streams {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let owner = Owner {
            namespace: self.namespace.clone(),
            container: request.id.clone(),
            bundle: PathBuf::from(&request.bundle),
            uid: options.io_uid,
            gid: options.io_gid,
        };
        let birth = Birth::expected();
        let (stdio, prepared) = stdio::open(&streams, &owner).await?;
        let (id, namespace, rootfs) = (request.id.clone(), self.namespace.clone(), rootfs(&request.rootfs));
        let bundle = owner.bundle.clone();
        let checkpoint = (!request.checkpoint.is_empty()).then(|| PathBuf::from(&request.checkpoint));
        let made = blocking(move || {
            let create = asked(&options, &namespace, &id, &bundle, stdio)?;
            if !rootfs.is_empty() {
                decode::folder(&bundle.join("rootfs"))?;
            }
            let create = Create { rootfs, ..create };
            let made = match checkpoint {
                None => Container::create(create).map(|(container, init)| Made::Born(Box::new(container), init)),
                Some(images) => Restoring::prepare(restored(create, images, &options))
                    .map(|restoring| Made::OnDisk(Box::new(restoring))),
            };
            made.inspect_err(|_| drop(root::unlink(&bundle)))
        });
        let made = made.await.map_err(|error| error.during("OCI runtime create failed"))?;
        let process = Arc::new(Process::new(&request.id, "", streams));
        let task = match made {
            Made::OnDisk(restoring) => Task::on_disk(restoring, prepared, process, owner, self.events.clone()),
            Made::Born(container, mut init) => {
                let console = init.take_console();
                let connected = prepared.connect(console).and_then(|io| process.born(init, io));
                if let Err(error) = connected {
                    return Err(undone(*container, error).await);
                }
                Task::new(*container, process, owner, self.events.clone())
            }
        };
        drop(birth);
        let pid = encode::pid(task.init.pid());
        self.events.publish(&created(request, pid));
        task.watch();
        reserved.fill(task);
        Ok(pid)
    }

    async fn remove(self, id: String, exec: String) -> Result<api::DeleteResponse, Error> {
        let task = self.task(&id)?;
        let found = if exec.is_empty() {
            let bundle = task.bundle.clone();
            let found = task.delete().await?;
            self.forget(&id);
            root::unlink(&bundle)?;
            found
        } else {
            task.delete_exec(exec).await?
        };
        let mut response = api::DeleteResponse::new();
        response.pid = encode::pid(found.pid);
        if let Some(exit) = found.exit {
            response.exit_status = exit.status.number();
            response.exited_at = encode::time(exit.at);
        }
        Ok(response)
    }

    fn state_of(&self, request: &api::StateRequest) -> Result<api::StateResponse, Error> {
        let task = self.task(&request.id)?;
        let process = task.process(&request.exec_id)?;
        let exit = process.progress().exit;
        Ok(api::StateResponse {
            id: if request.exec_id.is_empty() { request.id.clone() } else { request.exec_id.clone() },
            bundle: task.bundle.display().to_string(),
            pid: encode::pid(process.pid()),
            status: encode::state(task.state_of(&process)).into(),
            stdin: process.streams.stdin.clone(),
            stdout: process.streams.stdout.clone(),
            stderr: process.streams.stderr.clone(),
            terminal: process.streams.terminal,
            exit_status: exit.map_or(0, |exit| exit.status.number()),
            exited_at: exit.map(|exit| encode::time(exit.at)).unwrap_or_default(),
            exec_id: request.exec_id.clone(),
            ..api::StateResponse::new()
        })
    }
}

/// An id that is held for a container being made; given up again unless it is filled.
struct Reserved {
    service: Service,
    id: String,
}

impl Reserved {
    fn fill(self, task: Arc<Task>) {
        self.service.tasks().insert(self.id.clone(), Slot::Here(task));
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let coming = matches!(self.service.tasks().get(&self.id), Some(Slot::Coming));
        if coming {
            self.service.forget(&self.id);
        }
    }
}

/// What a Create has made.
enum Made {
    /// A container whose init waits to be started.
    Born(Box<Container>, runtime_core::Process),
    /// One whose processes are on disk until it is started.
    OnDisk(Box<Restoring>),
}

/// What the core is asked for, but for the rootfs.
fn asked(options: &Options, namespace: &str, id: &str, bundle: &Path, stdio: Stdio) -> Result<Create, Error> {
    let spec = runtime_core::read_spec(bundle)?;
    root::link(&options.root, namespace, id, bundle)?;
    Ok(Create {
        no_pivot: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
        cgroup_driver: match options.systemd_cgroup {
            true => CgroupDriver::Systemd,
            false => CgroupDriver::Cgroupfs,
        },
        ..Create::new(id, bundle.to_path_buf(), spec, bundle.to_path_buf(), stdio)
    })
}

/// The same, brought back from disk. containerd has no other choices for a restore.
fn restored(create: Create, images: PathBuf, options: &Options) -> Restore {
    let named = Some(&options.criu_work_path).filter(|path| !path.as_os_str().is_empty());
    let work = named.cloned().unwrap_or_else(|| create.bundle.join(CRIU_WORK));
    let criu = CriuOptions::default();
    Restore { create, images, work: Some(work), lsm_profile: None, lsm_mount_context: None, options: criu }
}

/// Takes away a container whose streams could not be connected; the error stays the one to report.
async fn undone(container: Container, error: Error) -> Error {
    match blocking(move || container.delete()).await {
        Ok(()) => error,
        Err(left) => error.during(format!("(and then {left})")),
    }
}

fn rootfs(mounts: &[protos::types::mount::Mount]) -> Vec<RootfsMount> {
    let mount = |mount: &protos::types::mount::Mount| RootfsMount {
        kind: mount.type_.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    };
    mounts.iter().map(mount).collect()
}

fn created(request: api::CreateTaskRequest, pid: u32) -> TaskCreate {
    let io = TaskIO {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
        ..TaskIO::new()
    };
    TaskCreate {
        container_id: request.id,
        bundle: request.bundle,
        rootfs: request.rootfs,
        io: MessageField::some(io),
        checkpoint: request.checkpoint,
        pid,
        ..TaskCreate::new()
    }
}

/// Answers with what was done, or with the status of the error, which is logged here and nowhere else.
fn answer<T>(method: &str, id: &str, result: Result<T, Error>) -> ttrpc::Result<T> {
    result.map_err(|error| {
        log::debug!("{method} {id}: {error}");
        encode::status(&error)
    })
}

fn empty<T>(_: T) -> api::Empty {
    api::Empty::new()
}

#[async_trait]
impl shim_async::Task for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: api::CreateTaskRequest,
    ) -> ttrpc::Result<api::CreateTaskResponse> {
        let (service, id) = (self.clone(), request.id.clone());
        let pid = answer("create", &id, whole(service.make(request)).await)?;
        Ok(api::CreateTaskResponse { pid, ..api::CreateTaskResponse::new() })
    }

    async fn start(&self, _: &TtrpcContext, request: api::StartRequest) -> ttrpc::Result<api::StartResponse> {
        let started = async {
            let task = self.task(&request.id)?;
            match request.exec_id.as_str() {
                "" => whole(task.start()).await,
                exec => whole(task.start_exec(exec.to_owned())).await,
            }
        };
        let pid = encode::pid(answer("start", &request.id, started.await)?);
        Ok(api::StartResponse { pid, ..api::StartResponse::new() })
    }

    async fn delete(&self, _: &TtrpcContext, request: api::DeleteRequest) -> ttrpc::Result<api::DeleteResponse> {
        let removed = whole(self.clone().remove(request.id.clone(), request.exec_id)).await;
        answer("delete", &request.id, removed)
    }

    async fn exec(&self, _: &TtrpcContext, request: api::ExecProcessRequest) -> ttrpc::Result<api::Empty> {
        let added = || {
            let task = self.task(&request.id)?;
            let spec = decode::process(&request)?;
            let streams = Streams {
                stdin: request.stdin.clone(),
                stdout: request.stdout.clone(),
                stderr: request.stderr.clone(),
                terminal: request.terminal,
            };
            task.add_exec(&request.exec_id, streams, spec)
        };
        answer("exec", &request.id, added()).map(empty)
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: api::ResizePtyRequest) -> ttrpc::Result<api::Empty> {
        let resized = || {
            let (width, height) = (decode::cells(request.width)?, decode::cells(request.height)?);
            self.task(&request.id)?.resize(&request.exec_id, width, height)
        };
        answer("resize", &request.id, resized()).map(empty)
    }

    async fn state(&self, _: &TtrpcContext, request: api::StateRequest) -> ttrpc::Result<api::StateResponse> {
        answer("state", &request.id, self.state_of(&request))
    }

    async fn pause(&self, _: &TtrpcContext, request: api::PauseRequest) -> ttrpc::Result<api::Empty> {
        let paused = async { whole(self.task(&request.id)?.pause()).await };
        answer("pause", &request.id, paused.await).map(empty)
    }

    async fn resume(&self, _: &TtrpcContext, request: api::ResumeRequest) -> ttrpc::Result<api::Empty> {
        let resumed = async { whole(self.task(&request.id)?.resume()).await };
        answer("resume", &request.id, resumed.await).map(empty)
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> ttrpc::Result<api::Empty> {
        let killed = async {
            let signal = decode::signal(request.signal)?;
            let task = self.task(&request.id)?;
            let asked = request.clone();
            whole(async move { task.kill(decode::target(&asked), signal).await }).await
        };
        answer("kill", &request.id, killed.await).map(empty)
    }

    async fn pids(&self, _: &TtrpcContext, request: api::PidsRequest) -> ttrpc::Result<api::PidsResponse> {
        let pids = async { self.task(&request.id)?.pids().await };
        let processes = answer("pids", &request.id, pids.await)?.into_iter().map(listed).collect();
        Ok(api::PidsResponse { processes, ..api::PidsResponse::new() })
    }

    async fn close_io(&self, _: &TtrpcContext, request: api::CloseIORequest) -> ttrpc::Result<api::Empty> {
        let process = self.task(&request.id).and_then(|task| task.process(&request.exec_id));
        let closed = process.map(|process| process.with_io(stdio::Io::close_stdin));
        answer("close stdin", &request.id, closed).map(empty)
    }

    async fn checkpoint(&self, _: &TtrpcContext, request: api::CheckpointTaskRequest) -> ttrpc::Result<api::Empty> {
        let written = async {
            let task = self.task(&request.id)?;
            let asked = decode::checkpoint(&request, &task.bundle)?;
            whole(task.checkpoint(asked)).await
        };
        answer("checkpoint", &request.id, written.await).map(empty)
    }

    async fn update(&self, _: &TtrpcContext, request: api::UpdateTaskRequest) -> ttrpc::Result<api::Empty> {
        let updated = async {
            let task = self.task(&request.id)?;
            let resources: oci::LinuxResources = decode::json(&request.resources.clone().unwrap_or_default())?;
            whole(task.update(resources)).await
        };
        answer("update", &request.id, updated.await).map(empty)
    }

    async fn wait(&self, _: &TtrpcContext, request: api::WaitRequest) -> ttrpc::Result<api::WaitResponse> {
        let waited = async {
            let process = self.task(&request.id)?.process(&request.exec_id)?;
            let gone = || Error::new(Kind::NotFound, format!("process does not exist {}", request.exec_id));
            process.exit().await.ok_or_else(gone)
        };
        let exit = answer("wait", &request.id, waited.await)?;
        let (exit_status, exited_at) = (exit.status.number(), encode::time(exit.at));
        Ok(api::WaitResponse { exit_status, exited_at, ..api::WaitResponse::new() })
    }

    async fn stats(&self, _: &TtrpcContext, request: api::StatsRequest) -> ttrpc::Result<api::StatsResponse> {
        let stats = async { self.task(&request.id)?.stats().await };
        let stats = stats::encode(&answer("stats", &request.id, stats.await)?);
        Ok(api::StatsResponse { stats: MessageField::some(stats), ..api::StatsResponse::new() })
    }

    async fn connect(&self, _: &TtrpcContext, request: api::ConnectRequest) -> ttrpc::Result<api::ConnectResponse> {
        Ok(api::ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: self.task(&request.id).map_or(0, |task| encode::pid(task.init.pid())),
            version: env!("CARGO_PKG_VERSION").into(),
            ..api::ConnectResponse::new()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: api::ShutdownRequest) -> ttrpc::Result<api::Empty> {
        // `now` is ignored, as ever: containers are not ended by an impatient client of the shim.
        if self.tasks().is_empty() {
            // Before the answer: whoever has it may start a shim of this name at once, and must not find this one.
            leave(&self.socket);
            self.ending.send_replace(true);
        }
        Ok(api::Empty::new())
    }
}

/// One process, for a message.
fn listed((pid, exec): (i32, Option<String>)) -> protos::types::task::ProcessInfo {
    let details = |exec_id| protos::runc::ProcessDetails { exec_id, ..protos::runc::ProcessDetails::new() };
    let info: Option<Any> = exec.map(|exec| encode::any("containerd.runc.v1.ProcessDetails", &details(exec)));
    protos::types::task::ProcessInfo { pid: encode::pid(pid), info: info.into(), ..Default::default() }
}
