//! A connection to containerd in one namespace, and the making of containers. Tasks are in [`crate::task`].

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use containerd_client::services::v1 as services;
use containerd_client::services::v1::snapshots as snapshot;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::tonic::Request;
use containerd_client::tonic::transport::Channel;
use containerd_client::types::Mount;
use prost_types::Any;
use serde_json::Value;
use services::containers_client::ContainersClient;
use services::tasks_client::TasksClient;

use crate::{Container, Containerd, Runtime, Status, image, spec};

const SNAPSHOTTER: &str = "overlayfs";

/// A client of a private containerd, for one runtime.
#[derive(Debug, Clone)]
pub struct Client {
    /// The containerd it talks to.
    pub daemon: Arc<Containerd>,
    /// The runtime its containers get.
    pub runtime: Runtime,
    channel: Channel,
}

impl Client {
    /// Connects; the connection is made anew by itself when containerd restarts.
    pub(crate) async fn connect(daemon: Arc<Containerd>, runtime: Runtime) -> Result<Self> {
        let channel = containerd_client::connect(daemon.socket()).await.context("connect to containerd")?;
        Ok(Self { daemon, runtime, channel })
    }

    /// The same client on a fresh connection.
    ///
    /// # Errors
    /// When containerd cannot be reached.
    pub async fn reconnected(&self) -> Result<Self> {
        Self::connect(Arc::clone(&self.daemon), self.runtime.clone()).await
    }

    /// The connection, for services without a helper here.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request in the private namespace.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Ok(namespace) = self.daemon.namespace().parse() {
            request.metadata_mut().insert("containerd-namespace", namespace);
        }
        request
    }

    /// The Tasks service.
    pub(crate) fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel())
    }

    /// Makes a container of the image: a snapshot and a record, no process yet.
    ///
    /// # Errors
    /// When containerd refuses the snapshot or the record.
    pub async fn container(&self, id: &str, edit: impl FnOnce(&mut Value)) -> Result<Container> {
        self.snapshot(id, &[]).await?;
        self.record(id, SNAPSHOTTER, &self.daemon.home().join("runtime"), edit).await
    }

    /// Makes a container whose root file system is a folder of the host.
    ///
    /// # Errors
    /// When containerd refuses the record.
    pub async fn container_on(&self, id: &str, rootfs: &Path, edit: impl FnOnce(&mut Value)) -> Result<Container> {
        let rooted = |config: &mut Value| {
            config["root"]["path"] = rootfs.to_string_lossy().into();
            edit(config);
        };
        self.record(id, "", &self.daemon.home().join("runtime"), rooted).await
    }

    /// Makes a container of the image whose runtime keeps its state in another folder.
    ///
    /// # Errors
    /// As [`Client::container`].
    pub async fn container_rooted(&self, id: &str, state: &Path, edit: impl FnOnce(&mut Value)) -> Result<Container> {
        self.snapshot(id, &[]).await?;
        self.record(id, SNAPSHOTTER, state, edit).await
    }

    /// Keeps the collector from taking something that no image refers to. It goes with containerd's home.
    pub(crate) async fn keep_content(&self, digest: &str) -> Result<(), Status> {
        let labels = HashMap::from([("containerd.io/gc.root".to_owned(), "2026-01-01T00:00:00Z".to_owned())]);
        let info = services::Info { digest: digest.to_owned(), labels, ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["labels".to_owned()] });
        let request = services::UpdateRequest { info: Some(info), update_mask };
        services::content_client::ContentClient::new(self.channel()).update(self.request(request)).await?;
        Ok(())
    }

    /// As [`Client::container`], of a snapshot with these labels: the snapshotter may go by them.
    ///
    /// # Errors
    /// As [`Client::container`].
    pub async fn container_labelled(
        &self,
        id: &str,
        labels: &[(&str, &str)],
        edit: impl FnOnce(&mut Value),
    ) -> Result<Container> {
        self.snapshot(id, labels).await?;
        self.record(id, SNAPSHOTTER, &self.daemon.home().join("runtime"), edit).await
    }

    async fn snapshot(&self, key: &str, labels: &[(&str, &str)]) -> Result<()> {
        // A root of its own keeps the collector from taking it before the container's record refers to it.
        let labels = labels.iter().chain(&[("containerd.io/gc.root", "2026-01-01T00:00:00Z")]);
        let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let request = snapshot::PrepareSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            key: key.to_owned(),
            parent: self.daemon.chain().to_owned(),
            labels,
        };
        SnapshotsClient::new(self.channel())
            .prepare(self.request(request))
            .await
            .with_context(|| format!("prepare snapshot {key}"))?;
        Ok(())
    }

    async fn record(
        &self,
        id: &str,
        snapshotter: &str,
        state: &Path,
        edit: impl FnOnce(&mut Value),
    ) -> Result<Container> {
        let mut config = spec::default(self.daemon.namespace(), id);
        edit(&mut config);
        let options = self.runtime.options(state);
        let record = services::Container {
            id: id.to_owned(),
            image: image::NAME.to_owned(),
            runtime: Some(services::container::Runtime { name: self.runtime.name.clone(), options: Some(options) }),
            spec: Some(json_any("types.containerd.io/opencontainers/runtime-spec/1/Spec", &config)),
            snapshotter: snapshotter.to_owned(),
            snapshot_key: if snapshotter.is_empty() { String::new() } else { id.to_owned() },
            ..Default::default()
        };
        self.daemon.note(id)?;
        let request = services::CreateContainerRequest { container: Some(record) };
        ContainersClient::new(self.channel())
            .create(self.request(request))
            .await
            .with_context(|| format!("create the record of {id}"))?;
        Ok(Container {
            client: self.clone(),
            id: id.to_owned(),
            config,
            on_snapshot: !snapshotter.is_empty(),
            rootfs_options: Vec::new(),
        })
    }

    /// The mounts that make a snapshot.
    ///
    /// # Errors
    /// When containerd refuses.
    pub async fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let request = snapshot::MountsRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        let answer = SnapshotsClient::new(self.channel()).mounts(self.request(request)).await.context("list mounts")?;
        Ok(answer.into_inner().mounts)
    }

    pub(crate) async fn forget(&self, id: &str) -> Result<()> {
        let request = services::DeleteContainerRequest { id: id.to_owned() };
        ContainersClient::new(self.channel())
            .delete(self.request(request))
            .await
            .with_context(|| format!("delete the record of {id}"))?;
        Ok(())
    }

    pub(crate) async fn remove_snapshot(&self, key: &str) -> Result<()> {
        let request = snapshot::RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned() };
        SnapshotsClient::new(self.channel())
            .remove(self.request(request))
            .await
            .with_context(|| format!("remove snapshot {key}"))?;
        Ok(())
    }
}

/// JSON in an `Any`, as containerd stores runtime configurations.
pub(crate) fn json_any(type_url: &str, value: &Value) -> Any {
    Any { type_url: type_url.to_owned(), value: value.to_string().into_bytes() }
}
