//! Faults: the shim killed at many points, containerd killed half-way, races, hostile bytes. Then nothing may be left.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use integration::{
    Client, Containerd, Happening, Product, Recorder, Stdio, leftovers, machine, pace, shared, skip_unless_tare, spec,
    until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn kill(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("process 0")?;
    kill_process(pid, signal).with_context(|| format!("signal {pid:?}"))
}

/// The shim of a container, by the parent of its init.
fn shim_of(init: u32) -> Result<u32> {
    machine::status(init, "PPid").context("init is gone")?.parse().context("a parent")
}

/// Delays that spread over a create: the peers need a tenth of a second for it, tare a few milliseconds.
fn moments() -> Vec<Duration> {
    let (count, step) = if Product::under_test() == Product::Tare { (40, 400) } else { (8, 15_000) };
    let few = u32::try_from(pace::rounds(count)).unwrap_or(u32::MAX);
    let step = Duration::from_micros(step) * u32::try_from(count).unwrap_or(1) / few;
    (0..few).map(|number| pace::patience(step * number)).collect()
}

/// Everything of a container's is gone from the host, whatever became of its record.
///
/// A shim whose `start` was killed, or whose containerd, has never been heard of: it goes by itself after a minute. The
/// socket of a `start` that was killed before that has no owner at all; the next start of its id replaces it (see
/// [`f32_a_stale_socket_is_replaced`]).
async fn check_nothing_is_left(client: &Client, what: &str) {
    let is_tare = Product::under_test() == Product::Tare;
    let patience = Duration::from_secs(if is_tare { 75 + u64::from(pace::slow()) } else { 1 });
    let left = client.daemon.leftovers_after(patience, |thing| !thing.starts_with("socket "));
    if Product::under_test() == Product::Tare {
        assert!(left.is_empty(), "after {what}:\n{left}");
    } else if !left.is_empty() {
        println!("positive control, after {what}:\n{left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_the_shim_is_killed_during_create() -> Result<()> {
    let daemon = Arc::new(Containerd::start()?);
    let client = daemon.client().await?;
    let (mut hit, mut created) = (0, 0);
    for (number, delay) in moments().into_iter().enumerate() {
        let id = format!("kill-create-{number}");
        let container = client.container(&id, |_| {}).await?;
        let creating = tokio::spawn({
            let container = container.clone();
            async move { container.create(&Stdio::null()).await }
        });
        // Both the `start` that containerd runs and the shim that serves are fair game.
        tokio::time::sleep(delay).await;
        let needle = format!("-id {id} ");
        for pid in machine::pids().into_iter().filter(|pid| machine::command_line(*pid).contains(&needle)) {
            hit += usize::from(kill(pid, Signal::KILL).is_ok());
        }
        let answer =
            tokio::time::timeout(pace::patience(Duration::from_secs(20)), creating).await.context("create hangs")??;
        if let Ok(task) = answer {
            created += 1;
            task.wait_for(5).await.ok();
        }
        container.abandon().await;
    }
    println!("{hit} processes killed, {created} tasks created nevertheless");
    assert!(hit > 0, "no shim was ever there to be killed");
    check_nothing_is_left(&client, "SIGKILL of the shim during create").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_the_shim_is_killed_after_create_after_start_and_during_delete() -> Result<()> {
    let daemon = Arc::new(Containerd::start()?);
    let client = daemon.client().await?;
    for point in ["created", "running", "exec", "paused", "stopped", "deleting"] {
        let container =
            client.container(&format!("kill-{point}"), |config| spec::args(config, &["sleep", "1000"])).await?;
        let task = container.create(&Stdio::null()).await?;
        let shim = shim_of(task.pid)?;
        if point != "created" {
            task.start().await?;
        }
        match point {
            "exec" => {
                let exec =
                    task.exec("more", &Stdio::null(), |process| process["args"] = json!(["sleep", "1000"])).await?;
                exec.start().await?;
            }
            "paused" => task.pause().await?,
            "stopped" | "deleting" => {
                task.kill(9).await?;
                task.wait_for(10).await?;
            }
            _ => {}
        }
        let deleting = (point == "deleting").then(|| {
            let task = task.clone();
            tokio::spawn(async move { task.delete().await })
        });
        kill(shim, Signal::KILL)?;
        if let Some(deleting) = deleting {
            let _ = tokio::time::timeout(pace::patience(Duration::from_secs(20)), deleting)
                .await
                .context("delete hangs")?;
        }
        until(10, || !machine::alive(task.pid)).await.with_context(|| format!("init lives on, killed when {point}"))?;
        container.abandon().await;
    }
    check_nothing_is_left(&client, "SIGKILL of the shim at rest").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f5_the_exit_code_outlives_the_shim() -> Result<()> {
    if skip_unless_tare("containerd's own shim answers 137 for every task whose shim died (containerd#14113)") {
        return Ok(());
    }
    let client = shared()?.client().await?;
    let recorder = Recorder::start(&client).await?;
    let container = client.container("true-code", |config| spec::args(config, &["sh", "-c", "exit 23"])).await?;
    let task = container.create(&Stdio::null()).await?;
    let shim = shim_of(task.pid)?;
    task.start().await?;
    assert_eq!(task.wait_for(10).await?, 23);
    kill(shim, Signal::KILL)?;
    recorder.expect(10, "true-code", |what| matches!(what, Happening::Delete(_))).await?;
    let codes: Vec<u32> = recorder
        .of("true-code")
        .into_iter()
        .filter_map(|what| if let Happening::Exit { code, .. } = what { Some(code) } else { None })
        .collect();
    assert!(!codes.is_empty() && codes.iter().all(|code| *code == 23), "{codes:?}");
    container.abandon().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f2_containerd_is_killed_during_create() -> Result<()> {
    let daemon = Arc::new(Containerd::start()?);
    let mut client = daemon.client().await?;
    let moments = moments();
    let every = if Product::under_test() == Product::Tare { pace::rounds(6) } else { 2 };
    for (number, delay) in moments.into_iter().enumerate().step_by(every) {
        let container = client.container(&format!("daemon-dies-{number}"), |_| {}).await?;
        let creating = tokio::spawn({
            let container = container.clone();
            async move { container.create(&Stdio::null()).await }
        });
        tokio::time::sleep(delay + pace::patience(Duration::from_millis(3))).await;
        daemon.stop()?;
        let _ = creating.await?;
        daemon.resume()?;
        client = client.reconnected().await?;
        let container = container.on(&client);
        // Whatever containerd found, a kill and a delete must end it.
        container.abandon().await;
    }
    check_nothing_is_left(&client, "SIGKILL of containerd during create").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_live_on_while_containerd_is_restarted() -> Result<()> {
    let daemon = Arc::new(Containerd::start()?);
    let client = daemon.client().await?;
    let task = client.sleeper("survivor", |_| {}).await?;
    for polite in [true, false] {
        if polite {
            daemon.stop_politely()?
        } else {
            daemon.stop()?
        };
        assert!(machine::alive(task.pid));
        daemon.resume()?;
        let client = client.reconnected().await?;
        let task = task.on(&client);
        assert_eq!(task.phase().await?, integration::Phase::Running);
        assert_eq!(task.state().await?.pid, task.pid);
        assert_eq!(task.run(&format!("after-{polite}"), &["echo", "here"]).await?.stdout, "here\n");
    }
    let client = client.reconnected().await?;
    task.on(&client).destroy().await?;
    let left = daemon.leftovers();
    assert!(left.is_empty(), "{left}");
    Ok(())
}

#[tokio::test]
async fn f32_a_stale_socket_is_replaced() -> Result<()> {
    let client = shared()?.client().await?;
    let socket = leftovers::socket(client.daemon.home(), "stale");
    std::fs::create_dir_all(socket.parent().context("a folder")?)?;
    drop(UnixListener::bind(&socket)?);
    assert_eq!(client.run("stale", &["true"], |_| {}).await?.code, 0);
    assert!(!socket.exists(), "the socket is left behind");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f32_twenty_racing_starts_of_a_group_make_one_shim() -> Result<()> {
    let client = shared()?.client().await?;
    let mut starting = tokio::task::JoinSet::new();
    for number in 0..20 {
        let client = client.clone();
        starting.spawn(async move {
            let group = |config: &mut Value| config["annotations"] = json!({ "io.containerd.runc.v2.group": "race" });
            client.sleeper(&format!("race-start-{number}"), group).await
        });
    }
    let mut tasks = Vec::new();
    let mut refused = Vec::new();
    while let Some(started) = starting.join_next().await {
        match started? {
            Ok(task) => tasks.push(task),
            Err(error) => refused.push(format!("{error:#}")),
        }
    }
    let shims: std::collections::BTreeSet<_> =
        tasks.iter().filter_map(|task| machine::status(task.pid, "PPid")).collect();
    for task in &tasks {
        task.destroy().await?;
    }
    if Product::under_test() == Product::Tare {
        assert!(refused.is_empty(), "{refused:?}");
        assert_eq!(shims.len(), 1, "{shims:?}");
    } else {
        println!("positive control: {} refused, {} shims", refused.len(), shims.len());
    }
    Ok(())
}

#[tokio::test]
async fn f31_the_shim_ignores_sigterm_while_it_has_a_task() -> Result<()> {
    if skip_unless_tare("containerd's own shim ends on SIGTERM and leaves its containers alone (rust-ext#59)") {
        return Ok(());
    }
    let client = shared()?.client().await?;
    let task = client.sleeper("sigterm", |_| {}).await?;
    let shim = shim_of(task.pid)?;
    for signal in [Signal::TERM, Signal::INT, Signal::PIPE] {
        kill(shim, signal)?;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(task.run("after", &["echo", "here"]).await?.stdout, "here\n");
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn f35_an_init_killed_between_create_and_start_is_an_error_at_start() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client.container("init-dies", |config| spec::args(config, &["true"])).await?;
    let task = container.create(&Stdio::null()).await?;
    kill(task.pid, Signal::KILL)?;
    until(5, || !machine::alive(task.pid)).await?;
    let started =
        tokio::time::timeout(pace::patience(Duration::from_secs(10)), task.start()).await.context("start hangs")?;
    assert!(started.is_err(), "a dead init was started");
    container.abandon().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f7_many_execs_end_with_init_and_each_is_told() -> Result<()> {
    let is_tare = Product::under_test() == Product::Tare;
    let count = pace::rounds(if is_tare { 300 } else { 20 });
    let client = shared()?.client().await?;
    let recorder = Recorder::start(&client).await?;
    let task = client.sleeper("many-execs", |_| {}).await?;
    for number in 0..count {
        let exec = task
            .exec(&format!("e{number}"), &Stdio::null(), |process| process["args"] = json!(["sleep", "1000"]))
            .await?;
        exec.start().await?;
    }
    task.kill(9).await?;
    assert_eq!(task.wait_for(20).await?, 137);
    let exits = || recorder.of("many-execs").iter().filter(|what| matches!(what, Happening::Exit { .. })).count();
    until(20, || exits() > count).await.with_context(|| format!("{} of {} exits told", exits(), count + 1))?;
    assert_eq!(exits(), count + 1);
    let told = recorder.of("many-execs");
    let last = told.iter().rev().find_map(|what| if let Happening::Exit { id, .. } = what { Some(id) } else { None });
    assert_eq!(last.map(String::as_str), Some("many-execs"), "init is not the last");
    task.delete().await?;
    task.container.remove().await
}

/// A ttrpc frame: length, stream, type, flags, payload.
fn frame(stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &stream.to_be_bytes()[..], &[kind, 0], payload].concat()
}

#[tokio::test]
async fn f22_hostile_bytes_on_the_socket_do_not_end_the_shim() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client.sleeper("hostile-bytes", |_| {}).await?;
    let shim = shim_of(task.pid)?;
    let before = machine::memory(shim).context("the shim is gone")?;
    let socket = leftovers::socket(client.daemon.home(), "hostile-bytes");
    let huge = [&u32::MAX.to_be_bytes()[..], &1_u32.to_be_bytes()[..], &[1, 0]].concat();
    let cases: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0; 5],
        vec![0xff; 4096],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        huge,
        frame(1, 3, b"data on a stream that was never opened"),
        frame(2, 1, b"an even stream"),
        frame(0, 1, &[]),
        frame(1, 9, b"an unknown type"),
        frame(1, 1, &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        [frame(1, 1, b"\x0a\x01x"), frame(1, 1, b"\x0a\x01x")].concat(),
        frame(1, 1, &vec![0x0a; 5 << 20]),
    ];
    for case in &cases {
        let stream = UnixStream::connect(&socket);
        if stream.is_err() && Product::under_test() != Product::Tare {
            println!("positive control: the Go shim of 1.7 and 2.1 dies of a DATA frame (containerd#12977)");
            task.container.abandon().await;
            return Ok(());
        }
        let mut stream = stream.context("connect to the shim")?;
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        stream.set_write_timeout(Some(Duration::from_millis(200)))?;
        let _ = stream.write_all(case);
        let _ = stream.read(&mut [0; 1024]);
    }
    let idle: Vec<_> = (0..100).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    assert_eq!(idle.len(), 100);
    drop(idle);
    assert_eq!(task.run("after", &["echo", "here"]).await?.stdout, "here\n");
    let after = machine::memory(shim).context("the shim is gone")?;
    if Product::under_test() == Product::Tare {
        assert!(after.private_dirty < before.private_dirty + 1024, "{before:?} became {after:?}");
    }
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn f25_a_root_file_system_in_use_does_not_hold_up_the_delete() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client.sleeper("busy-root", |_| {}).await?;
    let rootfs = client.daemon.bundle("busy-root").join("rootfs");
    let mut guest = std::process::Command::new("sleep").arg("3").current_dir(&rootfs).spawn()?;
    task.kill(9).await?;
    task.wait_for(10).await?;
    let deleted = task.delete().await;
    guest.kill()?;
    guest.wait()?;
    if !skip_unless_tare("containerd's own shim fails with EBUSY after its retries") {
        deleted?;
        task.container.remove().await?;
    } else {
        let _ = task.delete().await;
        until(5, || client.daemon.bundle("busy-root").exists()).await.ok();
        task.container.abandon().await;
    }
    Ok(())
}

#[tokio::test]
async fn f17_a_full_disk_fails_the_create_and_leaves_nothing() -> Result<()> {
    let client = shared()?.client().await?;
    let small = client.daemon.home().join("runtime").join("small");
    std::fs::create_dir_all(&small)?;
    // A runtime root without room: the runtime's state cannot be written, whatever it is.
    let data = c"size=4k,nr_inodes=2";
    rustix::mount::mount("tmpfs", &small, "tmpfs", rustix::mount::MountFlags::empty(), data)?;
    let container = client.container_rooted("no-room", &small, |_| {}).await?;
    let refused = container.create(&Stdio::null()).await;
    let created = refused.is_ok();
    container.abandon().await;
    rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH)?;
    let group = machine::cgroups(&container.cgroup());
    if Product::under_test() == Product::Tare && created {
        println!("tare keeps nothing in the runtime root");
    } else {
        assert!(!created, "created without room for its state");
    }
    assert!(group.is_empty(), "{group:?}");
    Ok(())
}
