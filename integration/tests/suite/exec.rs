//! Execs: a second process in a running (or only created) container.

use anyhow::Result;
use integration::{Client, Code, Collector, Stdio, Task, machine, message, pace, shared, spec, until};
use serde_json::json;

async fn sleeper(id: &str) -> Result<(Client, Task)> {
    let client = shared()?.client().await?;
    let task = client.sleeper(id, |_| {}).await?;
    Ok((client, task))
}

#[tokio::test]
async fn an_exec_runs_beside_init_and_says_its_exit_code() -> Result<()> {
    let (_, task) = sleeper("exec-plain").await?;
    let output = task.run("one", &["sh", "-c", "echo out; echo err >&2; exit 3"]).await?;
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (3, "out\n", "err\n"));
    let output = task.run("two", &["ps", "-o", "pid,comm"]).await?;
    assert!(output.stdout.contains("1 sleep"), "not in init's pid namespace: {}", output.stdout);
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn an_exec_is_in_every_namespace_and_the_cgroup_of_init() -> Result<()> {
    let (_, task) = sleeper("exec-namespaces").await?;
    let exec = task.exec("second", &Stdio::null(), |process| process["args"] = json!(["sleep", "1000"])).await?;
    let pid = exec.start().await?;
    for namespace in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let of = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
        assert_eq!(of(pid)?, of(task.pid)?, "{namespace}");
    }
    let groups = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    assert_eq!(groups(pid)?, groups(task.pid)?);
    let root = |pid: u32| std::fs::read_link(format!("/proc/{pid}/root"));
    assert_eq!(root(pid)?, root(task.pid)?);
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
        assert_eq!(machine::status(pid, field), machine::status(task.pid, field), "{field}");
    }
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn an_exec_in_a_created_container_runs_before_init_starts() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client.container("exec-created", |config| spec::args(config, &["sleep", "1000"])).await?;
    let task = container.create(&Stdio::null()).await?;
    let output = task.run("early", &["sh", "-c", "echo early; cat /proc/self/cgroup | head -1"]).await?;
    assert!(output.stdout.starts_with("early\n"), "{output:?}");
    task.start().await?;
    assert_eq!(task.run("late", &["true"]).await?.code, 0);
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn an_exec_id_is_taken_until_it_is_deleted() -> Result<()> {
    let (_, task) = sleeper("exec-ids").await?;
    let exec = task.exec("same", &Stdio::null(), |process| process["args"] = json!(["true"])).await?;
    let refused = task.exec("same", &Stdio::null(), |_| {}).await.expect_err("the id is taken");
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    exec.start().await?;
    exec.wait_for(10).await?;
    let refused = task.exec("same", &Stdio::null(), |_| {}).await.expect_err("the id is still taken");
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    exec.delete().await?;
    assert_eq!(task.run("same", &["true"]).await?.code, 0);
    let refused = task.exec("not/an/id", &Stdio::null(), |_| {}).await.expect_err("no id");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn an_exec_that_was_never_started_can_be_deleted() -> Result<()> {
    let (_, task) = sleeper("exec-unstarted").await?;
    let exec = task.exec("idle", &Stdio::null(), |process| process["args"] = json!(["true"])).await?;
    exec.delete().await?;
    assert_eq!(task.run("idle", &["true"]).await?.code, 0);
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn a_missing_program_is_named_and_the_container_lives_on() -> Result<()> {
    let (_, task) = sleeper("exec-missing").await?;
    let refused = task.run("nope", &["nope"]).await.expect_err("there is no program nope");
    let text = message(&refused);
    assert!(text.contains("exec: \"nope\": executable file not found in $PATH"), "{text}");
    assert_eq!(task.run("there", &["true"]).await?.code, 0);
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn an_exec_takes_its_own_cwd_user_and_environment() -> Result<()> {
    let (_, task) = sleeper("exec-process").await?;
    let output = task
        .run_with("own", |process| {
            process["args"] = json!(["sh", "-c", "pwd; id -u; id -g; id -G; echo $WORD; umask"]);
            process["cwd"] = json!("/tmp");
            process["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [2000, 3000] });
            process["env"] = json!([spec::PATH, "WORD=hello world"]);
        })
        .await?;
    assert_eq!(output.stdout, "/tmp\n1000\n1001\n1001 2000 3000\nhello world\n0022\n");
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn a_numeric_user_beyond_the_last_is_refused() -> Result<()> {
    let (_, task) = sleeper("exec-user").await?;
    // (uid_t)-1 leaves setresuid without effect: crun 1.8.1 ran it as root.
    let run = task
        .run_with("minus-one", |process| {
            process["args"] = json!(["id", "-u"]);
            process["user"] = json!({ "uid": u32::MAX, "gid": 0 });
        })
        .await;
    let as_root = run.as_ref().is_ok_and(|output| output.stdout == "0\n");
    if integration::Product::under_test() == integration::Product::Crun {
        assert!(as_root, "the positive control does not fail any more: {run:?}");
    } else {
        assert!(run.is_err(), "it ran: {run:?}");
    }
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn f33_two_mebibytes_of_arguments_and_environment_arrive() -> Result<()> {
    let (_, task) = sleeper("exec-large").await?;
    // The kernel takes 128 KiB in one string and a quarter of the stack (2 MiB of 8) in all.
    let long = "x".repeat(120 * 1024);
    let output = task
        .run_with("large", |process| {
            let mut args = vec!["sh".to_owned(), "-c".to_owned(), "echo $#; echo ${#BIG}".to_owned(), "sh".to_owned()];
            args.extend(std::iter::repeat_n(long.clone(), 14));
            process["args"] = json!(args);
            process["env"] = json!([spec::PATH, format!("BIG={long}")]);
        })
        .await?;
    assert_eq!(output.stdout, format!("14\n{}\n", long.len()));
    // One string may not be longer than 128 KiB. runc tells of it only on the exec's standard error.
    let run = task.run_with("too-large", |process| process["args"] = json!(["true", "x".repeat(200 * 1024)])).await;
    let text = run.map_or_else(|refused| message(&refused), |output| output.stderr).to_lowercase();
    assert!(text.contains("argument list too long"), "{text}");
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn an_exec_with_a_terminal_has_one() -> Result<()> {
    let (client, task) = sleeper("exec-tty").await?;
    let stdout = Collector::new(&client.daemon)?;
    let stdio = Stdio { stdout: stdout.path(), terminal: true, ..Stdio::default() };
    let exec = task
        .exec("tty", &stdio, |process| process["args"] = json!(["sh", "-c", "tty; test -t 2 && echo err; stty size"]))
        .await?;
    exec.start().await?;
    assert_eq!(exec.wait_for(10).await?, 0);
    let text = stdout.text().await?;
    assert!(text.starts_with("/dev/pts/") && text.contains("err\r\n"), "{text:?}");
    exec.delete().await?;
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn f13_a_grandchild_that_holds_the_pipe_delays_neither_exit_nor_output() -> Result<()> {
    let (client, task) = sleeper("exec-grandchild").await?;
    let pipes = integration::Pipes::new(&client.daemon)?;
    let exec = task
        .exec("holder", &pipes.stdio(), |process| process["args"] = json!(["sh", "-c", "sleep 1000 & echo x"]))
        .await?;
    let started = std::time::Instant::now();
    exec.start().await?;
    assert_eq!(exec.wait_for(10).await?, 0);
    assert!(
        started.elapsed() < pace::patience(std::time::Duration::from_secs(3)),
        "the exit took {:?}",
        started.elapsed()
    );
    pipes.stdout.expect("x\n").await?;
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn f12_what_an_exec_leaves_running_goes_with_the_container() -> Result<()> {
    let (_, task) = sleeper("exec-orphan").await?;
    let exec = task
        .exec("parent", &Stdio::null(), |process| process["args"] = json!(["sh", "-c", "sleep 1000 & exit 0"]))
        .await?;
    exec.start().await?;
    exec.wait_for(10).await?;
    exec.delete().await?;
    until(5, || machine::cgroup_processes(&task.container.cgroup()).len() == 2).await?;
    let processes = machine::cgroup_processes(&task.container.cgroup());
    task.destroy().await?;
    assert!(!processes.into_iter().any(machine::alive), "an orphan lives");
    Ok(())
}

#[tokio::test]
async fn f20_exec_works_with_one_process_to_spare() -> Result<()> {
    let client = shared()?.client().await?;
    let task =
        client.sleeper("exec-pids", |config| config["linux"]["resources"]["pids"] = json!({ "limit": 2 })).await?;
    if integration::Product::under_test() == integration::Product::Runc {
        eprintln!("SKIPPED against runc: it needs threads of its own inside the limit (runc#1914)");
    } else {
        assert_eq!(task.run("spare", &["true"]).await?.code, 0);
    }
    task.destroy().await?;
    Ok(())
}
