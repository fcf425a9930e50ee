//! A task and its execs: the Task API as containerd's clients see it, each refusal left as the status it came in.

use std::ops::Deref;
use std::time::Duration;

use anyhow::Context;
use containerd_client::services::v1 as api;
use containerd_client::types::Descriptor;
use containerd_client::types::v1::{Process as State, Status as Phase};
use prost_types::{Any, Timestamp};
use serde_json::Value;

use crate::client::json_any;
use crate::stdio::Pipes;
use crate::{Client, Container, Output, Status, Stdio};

/// A process of a container: its init (empty exec id) or an exec.
#[derive(Debug, Clone)]
pub struct Process {
    client: Client,
    /// The container's id.
    pub id: String,
    /// The exec's id; empty for init.
    pub exec_id: String,
}

/// An ended process, as Delete reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its number.
    pub pid: u32,
    /// Its exit code.
    pub code: u32,
    /// When it ended.
    pub at: Option<Timestamp>,
}

impl Process {
    /// Starts it, and says its number.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn start(&self) -> Result<u32, Status> {
        let request = api::StartRequest { container_id: self.id.clone(), exec_id: self.exec_id.clone() };
        Ok(self.client.tasks().start(self.client.request(request)).await?.into_inner().pid)
    }

    /// Waits for its end, and says its exit code.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn wait(&self) -> Result<u32, Status> {
        let request = api::WaitRequest { container_id: self.id.clone(), exec_id: self.exec_id.clone() };
        Ok(self.client.tasks().wait(self.client.request(request)).await?.into_inner().exit_status)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn kill(&self, signal: u32) -> Result<(), Status> {
        let request = api::KillRequest {
            container_id: self.id.clone(),
            exec_id: self.exec_id.clone(),
            signal,
            ..Default::default()
        };
        self.client.tasks().kill(self.client.request(request)).await?;
        Ok(())
    }

    /// What the shim says of it.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn state(&self) -> Result<State, Status> {
        let request = api::GetRequest { container_id: self.id.clone(), exec_id: self.exec_id.clone() };
        let answer = self.client.tasks().get(self.client.request(request)).await?.into_inner();
        answer.process.ok_or_else(|| Status::internal("no process in the answer"))
    }

    /// Only its status.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn phase(&self) -> Result<Phase, Status> {
        Ok(self.state().await?.status())
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn resize(&self, width: u32, height: u32) -> Result<(), Status> {
        let request =
            api::ResizePtyRequest { container_id: self.id.clone(), exec_id: self.exec_id.clone(), width, height };
        self.client.tasks().resize_pty(self.client.request(request)).await?;
        Ok(())
    }

    /// Closes the shim's end of its standard input.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn close_stdin(&self) -> Result<(), Status> {
        let request = api::CloseIoRequest { container_id: self.id.clone(), exec_id: self.exec_id.clone(), stdin: true };
        self.client.tasks().close_io(self.client.request(request)).await?;
        Ok(())
    }

    /// Deletes it once it has ended.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn delete(&self) -> Result<Exit, Status> {
        let mut tasks = self.client.tasks();
        let answer = if self.exec_id.is_empty() {
            tasks.delete(self.client.request(api::DeleteTaskRequest { container_id: self.id.clone() })).await?
        } else {
            let request = api::DeleteProcessRequest { container_id: self.id.clone(), exec_id: self.exec_id.clone() };
            tasks.delete_process(self.client.request(request)).await?
        }
        .into_inner();
        Ok(Exit { pid: answer.pid, code: answer.exit_status, at: answer.exited_at })
    }

    /// Waits for its end, at most so long.
    ///
    /// # Errors
    /// When the time is up, or the status that containerd answers.
    pub async fn wait_for(&self, seconds: u64) -> anyhow::Result<u32> {
        let waiting = tokio::time::timeout(crate::pace::patience(Duration::from_secs(seconds)), self.wait());
        Ok(waiting.await.with_context(|| format!("{} {} runs on after {seconds} s", self.id, self.exec_id))??)
    }
}

/// A container's task: its init process, and what is asked of the whole.
#[derive(Debug, Clone)]
pub struct Task {
    init: Process,
    /// The container.
    pub container: Container,
    /// The number of init that Create answered.
    pub pid: u32,
}

impl Deref for Task {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.init
    }
}

impl Task {
    pub(crate) fn new(container: Container, pid: u32) -> Self {
        let init = Process { client: container.client.clone(), id: container.id.clone(), exec_id: String::new() };
        Self { init, container, pid }
    }

    /// The task over another connection, after a restart of containerd.
    #[must_use]
    pub fn on(&self, client: &Client) -> Self {
        Self::new(self.container.on(client), self.pid)
    }

    /// Sends a signal to every process of the container.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn kill_all(&self, signal: u32) -> Result<(), Status> {
        let request = api::KillRequest { container_id: self.id.clone(), exec_id: String::new(), signal, all: true };
        self.client.tasks().kill(self.client.request(request)).await?;
        Ok(())
    }

    /// Adds an exec: the container's own process with whatever `edit` changes. It is not started.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn exec(&self, exec_id: &str, stdio: &Stdio, edit: impl FnOnce(&mut Value)) -> Result<Process, Status> {
        let mut process = self.container.config["process"].clone();
        process["terminal"] = stdio.terminal.into();
        edit(&mut process);
        let request = api::ExecProcessRequest {
            container_id: self.id.clone(),
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            terminal: stdio.terminal,
            spec: Some(json_any("types.containerd.io/opencontainers/runtime-spec/1/Process", &process)),
            exec_id: exec_id.to_owned(),
        };
        self.client.tasks().exec(self.client.request(request)).await?;
        Ok(Process { exec_id: exec_id.to_owned(), ..self.init.clone() })
    }

    /// Runs a program beside init to its end.
    ///
    /// # Errors
    /// When it cannot be started, runs for longer than thirty seconds or cannot be deleted.
    pub async fn run(&self, exec_id: &str, args: &[&str]) -> anyhow::Result<Output> {
        self.run_with(exec_id, |process| process["args"] = args.into()).await
    }

    /// Runs a changed copy of the container's process beside init to its end.
    ///
    /// # Errors
    /// As [`Task::run`].
    pub async fn run_with(&self, exec_id: &str, edit: impl FnOnce(&mut Value)) -> anyhow::Result<Output> {
        let pipes = Pipes::new(&self.client.daemon)?;
        let exec = self.exec(exec_id, &pipes.stdio(), edit).await?;
        if let Err(refused) = exec.start().await {
            let _ = exec.delete().await;
            return Err(refused.into());
        }
        let code = exec.wait_for(30).await?;
        let (stdout, stderr) = (pipes.stdout.text().await?, pipes.stderr.text().await?);
        exec.delete().await.context("delete the exec")?;
        Ok(Output { code, stdout, stderr })
    }

    /// Freezes the container.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn pause(&self) -> Result<(), Status> {
        let request = api::PauseTaskRequest { container_id: self.id.clone() };
        self.client.tasks().pause(self.client.request(request)).await?;
        Ok(())
    }

    /// Thaws the container.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn resume(&self) -> Result<(), Status> {
        let request = api::ResumeTaskRequest { container_id: self.id.clone() };
        self.client.tasks().resume(self.client.request(request)).await?;
        Ok(())
    }

    /// Writes the container to disk; with options, CRIU's. The answer is what containerd keeps of it.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn checkpoint(&self, options: Option<Any>) -> Result<Option<Descriptor>, Status> {
        let request = api::CheckpointTaskRequest { container_id: self.id.clone(), options, ..Default::default() };
        let answer = self.client.tasks().checkpoint(self.client.request(request)).await?.into_inner();
        let is_image =
            |one: &Descriptor| one.media_type == "application/vnd.containerd.container.criu.checkpoint.criu.tar";
        let image = answer.descriptors.into_iter().find(is_image);
        if let Some(image) = &image {
            self.client.keep_content(&image.digest).await?;
        }
        Ok(image)
    }

    /// The numbers of the container's processes.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn pids(&self) -> Result<Vec<u32>, Status> {
        let request = api::ListPidsRequest { container_id: self.id.clone() };
        let answer = self.client.tasks().list_pids(self.client.request(request)).await?.into_inner();
        Ok(answer.processes.into_iter().map(|process| process.pid).collect())
    }

    /// What the container uses, as the shim encodes it.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn metrics(&self) -> Result<Any, Status> {
        let request = api::MetricsRequest { filters: vec![format!("id=={}", self.id)] };
        let answer = self.client.tasks().metrics(self.client.request(request)).await?.into_inner();
        let found = answer.metrics.into_iter().find(|metric| metric.id == self.id);
        found.and_then(|metric| metric.data).ok_or_else(|| Status::not_found("no metrics in the answer"))
    }

    /// Changes the container's limits; `resources` is a `LinuxResources` object.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn update(&self, resources: &Value) -> Result<(), Status> {
        let resources = json_any("types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", resources);
        let request =
            api::UpdateTaskRequest { container_id: self.id.clone(), resources: Some(resources), ..Default::default() };
        self.client.tasks().update(self.client.request(request)).await?;
        Ok(())
    }

    /// Kills init, waits for its end, and deletes task, record and root file system.
    ///
    /// # Errors
    /// When any of it is refused.
    pub async fn destroy(&self) -> anyhow::Result<Exit> {
        if let Err(refused) = self.kill(9).await {
            anyhow::ensure!(refused.code() == crate::Code::NotFound, "kill {}: {refused}", self.id);
        }
        self.wait_for(20).await?;
        let exit = self.delete().await.with_context(|| format!("delete {}", self.id))?;
        self.container.remove().await?;
        Ok(exit)
    }
}
