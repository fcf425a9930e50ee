//! The life of a task: create, start, wait, kill, delete, and the refusals in between.

use std::time::{Duration, Instant};

use anyhow::Result;
use integration::{Code, Phase, Pipes, Status, Stdio, machine, message, pace, shared, skip_unless_tare, spec, until};
use serde_json::json;

/// A refusal that clients tell apart by its text.
fn check_text<T: std::fmt::Debug>(answer: Result<T, Status>, text: &str) {
    let refused = answer.err().map(|status| status.message().to_owned()).unwrap_or_default();
    assert!(refused.contains(text), "{refused:?} does not say {text:?}");
}

/// A refusal that clients tell apart by its code.
fn check_code<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code) {
    assert_eq!(answer.as_ref().err().map(Status::code), Some(code), "{answer:?}");
}

#[tokio::test]
async fn a_container_runs_and_says_its_exit_code() -> Result<()> {
    let client = shared()?.client().await?;
    let output = client.run("exit-code", &["sh", "-c", "echo out; echo err >&2; exit 7"], |_| {}).await?;
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "out\n", "err\n"));
    for code in [0, 1, 255] {
        let script = format!("exit {code}");
        assert_eq!(client.run(&format!("exit-{code}"), &["sh", "-c", &script], |_| {}).await?.code, code);
    }
    Ok(())
}

#[tokio::test]
async fn a_created_container_can_be_deleted() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client.container("created", |_| {}).await?;
    let task = container.create(&Stdio::null()).await?;
    assert_eq!(task.phase().await?, Phase::Created);
    task.delete().await?;
    assert!(!machine::alive(task.pid), "init lives on");
    container.remove().await
}

#[tokio::test]
async fn a_created_container_can_be_killed() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client.container("created-killed", |_| {}).await?;
    let task = container.create(&Stdio::null()).await?;
    task.kill(9).await?;
    assert_eq!(task.wait_for(10).await?, 137);
    assert_eq!(task.phase().await?, Phase::Stopped);
    task.delete().await?;
    container.remove().await
}

#[tokio::test]
async fn a_task_goes_through_its_states() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client.container("states", |config| spec::args(config, &["sleep", "1000"])).await?;
    let task = container.create(&Stdio::null()).await?;
    let state = task.state().await?;
    assert_eq!((state.status(), state.pid, state.id.as_str()), (Phase::Created, task.pid, "states"));
    assert_eq!(task.start().await?, task.pid);
    assert_eq!(task.phase().await?, Phase::Running);
    task.pause().await?;
    assert_eq!(task.phase().await?, Phase::Paused);
    task.resume().await?;
    assert_eq!(task.phase().await?, Phase::Running);
    task.kill(9).await?;
    assert_eq!(task.wait_for(10).await?, 137);
    let state = task.state().await?;
    assert_eq!((state.status(), state.exit_status), (Phase::Stopped, 137));
    assert!(state.exited_at.is_some_and(|at| at.seconds > 1_700_000_000), "no exit time in {state:?}");
    let exit = task.delete().await?;
    assert_eq!((exit.code, exit.pid), (137, task.pid));
    assert!(exit.at.is_some_and(|at| at.seconds > 1_700_000_000), "no exit time in {exit:?}");
    container.remove().await
}

#[tokio::test]
async fn requests_in_the_wrong_state_are_refused_in_the_words_clients_know() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client.sleeper("refusals", |_| {}).await?;
    check_text(task.start().await, "cannot start a running process");
    check_text(task.delete().await, "cannot delete a running process");
    check_text(task.resume().await, "cannot resume a running process");
    check_code(task.container.create(&Stdio::null()).await, Code::AlreadyExists);
    task.pause().await?;
    check_text(task.exec("paused", &Stdio::null(), |_| {}).await, "cannot exec in a paused state");
    check_text(task.pause().await, "cannot pause a paused container");
    task.resume().await?;
    task.kill(9).await?;
    task.wait_for(10).await?;
    check_text(task.start().await, "cannot start a stopped process");
    check_text(task.exec("stopped", &Stdio::null(), |_| {}).await, "cannot exec in a stopped state");
    check_text(task.pause().await, "cannot pause a stopped container");
    check_code(task.kill(15).await, Code::NotFound);
    task.delete().await?;
    check_code(task.state().await, Code::NotFound);
    check_code(task.kill(15).await, Code::NotFound);
    check_code(task.delete().await, Code::NotFound);
    task.container.remove().await
}

#[tokio::test]
async fn unknown_execs_are_not_found() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client.sleeper("no-exec", |_| {}).await?;
    let exec = task.exec("there", &Stdio::null(), |process| process["args"] = json!(["true"])).await?;
    let mut absent = exec.clone();
    absent.exec_id = "absent".to_owned();
    check_code(absent.state().await, Code::NotFound);
    check_code(absent.kill(9).await, Code::NotFound);
    check_code(absent.delete().await, Code::NotFound);
    check_code(exec.kill(9).await, Code::FailedPrecondition);
    exec.delete().await?;
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn a_missing_program_is_named_in_the_error() -> Result<()> {
    let client = shared()?.client().await?;
    let refused = client.run("missing", &["nope"], |_| {}).await.expect_err("there is no program nope");
    let text = message(&refused);
    assert!(text.contains("\"nope\": executable file not found in $PATH"), "{text}");
    let refused = client.run("missing-abs", &["/nope"], |_| {}).await.expect_err("there is no program /nope");
    assert!(message(&refused).contains("no such file or directory"), "{refused:#}");
    let refused = client.run("not-executable", &["/etc/passwd"], |_| {}).await.expect_err("passwd is no program");
    assert!(message(&refused).contains("permission denied"), "{refused:#}");
    Ok(())
}

#[tokio::test]
async fn f9_every_signal_reaches_a_handler() -> Result<()> {
    let client = shared()?.client().await?;
    let script = "for s in $(seq 1 64); do trap \"echo got $s.\" $s 2>/dev/null; done; echo ready\n\
                  while :; do sleep 0.02 & wait; done";
    let container = client.container("signals", |config| spec::args(config, &["sh", "-c", script])).await?;
    let pipes = Pipes::new(&client.daemon)?;
    let task = container.start(&pipes.stdio()).await?;
    pipes.stdout.expect("ready").await?;
    // 9 and 19 cannot be handled, 17 comes by itself, 32 and 33 belong to the C library, busybox knows none above 31.
    for signal in (1..32).filter(|signal| ![9, 17, 19].contains(signal)) {
        task.kill(signal).await?;
        pipes.stdout.expect(&format!("got {signal}.")).await?;
    }
    for signal in 34..=64 {
        task.kill(signal).await?;
    }
    assert_eq!(task.phase().await?, Phase::Running);
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn f9_an_ignored_sigterm_is_no_error_and_sigkill_ends() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client.sleeper("ignores-term", |_| {}).await?;
    task.kill(15).await?;
    tokio::time::sleep(pace::patience(Duration::from_millis(50))).await;
    assert_eq!(task.phase().await?, Phase::Running);
    assert_eq!(task.destroy().await?.code, 137);
    Ok(())
}

#[tokio::test]
async fn f9_an_exec_dies_of_any_signal_with_its_number() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client.sleeper("exec-signals", |_| {}).await?;
    for signal in [1, 2, 6, 15, 37, 64] {
        let id = format!("by-{signal}");
        let exec = task.exec(&id, &Stdio::null(), |process| process["args"] = json!(["sleep", "1000"])).await?;
        exec.start().await?;
        exec.kill(signal).await?;
        assert_eq!(exec.wait_for(10).await?, 128 + signal);
        assert_eq!(exec.delete().await?.code, 128 + signal);
    }
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn wait_answers_as_often_as_it_is_asked() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client.container("waits", |config| spec::args(config, &["sh", "-c", "exit 9"])).await?;
    let task = container.create(&Stdio::null()).await?;
    let early = tokio::spawn({
        let task = task.clone();
        async move { task.wait_for(10).await }
    });
    task.start().await?;
    assert_eq!(early.await??, 9);
    for _ in 0..3 {
        assert_eq!(task.wait_for(2).await?, 9);
    }
    task.delete().await?;
    container.remove().await
}

#[tokio::test]
async fn f12_the_end_of_init_ends_every_process() -> Result<()> {
    let client = shared()?.client().await?;
    for (id, shares_host) in [("end-private", false), ("end-host", true)] {
        let task = client
            .sleeper(id, |config| {
                if shares_host {
                    spec::without_namespace(config, "pid");
                }
            })
            .await?;
        let exec = task
            .exec("orphan", &Stdio::null(), |process| process["args"] = json!(["sh", "-c", "sleep 1000 & sleep 1000"]))
            .await?;
        exec.start().await?;
        until(5, || machine::cgroup_processes(&task.container.cgroup()).len() >= 3).await?;
        let processes = machine::cgroup_processes(&task.container.cgroup());
        task.destroy().await?;
        let living: Vec<_> = processes.into_iter().filter(|pid| machine::alive(*pid)).collect();
        assert_eq!(living, Vec::<u32>::new(), "{id}");
    }
    Ok(())
}

#[tokio::test]
async fn kill_all_reaches_every_process_of_the_container() -> Result<()> {
    let client = shared()?.client().await?;
    let script = "trap 'echo init' USR1; sh -c \"trap 'echo child' USR1; while :; do sleep 0.05 & wait; done\" &\n\
                  echo ready; while :; do sleep 0.05 & wait; done";
    let container = client.container("kill-all", |config| spec::args(config, &["sh", "-c", script])).await?;
    let pipes = Pipes::new(&client.daemon)?;
    let task = container.start(&pipes.stdio()).await?;
    pipes.stdout.expect("ready").await?;
    tokio::time::sleep(pace::patience(Duration::from_millis(100))).await;
    task.kill_all(10).await?;
    pipes.stdout.expect("init").await?;
    pipes.stdout.expect("child").await?;
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn pids_lists_the_processes_and_nothing_else() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client.sleeper("pids", |_| {}).await?;
    assert_eq!(task.pids().await?, vec![task.pid]);
    let exec = task.exec("second", &Stdio::null(), |process| process["args"] = json!(["sleep", "1000"])).await?;
    let second = exec.start().await?;
    let mut pids = task.pids().await?;
    pids.sort_unstable();
    let mut expected = vec![task.pid, second];
    expected.sort_unstable();
    assert_eq!(pids, expected);
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn containers_of_a_group_share_one_shim() -> Result<()> {
    let client = shared()?.client().await?;
    let group = |config: &mut serde_json::Value| {
        config["annotations"] = json!({ "io.containerd.runc.v2.group": "the-pod" });
    };
    let first = client.sleeper("group-first", group).await?;
    let second = client.sleeper("group-second", group).await?;
    let parent = |pid| machine::status(pid, "PPid");
    assert_eq!(parent(first.pid), parent(second.pid), "two shims");
    first.destroy().await?;
    assert_eq!(second.phase().await?, Phase::Running);
    second.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn f6_state_answers_while_another_create_is_slow() -> Result<()> {
    if skip_unless_tare("containerd 1.6's shim holds its lock during a create (containerd#13483)") {
        return Ok(());
    }
    let client = shared()?.client().await?;
    let group = |config: &mut serde_json::Value| {
        config["annotations"] = json!({ "io.containerd.runc.v2.group": "slow-pod" });
    };
    let first = client.sleeper("slow-first", group).await?;
    let second = client
        .container("slow-second", |config| {
            group(config);
            config["hooks"] =
                json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", &pace::slow().to_string()] }] });
        })
        .await?;
    let creating = tokio::spawn({
        let second = second.clone();
        async move { second.create(&Stdio::null()).await }
    });
    tokio::time::sleep(pace::patience(Duration::from_millis(200))).await;
    while !creating.is_finished() {
        let asked = Instant::now();
        first.state().await?;
        assert!(asked.elapsed() < pace::patience(Duration::from_millis(200)), "State took {:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    creating.await??.delete().await?;
    second.remove().await?;
    first.destroy().await?;
    Ok(())
}

/// The shim that was asked to end must not be found by the start of the next.
#[tokio::test]
async fn an_id_may_be_used_again_the_moment_it_is_free() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client.container("again", |config| spec::args(config, &["true"])).await?;
    for _ in 0..20 {
        let task = container.start(&Stdio::null()).await?;
        task.wait().await?;
        task.delete().await?;
    }
    container.remove().await
}
