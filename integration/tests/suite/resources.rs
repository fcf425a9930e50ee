//! Limits and what is told of them: metrics, updates, out of memory, pause.

use anyhow::{Context, Result};
use integration::{Happening, Pipes, Recorder, Stdio, machine, pace, shared, skip_unless_tare, spec, until};
use prost::Message;
use serde_json::{Value, json};

/// The fields of `io.containerd.cgroups.v1.Metrics` that are judged here.
#[derive(Clone, PartialEq, Message)]
struct MetricsV1 {
    #[prost(message, optional, tag = "2")]
    pids: Option<Pids>,
    #[prost(message, optional, tag = "3")]
    cpu: Option<Cpu>,
    #[prost(message, optional, tag = "4")]
    memory: Option<MemoryV1>,
}

#[derive(Clone, PartialEq, Message)]
struct Pids {
    #[prost(uint64, tag = "1")]
    current: u64,
    #[prost(uint64, tag = "2")]
    limit: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Cpu {
    #[prost(message, optional, tag = "1")]
    usage: Option<CpuUsage>,
    #[prost(message, optional, tag = "2")]
    throttling: Option<Throttling>,
}

#[derive(Clone, PartialEq, Message)]
struct CpuUsage {
    #[prost(uint64, tag = "1")]
    total: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Throttling {
    #[prost(uint64, tag = "1")]
    periods: u64,
}

#[derive(Clone, PartialEq, Message)]
struct MemoryV1 {
    #[prost(uint64, tag = "2")]
    rss: u64,
    #[prost(message, optional, tag = "33")]
    usage: Option<Usage>,
}

#[derive(Clone, PartialEq, Message)]
struct Usage {
    #[prost(uint64, tag = "1")]
    limit: u64,
    #[prost(uint64, tag = "2")]
    usage: u64,
    #[prost(uint64, tag = "3")]
    max: u64,
}

/// The fields of `io.containerd.cgroups.v2.Metrics` that are judged here.
#[derive(Clone, PartialEq, Message)]
struct MetricsV2 {
    #[prost(message, optional, tag = "1")]
    pids: Option<Pids>,
    #[prost(message, optional, tag = "2")]
    cpu: Option<CpuV2>,
    #[prost(message, optional, tag = "4")]
    memory: Option<MemoryV2>,
}

#[derive(Clone, PartialEq, Message)]
struct CpuV2 {
    #[prost(uint64, tag = "1")]
    usage_usec: u64,
}

#[derive(Clone, PartialEq, Message)]
struct MemoryV2 {
    #[prost(uint64, tag = "32")]
    usage: u64,
    #[prost(uint64, tag = "33")]
    usage_limit: u64,
}

fn limited(config: &mut Value) {
    config["linux"]["resources"]["memory"] = json!({ "limit": 32 << 20 });
    config["linux"]["resources"]["pids"] = json!({ "limit": 50 });
}

#[tokio::test]
async fn metrics_are_of_the_hosts_kind_and_true() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client
        .container("metrics", |config| {
            limited(config);
            spec::args(config, &["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1000"]);
        })
        .await?
        .start(&Stdio::null())
        .await?;
    tokio::time::sleep(pace::patience(std::time::Duration::from_millis(500))).await;
    let metrics = task.metrics().await?;
    let version = if machine::unified() { "v2" } else { "v1" };
    assert_eq!(metrics.type_url, format!("io.containerd.cgroups.{version}.Metrics"));
    let (pids, usage, limit, cpu) = if machine::unified() {
        let metrics = MetricsV2::decode(metrics.value.as_slice())?;
        let memory = metrics.memory.context("no memory")?;
        (metrics.pids, memory.usage, memory.usage_limit, metrics.cpu.context("no cpu")?.usage_usec * 1000)
    } else {
        let metrics = MetricsV1::decode(metrics.value.as_slice())?;
        let memory = metrics.memory.context("no memory")?.usage.context("no usage")?;
        let cpu = metrics.cpu.context("no cpu")?.usage.context("no cpu usage")?;
        assert!(memory.max >= memory.usage, "{memory:?}");
        (metrics.pids, memory.usage, memory.limit, cpu.total)
    };
    let pids = pids.context("no pids")?;
    assert!((1..=2).contains(&pids.current), "{pids:?}");
    assert_eq!((pids.limit, limit), (50, 32 << 20));
    assert!((100_000..32 << 20).contains(&usage), "{usage} bytes used");
    assert!((1_000_000..5_000_000_000 * u64::from(pace::slow())).contains(&cpu), "{cpu} ns of processor time");
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn limits_can_be_changed_while_it_runs() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client.sleeper("update", limited).await?;
    task.update(&json!({
        "memory": { "limit": 48 << 20 },
        "cpu": { "shares": 256, "quota": 20_000, "period": 100_000 },
        "pids": { "limit": 60 },
    }))
    .await?;
    let group = task.container.cgroup();
    let expected: &[(&str, &str, &str)] = if machine::unified() {
        &[("memory", "memory.max", "50331648"), ("cpu", "cpu.max", "20000 100000"), ("pids", "pids.max", "60")]
    } else {
        &[
            ("memory", "memory.limit_in_bytes", "50331648"),
            ("cpu", "cpu.shares", "256"),
            ("cpu", "cpu.cfs_quota_us", "20000"),
            ("pids", "pids.max", "60"),
        ]
    };
    for (controller, file, value) in expected {
        assert_eq!(machine::cgroup_file(&group, controller, file).as_deref(), Some(*value), "{file}");
    }
    task.kill(9).await?;
    task.wait_for(10).await?;
    assert!(task.update(&json!({ "pids": { "limit": 70 } })).await.is_err(), "a stopped task was updated");
    task.delete().await?;
    task.container.remove().await
}

#[tokio::test]
async fn f30_out_of_memory_is_told_before_the_exit() -> Result<()> {
    let client = shared()?.client().await?;
    let recorder = Recorder::start(&client).await?;
    let container = client
        .container("oom", |config| {
            limited(config);
            // The whole of a tmpfs is charged to the container; tail keeps what it reads.
            spec::args(config, &["sh", "-c", "tail /dev/zero; exit 0"]);
            config["process"]["oomScoreAdj"] = json!(100);
        })
        .await?;
    let task = container.start(&Stdio::null()).await?;
    task.wait_for(20).await?;
    recorder.expect(10, "oom", |what| matches!(what, Happening::Oom)).await?;
    recorder.expect(10, "oom", |what| matches!(what, Happening::Exit { .. })).await?;
    let told = recorder.of("oom");
    let place = |is: fn(&Happening) -> bool| told.iter().position(is);
    let oom = place(|what| matches!(what, Happening::Oom));
    let exit = place(|what| matches!(what, Happening::Exit { .. }));
    task.delete().await?;
    container.remove().await?;
    if !skip_unless_tare("the order of oom and exit; containerd's own shim runs two goroutines against each other") {
        assert!(oom < exit, "{told:?}");
    }
    Ok(())
}

#[tokio::test]
async fn f30_an_init_killed_for_memory_is_told_before_its_exit() -> Result<()> {
    let client = shared()?.client().await?;
    let recorder = Recorder::start(&client).await?;
    let container = client
        .container("oom-init", |config| {
            limited(config);
            spec::args(config, &["tail", "/dev/zero"]);
        })
        .await?;
    let task = container.start(&Stdio::null()).await?;
    assert_eq!(task.wait_for(20).await?, 137);
    recorder.expect(10, "oom-init", |what| matches!(what, Happening::Exit { .. })).await?;
    if !skip_unless_tare("an oom event of init itself is often lost by containerd's own shim") {
        let told = recorder.of("oom-init");
        let oom = told.iter().position(|what| *what == Happening::Oom);
        let exit = told.iter().position(|what| matches!(what, Happening::Exit { .. }));
        assert!(oom.is_some() && oom < exit, "{told:?}");
    }
    task.delete().await?;
    container.remove().await
}

#[tokio::test]
async fn f11_a_paused_container_stands_still_and_can_be_killed() -> Result<()> {
    let client = shared()?.client().await?;
    let script = "while :; do echo tick; sleep 0.02; done";
    let container = client.container("pause", |config| spec::args(config, &["sh", "-c", script])).await?;
    let pipes = Pipes::new(&client.daemon)?;
    let task = container.start(&pipes.stdio()).await?;
    pipes.stdout.expect("tick").await?;
    task.pause().await?;
    tokio::time::sleep(pace::patience(std::time::Duration::from_millis(100))).await;
    let before = pipes.stdout.count();
    tokio::time::sleep(pace::patience(std::time::Duration::from_millis(200))).await;
    assert_eq!(pipes.stdout.count(), before, "it runs on");
    task.resume().await?;
    until(5, || pipes.stdout.count() > before).await.context("it does not run again")?;
    task.pause().await?;
    task.kill(9).await?;
    assert_eq!(task.wait_for(10).await?, 137);
    task.delete().await?;
    container.remove().await
}
