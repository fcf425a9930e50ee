//! A private containerd: its own folder, socket, namespace and control group, gone with the value.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::leftovers::{self, Leftovers};
use crate::{Client, Product, Runtime, image, machine, pace};

/// A running (or, for a while, stopped) containerd of our own.
#[derive(Debug)]
pub struct Containerd {
    home: PathBuf,
    namespace: String,
    /// The chain id of the image's root file system.
    chain: String,
    view: View,
    child: Mutex<Option<Child>>,
}

/// What containerd sees of the host's control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Whole,
    WithoutUnified,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);
static SHARED: Mutex<Weak<Containerd>> = Mutex::new(Weak::new());

/// The containerd that the tests of one process share. It ends with its last user.
///
/// # Errors
/// When containerd does not start.
pub fn shared() -> Result<Arc<Containerd>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = shared.upgrade() {
        return Ok(running);
    }
    let started = Arc::new(Containerd::start()?);
    *shared = Arc::downgrade(&started);
    Ok(started)
}

impl Containerd {
    /// Starts one in a new home, with the image imported.
    ///
    /// # Errors
    /// When the binary is missing, it does not answer, or the image cannot be imported.
    pub fn start() -> Result<Self> {
        Self::start_for(&[Product::under_test()])
    }

    /// Starts one on which these products work.
    ///
    /// # Errors
    /// As [`Containerd::start`].
    pub fn start_for(products: &[Product]) -> Result<Self> {
        Self::start_in(Path::new(leftovers::HOMES), products)
    }

    /// Starts one whose snapshots lie on a disk: a tmpfs cannot be mounted with mapped ids before Linux 6.3.
    ///
    /// # Errors
    /// As [`Containerd::start`].
    pub fn start_on_disk() -> Result<Self> {
        Self::start_in(Path::new(leftovers::DISK), &[Product::under_test()])
    }

    fn start_in(homes: &Path, products: &[Product]) -> Result<Self> {
        let hybrid = Path::new("/sys/fs/cgroup/unified").is_dir();
        let view = if hybrid && products.contains(&Product::Crun) { View::WithoutUnified } else { View::Whole };
        let shim_is_there = shim_binary().is_some_and(|shim| shim.is_file());
        ensure!(
            shim_is_there || !products.contains(&Product::Tare),
            "containerd-shim-tare-v2 is not built (make build), and TARE_SHIM names none"
        );
        leftovers::sweep_abandoned(homes);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("{}{}-{number:03}", leftovers::PREFIX, std::process::id());
        let home = homes.join(&namespace);
        fs::create_dir(&home).with_context(|| format!("create {}", home.display()))?;
        let mut containerd = Self { home, namespace, chain: String::new(), view, child: Mutex::new(None) };
        containerd.prepare()?;
        containerd.resume()?;
        containerd.import()?;
        Ok(containerd)
    }

    /// Everything on disk that containerd needs before it starts.
    fn prepare(&mut self) -> Result<()> {
        for folder in ["bin", "runtime"] {
            fs::create_dir(self.home.join(folder))?;
        }
        if let Some(shim) = shim_binary() {
            std::os::unix::fs::symlink(shim, self.home.join("bin/containerd-shim-tare-v2"))?;
        }
        self.chain = image::write(&self.home.join("image.tar"))?;
        Ok(())
    }

    /// The configuration, with the socket that events come in on.
    fn config(&self, events: &Path) -> String {
        let events = events.display();
        let home = self.home.display();
        let disabled =
            ["io.containerd.grpc.v1.cri", "io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri"];
        let snapshotters = ["aufs", "btrfs", "devmapper", "zfs", "blockfile", "erofs"];
        let disabled: Vec<String> = disabled
            .iter()
            .map(|name| format!("{name:?}"))
            .chain(snapshotters.iter().map(|name| format!("\"io.containerd.snapshotter.v1.{name}\"")))
            .collect();
        format!(
            "version = 2\nroot = \"{home}/root\"\nstate = \"{home}/state\"\ndisabled_plugins = [{}]\n\
             [grpc]\n  address = \"{home}/c.sock\"\n[ttrpc]\n  address = \"{events}\"\n[debug]\n  level = \"info\"\n",
            disabled.join(", ")
        )
    }

    /// Starts containerd on the home, new or not.
    ///
    /// # Errors
    /// When it does not answer within ten seconds; its log is in the error.
    pub fn resume(&self) -> Result<()> {
        self.launch(&self.event_socket())
    }

    /// Starts containerd again, deaf to the shims that are there: nobody has subscribed yet, and what they have kept to
    /// tell would be told to nobody. See [`Containerd::listen`].
    ///
    /// # Errors
    /// As [`Containerd::resume`].
    pub fn resume_deaf(&self) -> Result<()> {
        self.launch(&self.home.join("late.ttrpc"))
    }

    /// Lets the shims of before be heard.
    ///
    /// # Errors
    /// When the link to the new socket cannot be made.
    pub fn listen(&self) -> Result<()> {
        // The old socket stays behind when containerd is killed, and goes when it is asked to end.
        let _ = fs::remove_file(self.event_socket());
        std::os::unix::fs::symlink("late.ttrpc", self.event_socket()).context("link the event socket")
    }

    fn event_socket(&self) -> PathBuf {
        self.home.join("c.sock.ttrpc")
    }

    fn launch(&self, events: &Path) -> Result<()> {
        fs::write(self.home.join("config.toml"), self.config(events))?;
        let log = OpenOptions::new().create(true).append(true).open(self.home.join("containerd.log"))?;
        let child = self
            .command()
            .arg("--config")
            .arg(self.home.join("config.toml"))
            .env("PATH", self.search_path())
            .env_remove("NOTIFY_SOCKET")
            .stdin(File::open("/dev/null")?)
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("start containerd")?;
        *self.child() = Some(child);
        self.wait_until_it_answers()
    }

    /// crun 1.8.1 refuses version 1 hierarchies while a unified one with controllers is mounted beside them; for it,
    /// containerd gets a mount namespace of its own in which the unified one is not there.
    fn command(&self) -> Command {
        let containerd = program("containerd");
        if self.view == View::Whole {
            return Command::new(containerd);
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "slave", "sh", "-c"]);
        command.arg("umount /sys/fs/cgroup/unified; exec \"$0\" \"$@\"").arg(containerd);
        command
    }

    fn search_path(&self) -> String {
        let inherited = std::env::var("PATH").unwrap_or_default();
        let private = std::env::var("TARE_CONTAINERD").map_or_else(|_| String::new(), |folder| format!("{folder}:"));
        let criu = crate::criu().ok().and_then(|criu| Some(format!("{}:", criu.parent()?.display())));
        let own = self.home.join("bin").display().to_string();
        format!("{own}:{}{private}{inherited}:/usr/sbin", criu.unwrap_or_default())
    }

    fn wait_until_it_answers(&self) -> Result<()> {
        let deadline = Instant::now() + pace::patience(Duration::from_secs(10));
        while UnixStream::connect(self.socket()).is_err() {
            let ended = self.child().as_mut().and_then(|child| child.try_wait().ok().flatten());
            ensure!(ended.is_none() && Instant::now() < deadline, "containerd does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn import(&self) -> Result<()> {
        let imported = Command::new(program("ctr"))
            .args(["--address", &self.socket().to_string_lossy(), "--namespace", &self.namespace, "images", "import"])
            .arg(self.home.join("image.tar"))
            .output()
            .context("run ctr images import")?;
        if !imported.status.success() {
            bail!("ctr images import: {}\n{}", String::from_utf8_lossy(&imported.stderr), self.log());
        }
        Ok(())
    }

    /// Ends containerd (SIGKILL) and nothing else: shims and containers live on.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn stop(&self) -> Result<()> {
        let Some(mut child) = self.child().take() else { return Ok(()) };
        child.kill().context("kill containerd")?;
        child.wait().context("wait for containerd")?;
        Ok(())
    }

    /// Asks containerd to end (SIGTERM), as a service manager would.
    ///
    /// # Errors
    /// When it cannot be signalled or waited for.
    pub fn stop_politely(&self) -> Result<()> {
        let Some(mut child) = self.child().take() else { return Ok(()) };
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM).context("terminate containerd")?;
        child.wait().context("wait for containerd")?;
        Ok(())
    }

    /// A client for the runtime under test.
    ///
    /// # Errors
    /// When containerd cannot be reached.
    pub async fn client(self: &Arc<Self>) -> Result<Client> {
        self.client_for(Runtime::of(Product::under_test())).await
    }

    /// A client for a given runtime.
    ///
    /// # Errors
    /// When containerd cannot be reached.
    pub async fn client_for(self: &Arc<Self>, runtime: Runtime) -> Result<Client> {
        Client::connect(Arc::clone(self), runtime).await
    }

    /// The private folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The gRPC socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.join("c.sock")
    }

    /// The containerd namespace, which is also the top control group.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The chain id of the image's root file system.
    pub(crate) fn chain(&self) -> &str {
        &self.chain
    }

    /// A container's bundle.
    #[must_use]
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.home.join("state/io.containerd.runtime.v2.task").join(&self.namespace).join(id)
    }

    /// Notes a container's id, so that its shim's socket can be looked for.
    pub(crate) fn note(&self, id: &str) -> Result<()> {
        let mut ids = OpenOptions::new().create(true).append(true).open(self.home.join("ids"))?;
        writeln!(ids, "{id}").context("note a container's id")
    }

    /// containerd's own process number.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// The shims of this containerd, running or not yet gone.
    #[must_use]
    pub fn shims(&self) -> Vec<u32> {
        let is_shim =
            |pid: &u32| machine::command_line(*pid).split('/').any(|part| part.starts_with("containerd-shim"));
        let mut found: Vec<u32> = leftovers::processes(&self.home).into_iter().filter(is_shim).collect();
        found.retain(|pid| machine::command_line(*pid).contains(&self.namespace));
        found
    }

    /// What is left behind once all is deleted; waits up to five seconds for it to go.
    #[must_use]
    pub fn leftovers(&self) -> Leftovers {
        self.leftovers_after(pace::patience(Duration::from_secs(5)), |_| true)
    }

    /// What is left behind of the kind that counts; waits so long for it to go.
    #[must_use]
    pub fn leftovers_after(&self, patience: Duration, counts: impl Fn(&str) -> bool) -> Leftovers {
        let deadline = Instant::now() + patience;
        loop {
            let mut found = leftovers::of(&self.home, self.pid());
            found.0.retain(|thing| counts(thing));
            if found.is_empty() || Instant::now() > deadline {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of containerd's log.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.home.join("containerd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.stop();
        if std::env::var_os("TARE_KEEP").is_none() {
            leftovers::purge(&self.home);
        }
    }
}

/// A program of the containerd under test.
fn program(name: &str) -> PathBuf {
    std::env::var_os("TARE_CONTAINERD").map_or_else(|| PathBuf::from(name), |folder| Path::new(&folder).join(name))
}

/// The shim: `TARE_SHIM`, or what the workspace built last in release form.
#[must_use]
pub fn shim_binary() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("TARE_SHIM") {
        return Some(PathBuf::from(given));
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let mut candidates = vec![target.join("release")];
    candidates.extend(fs::read_dir(&target).ok()?.flatten().map(|entry| entry.path().join("release")));
    candidates.into_iter().map(|folder| folder.join("containerd-shim-tare-v2")).find(|shim| shim.is_file())
}
