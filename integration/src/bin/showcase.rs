//! `make run`: one container through a private containerd, told in a few lines. It ends non-zero when anything fails.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::machine::{self, Memory};
use integration::{Client, Containerd, Pipes, Product, Runtime, Task, spec};

/// What the container shows of its own world.
const SCRIPT: &str = "echo \"$(uname -sr) on $(hostname), pid $$, uid $(id -u)\"; \
    echo \"processes: $(ls -d /proc/[0-9]* | wc -l) visible\"; \
    echo \"network:   $(ls /sys/class/net | tr '\\n' ' ')\"; \
    echo \"mounts:    $(wc -l < /proc/self/mounts), root on $(awk '$2 == \"/\" {print $3}' /proc/self/mounts)\"; \
    grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr '\\t\\n' '  '; echo";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    ensure!(integration::shim_binary().is_some(), "containerd-shim-tare-v2 is not built (make build)");
    let daemon = Arc::new(Containerd::start()?);
    let client = daemon.client_for(Runtime::of(Product::under_test())).await?;
    println!("tare: a container through containerd, runtime {}\n", client.runtime.name);
    life(&client).await?;
    weights(&daemon, &client).await?;
    let left = daemon.leftovers();
    ensure!(left.is_empty(), "left behind:\n{left}");
    println!("\nleft behind: nothing");
    Ok(())
}

/// The container's own words, and the time that each step took.
async fn life(client: &Client) -> Result<()> {
    let container = client
        .container("hello", |config| {
            spec::args(config, &["sh", "-c", SCRIPT]);
            config["hostname"] = "tare".into();
        })
        .await?;
    let pipes = Pipes::new(&client.daemon)?;
    let mark = Instant::now();
    let task = container.create(&pipes.stdio()).await.context("create")?;
    let create = mark.elapsed();
    let mark = Instant::now();
    task.start().await.context("start")?;
    let start = mark.elapsed();
    let code = task.wait_for(30).await?;
    let ran = mark.elapsed();
    let (said, complained) = (pipes.stdout.text().await?, pipes.stderr.text().await?);
    let mark = Instant::now();
    task.delete().await.context("delete")?;
    let delete = mark.elapsed();
    container.remove().await?;
    said.lines().for_each(|line| println!("  | {line}"));
    ensure!(code == 0 && complained.is_empty(), "the container ended with {code}: {complained}");
    println!("\n{:<9}{}\n{:<9}{}", "create", shown(create), "start", shown(start));
    println!("{:<9}{}\n{:<9}{}", "ran for", shown(ran), "delete", shown(delete));
    Ok(())
}

fn shown(time: Duration) -> String {
    format!("{:>6.1} ms", time.as_secs_f64() * 1000.0)
}

/// The idle shim beside that of containerd, when runc is installed.
async fn weights(daemon: &Arc<Containerd>, client: &Client) -> Result<()> {
    println!("\nan idle shim        PSS   private dirty   threads");
    weigh(client, client.runtime.product.name()).await?;
    if Path::new("/usr/sbin/runc").exists() {
        let peer = daemon.client_for(Runtime::of(Product::Runc)).await?;
        weigh(&peer, "runc.v2 (Go)").await?;
    }
    Ok(())
}

async fn weigh(client: &Client, name: &str) -> Result<()> {
    let id = format!("idle-{}", client.runtime.product.name());
    let task = client.sleeper(&id, |_| {}).await.with_context(|| format!("start under {name}"))?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let Memory { pss, private_dirty, threads, .. } = memory(&task).context("the shim is gone")?;
    println!("{name:<15} {pss:>5} kB {private_dirty:>12} kB {threads:>9}");
    task.destroy().await?;
    Ok(())
}

fn memory(task: &Task) -> Option<Memory> {
    machine::memory(machine::status(task.pid, "PPid")?.parse().ok()?)
}
