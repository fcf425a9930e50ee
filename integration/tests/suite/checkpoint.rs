//! A container written to disk and brought back by a client of containerd.

use anyhow::{Context, Result};
use integration::{
    Code, Phase, Pipes, Status, Stdin, Stdio, Task, machine, message, shared, skip_unless_tare, skip_without_criu,
    spec, until,
};
use prost_types::Any;
use serde_json::json;

/// Counts, a line every twentieth of a second.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";

/// The choice to end the container. containerd knows the message under two names, and each release one of them for a
/// runtime that is not its own.
async fn checkpoint_and_end(task: &Task) -> Result<(), Status> {
    let exit = |name: &str| Some(Any { type_url: name.to_owned(), value: vec![8, 1] });
    let answer = match task.checkpoint(exit("containerd.runc.v1.CheckpointOptions")).await {
        Err(refused) if refused.message().contains("invalid") => {
            task.checkpoint(exit("containerd.linux.runc.CheckpointOptions")).await
        }
        other => other,
    };
    match answer {
        // Afterwards containerd 1.6 keeps the specification, and stumbles over that of an earlier checkpoint.
        Err(refused) if refused.code() == Code::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

fn last_number(text: &[u8]) -> Option<u32> {
    String::from_utf8_lossy(text).lines().filter_map(|line| line.parse().ok()).next_back()
}

fn first_number(text: &[u8]) -> Option<u32> {
    String::from_utf8_lossy(text).lines().next()?.parse().ok()
}

#[tokio::test]
async fn a_task_goes_on_from_its_checkpoint() -> Result<()> {
    if skip_without_criu()
        || machine::unified()
            && skip_unless_tare("on cgroup version 2, it restores into the cgroup that the image is of")
    {
        return Ok(());
    }
    let client = shared()?.client().await?;
    let container = client.container("goes-on", |config| spec::args(config, &["sh", "-c", COUNT])).await?;
    let pipes = Pipes::new(&client.daemon)?;
    let task = container.start(&pipes.stdio()).await?;
    pipes.stdout.expect("3\n").await?;
    let image = task.checkpoint(None).await?.context("an image")?;
    // It runs on, until it is ended.
    assert_eq!(task.phase().await?, Phase::Running);
    let seen = last_number(&pipes.stdout.bytes()).context("a number")?;
    pipes.stdout.expect(&format!("{}\n", seen + 2)).await?;
    task.kill(9).await?;
    task.wait_for(10).await?;
    task.delete().await?;

    container.remove().await?;

    // Elsewhere: another container, with a fresh root file system and a cgroup of its own.
    let container = client.container("goes-on-elsewhere", |config| spec::args(config, &["sh", "-c", COUNT])).await?;
    let pipes = Pipes::new(&client.daemon)?;
    let task = container.create_from(&pipes.stdio(), Some(image.clone())).await?;
    assert_eq!((task.pid, task.phase().await?), (0, Phase::Created));
    let refused = task.exec("early", &Stdio::null(), |_| {}).await.unwrap_err();
    let refused = message(&refused.into());
    assert!(refused.contains("cannot exec in a created state"), "{refused}");
    let pid = task.start().await?;
    assert_eq!((task.phase().await?, task.state().await?.pid), (Phase::Running, pid));
    pipes.stdout.expect("\n").await?;
    let first = first_number(&pipes.stdout.bytes()).context("a number")?;
    assert!((4..=seen + 2).contains(&first), "{first} after {seen}");
    let cgroups = machine::cgroup_processes(&container.cgroup());
    assert!(cgroups.contains(&pid), "{pid} is not in {cgroups:?}");
    let output = task.run("beside", &["ps"]).await?;
    assert!(output.stdout.contains("sh -c i=0"), "{output:?}");
    task.pause().await?;
    assert_eq!(task.phase().await?, Phase::Paused);
    task.resume().await?;
    checkpoint_and_end(&task).await?;
    assert_eq!(task.wait_for(10).await?, 137);
    assert!(!machine::alive(pid));
    task.delete().await?;

    container.remove().await?;

    // One that was never started leaves nothing.
    let container = client.container("goes-nowhere", |config| spec::args(config, &["sh", "-c", COUNT])).await?;
    let task = container.create_from(&Stdio::null(), Some(image)).await?;
    task.delete().await?;
    assert_eq!(machine::cgroups(&container.cgroup()), Vec::<std::path::PathBuf>::new());
    container.remove().await
}

#[tokio::test]
async fn a_terminal_goes_on_from_its_checkpoint() -> Result<()> {
    if skip_without_criu() {
        return Ok(());
    }
    let client = shared()?.client().await?;
    let on_terminal = |config: &mut serde_json::Value| {
        spec::args(config, &["sh", "-c", "n=0; while read line; do n=$((n+1)); echo $n: $line; done"]);
        config["process"]["terminal"] = json!(true);
    };
    let container = client.container("terminal-goes-on", on_terminal).await?;
    let streams = |stdin: &Stdin, pipes: &Pipes| Stdio {
        stdin: stdin.path(),
        stdout: pipes.stdout.path(),
        terminal: true,
        ..Stdio::default()
    };
    let (mut stdin, pipes) = (Stdin::new(&client.daemon)?, Pipes::new(&client.daemon)?);
    let task = container.start(&streams(&stdin, &pipes)).await?;
    stdin.write("one\n")?;
    pipes.stdout.expect("1: one").await?;
    let image = task.checkpoint(None).await?.context("an image")?;
    task.kill(9).await?;
    task.wait_for(10).await?;
    task.delete().await?;
    container.remove().await?;
    let container = client.container("terminal-goes-on-elsewhere", on_terminal).await?;
    let (mut stdin, pipes) = (Stdin::new(&client.daemon)?, Pipes::new(&client.daemon)?);
    let task = container.create_from(&streams(&stdin, &pipes), Some(image)).await?;
    task.start().await?;
    task.resize(91, 30).await?;
    stdin.write("two\n")?;
    pipes.stdout.expect("2: two").await?;
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn only_a_task_that_runs_can_be_checkpointed() -> Result<()> {
    if skip_without_criu() {
        return Ok(());
    }
    let client = shared()?.client().await?;
    let container = client.container("unwritten", |config| spec::args(config, &["sleep", "1000"])).await?;
    let task = container.create(&Stdio::null()).await?;
    let refused = task.checkpoint(None).await.unwrap_err();
    assert!(refused.message().contains("cannot checkpoint a task in created state"), "{refused}");
    task.start().await?;
    task.kill(9).await?;
    task.wait_for(10).await?;
    until(5, || task_is_gone(task.pid)).await?;
    let refused = task.checkpoint(None).await.unwrap_err();
    assert!(refused.message().contains("cannot checkpoint a stopped"), "{refused}");
    assert_ne!(refused.code(), Code::Ok);
    task.delete().await?;
    container.remove().await
}

fn task_is_gone(pid: u32) -> bool {
    !machine::alive(pid)
}
