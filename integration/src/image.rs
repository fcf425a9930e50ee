//! The image: busybox and a few files, written as an OCI image archive. Nothing is fetched.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The image's name in containerd.
pub(crate) const NAME: &str = "tare.test/busybox:latest";

const BUSYBOX: &str = "/bin/busybox";
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nuser:x:1000:1000:user:/home:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\nuser:x:1000:\nextra:x:2000:user\n";
const FOLDERS: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
];

/// The names busybox answers to.
///
/// # Errors
/// When busybox cannot be run.
pub fn busybox_links() -> Result<Vec<String>> {
    let listed = Command::new(BUSYBOX).arg("--list").output().context("run busybox --list")?;
    Ok(String::from_utf8_lossy(&listed.stdout).lines().filter(|name| *name != "busybox").map(str::to_owned).collect())
}

/// Writes the image archive, and says which chain id its only layer unpacks to.
pub(crate) fn write(archive: &Path) -> Result<String> {
    let layer = layer()?;
    let diff_id = digest(&layer);
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Env": [crate::spec::PATH], "Cmd": ["sh"], "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    })
    .to_string()
    .into_bytes();
    let mut listed = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    listed["annotations"] = json!({ "io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "latest" });
    let index = json!({ "schemaVersion": 2, "manifests": [listed] }).to_string().into_bytes();

    let mut tar = tar::Builder::new(File::create(archive).with_context(|| format!("create {}", archive.display()))?);
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    append(&mut tar, "index.json", &index, 0o644)?;
    for blob in [&config, &manifest, &layer] {
        append(&mut tar, &format!("blobs/{}", digest(blob).replace(':', "/")), blob, 0o644)?;
    }
    tar.finish().context("finish the archive")?;
    Ok(diff_id)
}

/// Unpacks the image's only layer into a folder, for tests that bring their own root file system.
///
/// # Errors
/// When busybox is missing or the folder cannot be written.
pub fn unpack(folder: &Path) -> Result<()> {
    let layer = layer()?;
    tar::Archive::new(layer.as_slice()).unpack(folder).with_context(|| format!("unpack into {}", folder.display()))
}

/// The image's only layer, an archive that Podman and Docker import.
///
/// # Errors
/// When busybox is missing.
pub(crate) fn layer() -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode) in FOLDERS {
        let mut header = header(tar::EntryType::Directory, *mode, 0);
        tar.append_data(&mut header, name, std::io::empty())?;
    }
    append(&mut tar, "bin/busybox", &std::fs::read(BUSYBOX).context("read /bin/busybox")?, 0o755)?;
    append(&mut tar, "etc/passwd", PASSWD.as_bytes(), 0o644)?;
    append(&mut tar, "etc/group", GROUP.as_bytes(), 0o644)?;
    for link in busybox_links()? {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{link}"), "busybox")?;
    }
    Ok(tar.into_inner()?)
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, u64::try_from(bytes.len())?);
    tar.append_data(&mut header, name, bytes).with_context(|| format!("archive {name}"))
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}
