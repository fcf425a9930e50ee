//! `make bench`: tare beside containerd's own shim with runc and with crun, over gRPC, in one interleaved run.
//!
//! The samples of all contenders alternate, each after a pause of 40 ms, so that what else the machine does falls on all
//! alike. Absolute times belong to the machine; the ratios travel. `BENCH_SAMPLES` (default 40) sets how many lifecycles
//! each contender gives; `BENCH_ONLY=tare,crun` leaves contenders out; `BENCH_PART=shim` or `cli` is one of both parts.

mod command_line;
mod measure;
mod table;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::{Client, Containerd, Product, Runtime, machine};

use measure::Samples;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let samples = std::env::var("BENCH_SAMPLES").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let products = contenders();
    let part = std::env::var("BENCH_PART").unwrap_or_default();
    let load = machine::load();
    if measure::counts_instructions() {
        println!("A millisecond is a million instructions here, of user and kernel; no goal is for them.");
    }
    if part != "shim" {
        println!("{}", command_line::measure(samples)?);
    }
    if part == "cli" {
        return Ok(());
    }
    ensure!(!products.is_empty(), "nothing to measure: no shim, no runc, no crun");
    let daemon = Arc::new(Containerd::start_for(&products)?);
    let mut clients = Vec::new();
    for product in &products {
        clients.push(daemon.client_for(Runtime::of(*product)).await?);
    }
    let mut results: Vec<Samples> = products.iter().map(|product| Samples::new(*product)).collect();
    lifecycles(&clients, &mut results, samples).await?;
    execs(&clients, &mut results, samples).await?;
    for (client, result) in clients.iter().zip(&mut results) {
        measure::idle(client, result).await.with_context(|| format!("idle shims of {}", result.product.name()))?;
        measure::pipe(client, result).await.with_context(|| format!("pipe of {}", result.product.name()))?;
    }
    print!("{}", table::render(&results, samples));
    if load > 0.5 && !measure::counts_instructions() {
        println!("\nThe machine was not quiet (load {load:.1} before the run): times and CPU are too high for all.");
    }
    Ok(())
}

/// Those that are installed, tare first.
fn contenders() -> Vec<Product> {
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let wanted = |product: &Product| only.is_empty() || only.split(',').any(|name| name == product.name());
    let installed = |product: &Product| match product {
        Product::Tare => integration::shim_binary().is_some(),
        Product::Runc => Path::new("/usr/sbin/runc").exists() || std::env::var_os("TARE_RUNC").is_some(),
        Product::Crun => Path::new("/usr/bin/crun").exists() || std::env::var_os("TARE_CRUN").is_some(),
    };
    let all = [Product::Tare, Product::Runc, Product::Crun];
    let (present, absent): (Vec<_>, Vec<_>) = all.into_iter().filter(wanted).partition(installed);
    for product in absent {
        eprintln!("bench: {} is not here and is left out", product.name());
    }
    present
}

async fn lifecycles(clients: &[Client], results: &mut [Samples], samples: usize) -> Result<()> {
    // The first round of each warms caches and is not counted.
    for round in 0..=samples {
        for (client, result) in clients.iter().zip(results.iter_mut()) {
            tokio::time::sleep(Duration::from_millis(40)).await;
            let sample = measure::lifecycle(client, &format!("life-{}-{round}", result.product.name())).await?;
            if round > 0 {
                result.add(&sample);
            }
        }
    }
    Ok(())
}

async fn execs(clients: &[Client], results: &mut [Samples], samples: usize) -> Result<()> {
    let mut tasks = Vec::new();
    for (client, result) in clients.iter().zip(results.iter()) {
        tasks.push(client.sleeper(&format!("exec-{}", result.product.name()), measure::with_seccomp).await?);
    }
    for round in 0..=samples {
        for (task, result) in tasks.iter().zip(results.iter_mut()) {
            tokio::time::sleep(Duration::from_millis(40)).await;
            let took = measure::exec(task, &format!("e{round}")).await?;
            if round > 0 {
                result.exec.push(took);
            }
        }
    }
    for task in tasks {
        task.destroy().await?;
    }
    Ok(())
}
