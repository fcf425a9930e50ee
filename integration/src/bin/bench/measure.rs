//! One measurement each: a lifecycle, an exec, idle shims, a pipe. How they alternate is `main`'s.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::machine::{self, Memory};
use integration::{Client, Product, Stdio, Task, fifo, pace, spec};
use serde_json::Value;

/// Docker's default profile with the conditions of a default container resolved: 360 names, three architectures.
pub(crate) const SECCOMP: &str = include_str!("../../../../runtime-core/plan/tests/fixtures/seccomp-docker.json");

/// How many idle shims are weighed together.
pub(crate) const IDLE: usize = 20;

/// One life of a container, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lifecycle {
    create: f64,
    start: f64,
    exit: f64,
    delete: f64,
    total: f64,
    /// Processor time of the whole machine, in milliseconds; only a mean over many is meaningful.
    cpu: f64,
}

/// Everything measured of one contender.
#[derive(Debug)]
pub(crate) struct Samples {
    pub(crate) product: Product,
    pub(crate) lives: Vec<Lifecycle>,
    pub(crate) exec: Vec<f64>,
    pub(crate) idle: Vec<Memory>,
    /// Containers started in a second, one after the other and eight at a time.
    pub(crate) rates: [f64; 2],
    /// MB/s through standard output, and the shim's processor seconds for each GiB.
    pub(crate) pipe: [f64; 2],
}

impl Samples {
    pub(crate) fn new(product: Product) -> Self {
        Self { product, lives: Vec::new(), exec: Vec::new(), idle: Vec::new(), rates: [0.0; 2], pipe: [0.0; 2] }
    }

    pub(crate) fn add(&mut self, life: &Lifecycle) {
        self.lives.push(*life);
    }

    /// The figures of the table by name.
    pub(crate) fn figures(&self) -> BTreeMap<&'static str, f64> {
        let life = |field: fn(&Lifecycle) -> f64| median(self.lives.iter().map(field).collect());
        let idle = |field: fn(&Memory) -> u64| median(self.idle.iter().map(|memory| count(field(memory))).collect());
        let cpu: f64 = self.lives.iter().map(|life| life.cpu).sum();
        BTreeMap::from([
            ("create", life(|life| life.create)),
            ("start", life(|life| life.start)),
            ("exit", life(|life| life.exit)),
            ("delete", life(|life| life.delete)),
            ("total", life(|life| life.total)),
            ("cpu", cpu / count(self.lives.len() as u64)),
            ("exec", median(self.exec.clone())),
            ("rss", idle(|memory| memory.rss) / 1000.0),
            ("pss", idle(|memory| memory.pss) / 1000.0),
            ("dirty", idle(|memory| memory.private_dirty) / 1000.0),
            ("threads", idle(|memory| memory.threads)),
            ("sequential", self.rates[0]),
            ("parallel", self.rates[1]),
            ("pipe", self.pipe[0]),
            ("pipe-cpu", self.pipe[1]),
        ])
    }
}

/// Whether the clock counts instructions, a nanosecond each: in an emulated guest, where only ratios mean anything.
pub(crate) fn counts_instructions() -> bool {
    std::env::var("TARE_VM_CLOCK").is_ok_and(|clock| clock == "instructions")
}

/// The middle of the samples; 0 of none.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

/// A count as a figure; what is counted here stays far below 2^52.
fn count(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

pub(crate) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// The filter that a container engine would give.
pub(crate) fn with_seccomp(config: &mut Value) {
    config["linux"]["seccomp"] = serde_json::from_str(SECCOMP).unwrap_or_default();
}

/// Creates, starts, waits for and deletes a container that runs `true`.
pub(crate) async fn lifecycle(client: &Client, id: &str) -> Result<Lifecycle> {
    let container = client
        .container(id, |config| {
            spec::args(config, &["true"]);
            with_seccomp(config);
        })
        .await?;
    let busy = machine::busy_ticks();
    let began = Instant::now();
    let task = container.create(&Stdio::null()).await?;
    let create = milliseconds(began);
    let waiting = tokio::spawn({
        let task = task.clone();
        async move { task.wait().await }
    });
    let mark = Instant::now();
    task.start().await?;
    let start = milliseconds(mark);
    let mark = Instant::now();
    let code = waiting.await??;
    let exit = milliseconds(mark);
    ensure!(code == 0, "{id} ended with {code}");
    let mark = Instant::now();
    task.delete().await?;
    let delete = milliseconds(mark);
    let total = milliseconds(began);
    // What the daemon still does for this life (its `delete` of the shim) falls into the pause.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let cpu = count(machine::busy_ticks() - busy) * 10.0;
    container.remove().await?;
    Ok(Lifecycle { create, start, exit, delete, total, cpu })
}

/// Adds, starts, waits for and deletes an exec of `true`.
pub(crate) async fn exec(task: &Task, id: &str) -> Result<f64> {
    let began = Instant::now();
    let exec = task.exec(id, &Stdio::null(), |process| process["args"] = ["true"].as_slice().into()).await?;
    exec.start().await?;
    exec.wait().await?;
    exec.delete().await?;
    Ok(milliseconds(began))
}

/// Starts twenty containers one after the other and twenty eight at a time, and weighs the shims of the first.
pub(crate) async fn idle(client: &Client, result: &mut Samples) -> Result<()> {
    let name = result.product.name();
    let began = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..IDLE {
        tasks.push(client.sleeper(&format!("idle-{name}-{number}"), with_seccomp).await?);
    }
    result.rates[0] = count(IDLE as u64) / began.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(2)).await;
    result.idle = tasks.iter().filter_map(|task| machine::memory(shim(task)?)).collect();
    for task in tasks {
        task.destroy().await?;
    }
    let began = Instant::now();
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..8 {
        let (client, name) = (client.clone(), name.to_owned());
        lanes.spawn(async move {
            let mut tasks = Vec::new();
            for number in 0..5 {
                tasks.push(client.sleeper(&format!("lane-{name}-{lane}-{number}"), with_seccomp).await?);
            }
            anyhow::Ok(tasks)
        });
    }
    let mut tasks = Vec::new();
    while let Some(lane) = lanes.join_next().await {
        tasks.extend(lane??);
    }
    result.rates[1] = count(tasks.len() as u64) / began.elapsed().as_secs_f64();
    for task in tasks {
        task.destroy().await?;
    }
    Ok(())
}

fn shim(task: &Task) -> Option<u32> {
    machine::status(task.pid, "PPid")?.parse().ok()
}

/// Writes a GiB to standard output in pieces of 64 KiB; less of it on a slow machine.
pub(crate) async fn pipe(client: &Client, result: &mut Samples) -> Result<()> {
    let pieces = pace::rounds(16384);
    let gibibytes = count(pieces as u64) / 16384.0;
    let path = fifo(&client.daemon)?;
    let script = format!("dd if=/dev/zero bs=65536 count={pieces} 2>/dev/null");
    let container = client
        .container(&format!("pipe-{}", result.product.name()), |config| spec::args(config, &["sh", "-c", &script]))
        .await?;
    let reader = std::thread::spawn({
        let path = path.clone();
        move || drain(&path)
    });
    let task = container.create(&Stdio::to_uri(&path.to_string_lossy())).await?;
    let shim = shim(&task).context("the shim is gone")?;
    let before = machine::cpu_ticks(shim).unwrap_or_default();
    task.start().await?;
    task.wait_for(60).await?;
    let after = machine::cpu_ticks(shim).unwrap_or_default();
    task.delete().await?;
    container.remove().await?;
    let seconds = reader.join().map_err(|_| anyhow::anyhow!("the reader died"))??;
    result.pipe = [gibibytes * 1_073.741_824 / seconds, count(after - before) / 100.0 / gibibytes];
    Ok(())
}

/// Reads a FIFO to its end; the seconds from the first byte to the last.
fn drain(path: &std::path::Path) -> Result<f64> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut began = None;
    let mut last = Instant::now();
    while file.read(&mut buffer)? > 0 {
        last = Instant::now();
        began.get_or_insert(last);
    }
    Ok(last.duration_since(began.context("nothing came")?).as_secs_f64())
}
