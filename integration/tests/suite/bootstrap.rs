//! The shim's program run by hand: what it prints for each containerd, its socket, and `delete` with nothing to do.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use integration::{Containerd, Product, leftovers, machine, shared, skip_unless_tare, spec, until};
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The shim's program as the containerd of the suite finds it.
fn program(daemon: &Containerd) -> PathBuf {
    if Product::under_test() == Product::Tare {
        daemon.home().join("bin/containerd-shim-tare-v2")
    } else {
        PathBuf::from("/usr/bin/containerd-shim-runc-v2")
    }
}

fn run(mut command: Command, stdin: &[u8]) -> Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin")?.write_all(stdin)?;
    Ok(child.wait_with_output()?)
}

/// `BootstrapParams` of containerd 2.3 and later.
#[derive(Clone, PartialEq, Message)]
struct Params {
    #[prost(string, tag = "1")]
    instance_id: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "5")]
    ttrpc_address: String,
    #[prost(string, tag = "6")]
    grpc_address: String,
    #[prost(string, tag = "7")]
    binary: String,
}

/// `BootstrapResult`.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    version: i32,
    #[prost(string, tag = "2")]
    address: String,
    #[prost(string, tag = "3")]
    protocol: String,
}

/// How a containerd of some release starts a shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// 1.6: an address as plain text.
    Plain,
    /// 1.7 to 2.2: JSON is understood.
    Json,
    /// 2.3 and later: protobuf both ways.
    Proto,
}

/// A bundle of its own, with a started shim that is ended with it.
struct Started {
    output: Output,
    bundle: PathBuf,
    socket: PathBuf,
    id: String,
    /// A Go shim dies of SIGPIPE when nobody holds its log.
    _log: std::fs::File,
}

impl Started {
    fn new(daemon: &Containerd, id: &str, dialect: Dialect) -> Result<Self> {
        let bundle = daemon.home().join("by-hand").join(id);
        std::fs::create_dir_all(bundle.join("rootfs"))?;
        std::fs::write(bundle.join("config.json"), spec::default(daemon.namespace(), id).to_string())?;
        rustix::fs::mknodat(rustix::fs::CWD, bundle.join("log"), rustix::fs::FileType::Fifo, 0o700.into(), 0)?;
        let mut command = invocation(daemon, &bundle, id, "start");
        let stdin = match dialect {
            Dialect::Plain => Vec::new(),
            Dialect::Json => {
                command.env("GRPC_ADDRESS", daemon.socket()).env("NAMESPACE", daemon.namespace());
                command.env("MAX_SHIM_VERSION", "2");
                Vec::new()
            }
            Dialect::Proto => {
                command.env("GRPC_ADDRESS", daemon.socket()).env("NAMESPACE", daemon.namespace());
                command.env("MAX_SHIM_VERSION", "2");
                params(daemon, id).encode_to_vec()
            }
        };
        // The shim opens its log for writing, which waits for a reader.
        let log = std::fs::OpenOptions::new().read(true).write(true).open(bundle.join("log"))?;
        let output = run(command, &stdin)?;
        let socket = leftovers::socket(daemon.home(), id);
        Ok(Self { output, bundle, socket, id: id.to_owned(), _log: log })
    }

    fn address(&self, dialect: Dialect) -> Result<String> {
        let text = String::from_utf8_lossy(&self.output.stdout);
        Ok(match dialect {
            Dialect::Plain => text.trim().to_owned(),
            Dialect::Json => serde_json::from_str::<Value>(&text)?["address"].as_str().unwrap_or_default().to_owned(),
            Dialect::Proto => Answer::decode(self.output.stdout.as_slice())?.address,
        })
    }

    fn shims(&self) -> Vec<u32> {
        let is_ours = |pid: &u32| machine::command_line(*pid).contains(&format!("-id {}", self.id));
        machine::pids().into_iter().filter(is_ours).collect()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for pid in self.shims() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn params(daemon: &Containerd, id: &str) -> Params {
    Params {
        instance_id: id.to_owned(),
        namespace: daemon.namespace().to_owned(),
        ttrpc_address: format!("{}.ttrpc", daemon.socket().display()),
        grpc_address: daemon.socket().to_string_lossy().into_owned(),
        binary: "/usr/bin/containerd".to_owned(),
    }
}

fn invocation(daemon: &Containerd, bundle: &Path, id: &str, action: &str) -> Command {
    let mut command = Command::new(program(daemon));
    command.args(["-namespace", daemon.namespace(), "-address"]).arg(daemon.socket());
    command.args(["-publish-binary", "/usr/bin/containerd", "-id", id]);
    if action == "delete" {
        command.arg("-bundle").arg(bundle);
    }
    command.arg(action).current_dir(bundle).env("TTRPC_ADDRESS", format!("{}.ttrpc", daemon.socket().display()));
    command
}

#[tokio::test]
async fn the_version_is_told() -> Result<()> {
    let daemon = shared()?;
    let mut command = Command::new(program(&daemon));
    command.arg("-v");
    let output = run(command, &[])?;
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("Version"), "{output:?}");
    Ok(())
}

#[tokio::test]
async fn start_prints_an_address_and_nothing_else() -> Result<()> {
    let daemon = shared()?;
    for dialect in [Dialect::Plain, Dialect::Json, Dialect::Proto] {
        if dialect != Dialect::Plain && skip_unless_tare("the shim of 1.6 prints plain text only") {
            continue;
        }
        let started = Started::new(&daemon, &format!("start-{dialect:?}").to_lowercase(), dialect)?;
        assert!(started.output.status.success(), "{dialect:?}: {:?}", started.output);
        assert_eq!(String::from_utf8_lossy(&started.output.stderr), "", "{dialect:?}: stderr is part of the answer");
        let address = started.address(dialect)?;
        let path =
            address.strip_prefix("unix://").with_context(|| format!("{dialect:?}: no address in {address:?}"))?;
        let mode = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777);
        assert_eq!(mode(Path::new(path))?, 0o600, "{dialect:?}");
        let folder = Path::new(path).parent().context("a folder")?;
        assert_eq!(mode(folder)? & 0o066, 0, "{dialect:?}: others can list {}", folder.display());
        std::os::unix::net::UnixStream::connect(path)?;
        assert_eq!(started.shims().len(), 1, "{dialect:?}");
        if Product::under_test() == Product::Tare {
            // Releases before 1.7 and CRI-O find a shim again by this file.
            assert_eq!(std::fs::read_to_string(started.bundle.join("address"))?, address, "{dialect:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_answers_of_the_later_dialects_say_their_version() -> Result<()> {
    if skip_unless_tare("the shim of 1.6 prints plain text only") {
        return Ok(());
    }
    let daemon = shared()?;
    let json = Started::new(&daemon, "version-json", Dialect::Json)?;
    let answer: Value = serde_json::from_slice(&json.output.stdout)?;
    assert_eq!((answer["version"].as_i64(), answer["protocol"].as_str()), (Some(2), Some("ttrpc")), "{answer}");
    let proto = Started::new(&daemon, "version-proto", Dialect::Proto)?;
    let answer = Answer::decode(proto.output.stdout.as_slice())?;
    assert_eq!((answer.version, answer.protocol.as_str()), (3, "ttrpc"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn start_again_answers_the_same_shim() -> Result<()> {
    let daemon = shared()?;
    let first = Started::new(&daemon, "again", Dialect::Plain)?;
    let address = first.address(Dialect::Plain)?;
    // Aside, not away: a Go shim opens its log there after its start has answered.
    std::fs::rename(&first.bundle, first.bundle.with_file_name("again-before"))?;
    let second = Started::new(&daemon, "again", Dialect::Plain)?;
    assert_eq!(second.address(Dialect::Plain)?, address);
    until(5, || first.shims().len() == 1).await.with_context(|| format!("shims: {:?}", first.shims()))?;
    Ok(())
}

#[tokio::test]
async fn delete_with_nothing_to_do_says_137_and_can_be_repeated() -> Result<()> {
    /// `DeleteResponse`.
    #[derive(Clone, PartialEq, Message)]
    struct Deleted {
        #[prost(uint32, tag = "2")]
        exit_status: u32,
        #[prost(message, optional, tag = "3")]
        exited_at: Option<prost_types::Timestamp>,
    }
    let daemon = shared()?;
    let bundle = daemon.home().join("by-hand/nothing");
    std::fs::create_dir_all(bundle.join("rootfs"))?;
    std::fs::write(bundle.join("config.json"), spec::default(daemon.namespace(), "nothing").to_string())?;
    if Product::under_test() != Product::Tare {
        // containerd's own shim insists on the file that its create wrote.
        std::fs::write(bundle.join("runtime"), "/usr/sbin/runc")?;
    }
    for _ in 0..2 {
        let output = run(invocation(&daemon, &bundle, "nothing", "delete"), &[])?;
        assert!(output.status.success(), "{output:?}");
        let deleted = Deleted::decode(output.stdout.as_slice())?;
        assert_eq!(deleted.exit_status, 137);
        assert!(deleted.exited_at.is_some_and(|at| at.seconds > 1_700_000_000), "{deleted:?}");
    }
    Ok(())
}

#[tokio::test]
async fn info_names_the_runtime_and_its_features() -> Result<()> {
    /// `RuntimeInfo`, as far as containerd reads it.
    #[derive(Clone, PartialEq, Message)]
    struct RuntimeInfo {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, optional, tag = "4")]
        features: Option<prost_types::Any>,
    }
    if skip_unless_tare("the shim of 1.6 does not know -info") {
        return Ok(());
    }
    let daemon = shared()?;
    let mut command = Command::new(program(&daemon));
    command.arg("-info");
    let output = run(command, &[])?;
    assert!(output.status.success(), "{output:?}");
    let info = RuntimeInfo::decode(output.stdout.as_slice())?;
    assert_eq!(info.name, "io.containerd.tare.v2");
    let features = info.features.context("no features")?;
    assert_eq!(features.type_url, "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
    let features: Value = serde_json::from_slice(&features.value)?;
    assert!(features["mountOptions"].as_array().is_some_and(|options| options.contains(&json!("rro"))), "{features}");
    assert_eq!(features["linux"]["namespaces"].as_array().map(Vec::len), Some(8), "{features}");
    Ok(())
}
