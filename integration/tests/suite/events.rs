//! Events: their topics, their order, and that none is lost or told twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use integration::{
    Client, Containerd, Happening, Product, Recorder, Stdio, full, message, pace, shared, skip_unless_tare, spec, until,
};
use serde_json::json;

/// One container's events must be exactly these, in this order.
fn check(recorder: &Recorder, container: &str, expected: &[Happening]) {
    assert_eq!(recorder.of(container), expected, "{container}");
}

/// containerd's own shim of 2.1 now and then ends before it has told of the deletion.
fn is_tare() -> bool {
    Product::under_test() == Product::Tare
}

fn is_exit(what: &Happening, of: &str) -> bool {
    matches!(what, Happening::Exit { id, .. } if id == of)
}

fn is_delete(what: &Happening) -> bool {
    matches!(what, Happening::Delete(id) if id.is_empty())
}

#[tokio::test]
async fn a_life_is_told_in_order() -> Result<()> {
    let client = shared()?.client().await?;
    let recorder = Recorder::start(&client).await?;
    let task = client.sleeper("events-life", |_| {}).await?;
    task.pause().await?;
    task.resume().await?;
    task.destroy().await?;
    let deleted = recorder.expect(5, "events-life", is_delete).await;
    let mut expected = vec![
        Happening::Create(task.pid),
        Happening::Start(task.pid),
        Happening::Paused,
        Happening::Resumed,
        Happening::Exit { id: "events-life".to_owned(), pid: task.pid, code: 137 },
    ];
    if is_tare() || deleted.is_ok() {
        expected.push(Happening::Delete(String::new()));
    }
    check(&recorder, "events-life", &expected);
    Ok(())
}

#[tokio::test]
async fn a_container_that_was_never_started_is_created_and_deleted() -> Result<()> {
    let client = shared()?.client().await?;
    let recorder = Recorder::start(&client).await?;
    let container = client.container("events-unstarted", |_| {}).await?;
    let task = container.create(&Stdio::null()).await?;
    task.delete().await?;
    container.remove().await?;
    let deleted = recorder.expect(5, "events-unstarted", is_delete).await;
    assert!(deleted.is_ok() || !is_tare(), "{deleted:?}");
    let told = recorder.of("events-unstarted");
    assert_eq!(told.first(), Some(&Happening::Create(task.pid)), "{told:?}");
    assert!(!told.iter().any(|what| matches!(what, Happening::Start(_))), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn f4_an_exec_is_told_before_init_ends() -> Result<()> {
    let client = shared()?.client().await?;
    let recorder = Recorder::start(&client).await?;
    let task = client.sleeper("events-exec", |_| {}).await?;
    let exec = task.exec("second", &Stdio::null(), |process| process["args"] = json!(["sleep", "1000"])).await?;
    let second = exec.start().await?;
    // The end of init ends the exec; its exit must come first.
    task.destroy().await?;
    recorder.expect(5, "events-exec", |what| is_exit(what, "events-exec")).await?;
    let told: Vec<_> =
        recorder.of("events-exec").into_iter().filter(|what| !matches!(what, Happening::Delete(_))).collect();
    let exit = |id: &str, pid| Happening::Exit { id: id.to_owned(), pid, code: 137 };
    assert_eq!(
        told,
        [
            Happening::Create(task.pid),
            Happening::Start(task.pid),
            Happening::ExecAdded("second".to_owned()),
            Happening::ExecStarted("second".to_owned(), second),
            exit("second", second),
            exit("events-exec", task.pid),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn an_ended_exec_is_deleted_with_an_event() -> Result<()> {
    if skip_unless_tare("containerd's own shim does not announce the deletion of an exec (README: SHOULD)") {
        return Ok(());
    }
    let client = shared()?.client().await?;
    let recorder = Recorder::start(&client).await?;
    let task = client.sleeper("events-exec-delete", |_| {}).await?;
    task.run("short", &["true"]).await?;
    recorder.expect(5, "events-exec-delete", |what| *what == Happening::Delete("short".to_owned())).await?;
    task.destroy().await?;
    Ok(())
}

/// Runs `true` to its end without streams and checks nothing by itself.
async fn run_true(client: &Client, id: &str) -> Result<()> {
    let container = client.container(id, |config| spec::args(config, &["true"])).await?;
    let task = container.start(&Stdio::null()).await.with_context(|| format!("start {id}"))?;
    let code = task.wait_for(30).await?;
    anyhow::ensure!(code == 0, "{id} ended with {code}");
    task.delete().await.with_context(|| format!("delete {id}"))?;
    container.remove().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f4_short_lives_are_told_whole_and_in_order() -> Result<()> {
    // The peers need a tenth of a second of both processors for each, so they prove the checker with fewer.
    let count = pace::rounds(if is_tare() || full() { 2000 } else { 100 });
    let client = shared()?.client().await?;
    let recorder = Recorder::start(&client).await?;
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (client, next) = (client.clone(), Arc::clone(&next));
        lanes.spawn(async move {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                run_true(&client, &format!("true-{number}")).await?;
            }
        });
    }
    while let Some(ended) = lanes.join_next().await {
        ended?.map_err(|error: anyhow::Error| error)?;
    }
    let deleted =
        || recorder.all().iter().filter(|event| event.container.starts_with("true-") && is_delete(&event.what)).count();
    let all_told = until(20, || deleted() == count).await;
    if is_tare() {
        all_told.with_context(|| format!("{} of {count} deletions told", deleted()))?;
    }
    let mut lives: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
    for event in recorder.all().into_iter().filter(|event| event.container.starts_with("true-")) {
        lives.entry(event.container).or_default().push(name(&event.what));
    }
    let whole = ["create", "start", "exit", "delete"];
    let right = |told: &[&str]| told == whole || (!is_tare() && told == &whole[..3]);
    let wrong: Vec<_> = lives.iter().filter(|(_, told)| !right(told)).collect();
    assert!(wrong.is_empty(), "{} of {count} told wrongly: {:?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    assert_eq!(lives.len(), count);
    Ok(())
}

fn name(what: &Happening) -> &'static str {
    match what {
        Happening::Create(_) => "create",
        Happening::Start(_) => "start",
        Happening::Exit { .. } => "exit",
        Happening::Delete(_) => "delete",
        Happening::ExecAdded(_) => "exec-added",
        Happening::ExecStarted(..) => "exec-started",
        Happening::Oom => "oom",
        Happening::Paused => "paused",
        Happening::Resumed => "resumed",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_exits_while_containerd_is_away_are_told_afterwards_in_order() -> Result<()> {
    let away = Duration::from_secs(if full() { 60 } else { 10 });
    let execs = pace::rounds(50);
    let daemon = Arc::new(Containerd::start()?);
    let client = daemon.client().await?;
    // One container, so that one shim holds the order; its execs end one after the other, 50 ms apart.
    let task = client.sleeper("away", |_| {}).await?;
    for number in 0..execs {
        let script = format!("sleep {}.{:02}; exit {number}", 1 + number / 20, number * 5 % 100);
        let exec = task
            .exec(&format!("e{number}"), &Stdio::null(), |process| {
                process["args"] = json!(["sh", "-c", format!("while [ ! -e /tmp/go ]; do sleep 0.05; done; {script}")]);
            })
            .await?;
        exec.start().await?;
    }
    assert_eq!(task.run("go", &["touch", "/tmp/go"]).await?.code, 0);
    daemon.stop()?;
    tokio::time::sleep(away).await;
    daemon.resume_deaf()?;
    let client = client.reconnected().await?;
    let recorder = Recorder::start(&client).await?;
    daemon.listen()?;
    let ended = || recorder.of("away").iter().filter(|what| matches!(what, Happening::Exit { .. })).count();
    let told_all = until(30, || ended() == execs).await;
    let codes: Vec<u32> = recorder
        .of("away")
        .into_iter()
        .filter_map(|what| if let Happening::Exit { code, .. } = what { Some(code) } else { None })
        .collect();
    if is_tare() {
        told_all.with_context(|| format!("only {} of {execs} exits told", codes.len()))?;
        // The programs may end in another order than they were told to; they must be told of in that order.
        let ends =
            recorder.all().into_iter().filter(|event| name(&event.what) == "exit").filter_map(|event| event.ended);
        let ends: Vec<_> = ends.map(|at| (at.seconds, at.nanos)).collect();
        assert!(ends.len() == execs && ends.is_sorted(), "not in order: {codes:?} ended at {ends:?}");
        assert_eq!(codes.len(), execs);
    } else {
        println!("positive control: {} of {execs} exits told, sorted: {}", codes.len(), codes.is_sorted());
    }
    let task = task.on(&client);
    for number in 0..execs {
        let mut exec = integration::Process::clone(&task);
        exec.exec_id = format!("e{number}");
        assert_eq!(exec.wait_for(5).await? as usize, number, "the exit code of e{number}");
    }
    task.destroy().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_containers_that_end_while_containerd_is_away_are_told_once_each() -> Result<()> {
    let daemon = Arc::new(Containerd::start()?);
    let client = daemon.client().await?;
    let count = pace::rounds(10);
    let mut tasks = Vec::new();
    for number in 0..count {
        let script = "while [ ! -e /stop/now ]; do sleep 0.1; done; exit 3";
        let container = client
            .container(&format!("away-{number}"), |config| {
                spec::args(config, &["sh", "-c", script]);
                let folder = daemon.home().join("bin");
                spec::mount(
                    config,
                    json!({ "destination": "/stop", "type": "bind", "source": folder, "options": ["rbind"] }),
                );
            })
            .await?;
        tasks.push(container.start(&Stdio::null()).await?);
    }
    daemon.stop()?;
    std::fs::write(daemon.home().join("bin/now"), "")?;
    tokio::time::sleep(Duration::from_secs(8)).await;
    daemon.resume_deaf()?;
    let client = client.reconnected().await?;
    let recorder = Recorder::start(&client).await?;
    daemon.listen()?;
    let exits = || recorder.all().iter().filter(|event| name(&event.what) == "exit").count();
    let told_all = until(20, || exits() >= count).await;
    if is_tare() {
        told_all.with_context(|| format!("only {} of {count} exits told", exits()))?;
        assert_eq!(exits(), count, "told twice");
    } else {
        println!("positive control: {} of {count} exits told", exits());
    }
    for task in tasks {
        let task = task.on(&client);
        // From 1.7 on, containerd deletes a task itself that it finds ended when it comes back.
        match task.wait_for(5).await {
            Ok(code) => {
                assert_eq!(code, 3);
                task.delete().await?;
            }
            Err(gone) => assert!(message(&gone).contains("not found"), "{gone:?}"),
        }
        task.container.remove().await?;
    }
    let left = daemon.leftovers();
    assert!(left.is_empty(), "{left}");
    Ok(())
}
