//! Many lives in a row: descriptors, mounts, control groups, threads and memory stay as they were.

use std::sync::Arc;

use anyhow::{Context, Result};
use integration::{Client, Containerd, Product, Stdio, Task, full, machine, pace, skip_unless_tare, spec};
use serde_json::{Value, json};

/// What may not grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Weight {
    files: usize,
    mounts: usize,
    cgroups: usize,
    threads: u64,
    zombies: usize,
    dirty: u64,
}

fn weigh(client: &Client, shim: u32) -> Result<Weight> {
    let memory = machine::memory(shim).context("the shim is gone")?;
    let parent = shim.to_string();
    let is_zombie = |pid: &u32| {
        machine::status(*pid, "PPid").as_ref() == Some(&parent)
            && machine::status(*pid, "State").is_some_and(|state| state.starts_with('Z'))
    };
    let tops = machine::cgroups(client.daemon.namespace());
    Ok(Weight {
        files: machine::open_files(shim),
        mounts: machine::mounts_below(client.daemon.home()).len(),
        cgroups: tops
            .iter()
            .filter_map(|top| std::fs::read_dir(top).ok())
            .map(|entries| entries.flatten().filter(|entry| entry.path().is_dir()).count())
            .sum(),
        threads: memory.threads,
        zombies: machine::pids().iter().filter(|pid| is_zombie(pid)).count(),
        dirty: memory.private_dirty,
    })
}

fn group(config: &mut Value) {
    config["annotations"] = json!({ "io.containerd.runc.v2.group": "leaks" });
}

async fn live_once(client: &Client, id: &str) -> Result<()> {
    let container = client
        .container(id, |config| {
            group(config);
            spec::args(config, &["true"]);
        })
        .await?;
    let pipes = integration::Pipes::new(&client.daemon)?;
    let task = container.start(&pipes.stdio()).await?;
    task.wait_for(20).await?;
    task.delete().await?;
    container.remove().await
}

async fn exec_once(task: &Task, id: &str) -> Result<()> {
    let exec = task.exec(id, &Stdio::null(), |process| process["args"] = json!(["true"])).await?;
    exec.start().await?;
    exec.wait_for(20).await?;
    exec.delete().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f21_many_lives_in_one_shim_leave_it_as_it_was() -> Result<()> {
    let is_tare = Product::under_test() == Product::Tare;
    let lives = if full() {
        pace::rounds(1000)
    } else if is_tare {
        pace::rounds(200)
    } else {
        pace::rounds(20)
    };
    let daemon = Arc::new(Containerd::start()?);
    let client = daemon.client().await?;
    let keeper = client.sleeper("keeper", group).await?;
    let shim: u32 = machine::status(keeper.pid, "PPid").context("init is gone")?.parse()?;
    // An allocator's share of the heap settles after some hundred lives; what grows on is a leak.
    let warming = if is_tare { pace::rounds(200) } else { pace::rounds(10) };
    for number in 0..warming {
        live_once(&client, &format!("warm-{number}")).await?;
        exec_once(&keeper, &format!("warm-{number}")).await?;
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let before = weigh(&client, shim)?;
    for number in 0..lives {
        if number % 250 == 249 {
            println!("after {number}: {:?}", weigh(&client, shim)?);
        }
        live_once(&client, &format!("life-{number}")).await?;
        exec_once(&keeper, &format!("life-{number}")).await?;
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let after = weigh(&client, shim)?;
    println!("{lives} lives and execs: {before:?} became {after:?}");
    assert_eq!(
        (after.mounts, after.cgroups, after.zombies),
        (before.mounts, before.cgroups, before.zombies),
        "{before:?} became {after:?}"
    );
    if !skip_unless_tare("a Go shim's descriptors, threads and memory breathe") {
        assert_eq!((after.files, after.threads), (before.files, before.threads), "{before:?} became {after:?}");
        if pace::slow() == 1 {
            assert!(after.dirty <= before.dirty + 192, "{before:?} became {after:?}");
        } else {
            println!("SKIPPED: the heap has not settled after so few lives");
        }
        assert_eq!(after.threads, 1);
    }
    keeper.destroy().await?;
    let left = daemon.leftovers();
    assert!(left.is_empty(), "{left}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_shims_come_and_go_and_leave_nothing() -> Result<()> {
    let lives = if Product::under_test() == Product::Tare { pace::rounds(50) } else { 5 };
    let daemon = Arc::new(Containerd::start()?);
    let client = daemon.client().await?;
    for number in 0..lives {
        assert_eq!(client.run(&format!("alone-{number}"), &["true"], |_| {}).await?.code, 0);
    }
    let left = daemon.leftovers();
    assert!(left.is_empty(), "{left}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_shim_is_small_and_has_one_thread() -> Result<()> {
    if skip_unless_tare("the goal is tare's; a Go shim has about 11 threads and 2.8 MB") {
        return Ok(());
    }
    let daemon = Arc::new(Containerd::start()?);
    let client = daemon.client().await?;
    let mut tasks = Vec::new();
    // Not fewer where machines are slow: they share what is the same in all, and each has its part of it.
    for number in 0..20 {
        tasks.push(client.sleeper(&format!("idle-{number}"), |_| {}).await?);
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let weights: Vec<_> =
        tasks.iter().filter_map(|task| machine::memory(machine::status(task.pid, "PPid")?.parse().ok()?)).collect();
    for task in tasks {
        task.destroy().await?;
    }
    assert_eq!(weights.len(), 20);
    assert!(weights.iter().all(|weight| weight.threads == 1), "{weights:?}");
    // The goal is 350 KiB (`make bench` prints the distance); twice that is a regression of the build.
    assert!(weights.iter().all(|weight| weight.pss < 700), "{weights:?}");
    Ok(())
}
