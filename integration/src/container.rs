//! A container: its record and root file system. Its processes are [`Task`]s.

use std::time::Duration;

use anyhow::{Context, Result};
use containerd_client::services::v1::CreateTaskRequest;
use containerd_client::types::Descriptor;
use serde_json::Value;

use crate::stdio::Pipes;
use crate::{Client, Status, Stdio, Task, spec};

/// A container that containerd knows.
#[derive(Debug, Clone)]
pub struct Container {
    /// The client that made it.
    pub client: Client,
    /// Its id.
    pub id: String,
    /// Its runtime configuration.
    pub config: Value,
    pub(crate) on_snapshot: bool,
    /// Options that its first rootfs mount gets beside the snapshotter's.
    pub rootfs_options: Vec<String>,
}

/// What a container that ran to its end has said and done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code.
    pub code: u32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Container {
    /// Creates the task: everything but the start of the program.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn create(&self, stdio: &Stdio) -> Result<Task, Status> {
        self.create_from(stdio, None).await
    }

    /// Creates the task, from a checkpoint if there is one.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn create_from(&self, stdio: &Stdio, checkpoint: Option<Descriptor>) -> Result<Task, Status> {
        let mut rootfs = if self.on_snapshot {
            self.client.mounts(&self.id).await.map_err(|error| Status::internal(error.to_string()))?
        } else {
            Vec::new()
        };
        if let Some(first) = rootfs.first_mut() {
            first.options.extend(self.rootfs_options.iter().cloned());
        }
        let request = CreateTaskRequest {
            container_id: self.id.clone(),
            rootfs,
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            terminal: stdio.terminal,
            checkpoint,
            ..Default::default()
        };
        let answer = self.client.tasks().create(self.client.request(request)).await?.into_inner();
        Ok(Task::new(self.clone(), answer.pid))
    }

    /// Creates and starts the task.
    ///
    /// # Errors
    /// The status that containerd answers.
    pub async fn start(&self, stdio: &Stdio) -> Result<Task, Status> {
        let task = self.create(stdio).await?;
        task.start().await?;
        Ok(task)
    }

    /// The container over another connection, after a restart of containerd.
    #[must_use]
    pub fn on(&self, client: &Client) -> Self {
        Self { client: client.clone(), ..self.clone() }
    }

    /// The container's control group, below each hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> String {
        self.config["linux"]["cgroupsPath"].as_str().unwrap_or_default().to_owned()
    }

    /// Removes the record and the root file system; the task must have been deleted.
    ///
    /// # Errors
    /// When containerd refuses.
    pub async fn remove(&self) -> Result<()> {
        self.client.forget(&self.id).await?;
        if self.on_snapshot {
            self.client.remove_snapshot(&self.id).await?;
        }
        Ok(())
    }
}

impl Container {
    /// Runs the container to its end and removes it.
    ///
    /// # Errors
    /// When it cannot be created, does not end within thirty seconds, or cannot be deleted.
    pub async fn run(&self) -> Result<Output> {
        let pipes = Pipes::new(&self.client.daemon)?;
        let task = match self.start(&pipes.stdio()).await {
            Ok(task) => task,
            Err(refused) => {
                self.abandon().await;
                return Err(refused.into());
            }
        };
        let code = tokio::time::timeout(crate::pace::patience(Duration::from_secs(30)), task.wait())
            .await
            .context("the container runs on")??;
        let (stdout, stderr) = (pipes.stdout.text().await?, pipes.stderr.text().await?);
        task.delete().await.context("delete the task")?;
        self.remove().await?;
        Ok(Output { code, stdout, stderr })
    }

    /// Removes whatever a refused create or start has left of the container, where the error itself is what matters.
    pub async fn abandon(&self) {
        let task = Task::new(self.clone(), 0);
        let _ = task.delete().await;
        let _ = self.remove().await;
    }
}

impl Client {
    /// Runs a program in a container of the image to its end.
    ///
    /// # Errors
    /// As [`Container::run`].
    pub async fn run(&self, id: &str, args: &[&str], edit: impl FnOnce(&mut Value)) -> Result<Output> {
        let with_args = |config: &mut Value| {
            spec::args(config, args);
            edit(config);
        };
        self.container(id, with_args).await?.run().await
    }

    /// Makes and starts a container of the image that sleeps until it is killed.
    ///
    /// # Errors
    /// As [`Container::start`].
    pub async fn sleeper(&self, id: &str, edit: impl FnOnce(&mut Value)) -> Result<Task> {
        let with_args = |config: &mut Value| {
            spec::args(config, &["sleep", "1000"]);
            edit(config);
        };
        Ok(self.container(id, with_args).await?.start(&Stdio::null()).await?)
    }
}
