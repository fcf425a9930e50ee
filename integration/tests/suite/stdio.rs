//! Standard streams: FIFOs, terminals, files and loggers, and what happens when nobody reads.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration::{
    Collector, Containerd, Pipes, Stdin, Stdio, fifo, machine, pace, shared, silent_reader, skip_unless_tare, spec,
    until,
};
use serde_json::json;

#[tokio::test]
async fn stdin_reaches_the_program_until_it_is_closed() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client.container("stdin", |config| spec::args(config, &["cat"])).await?;
    let pipes = Pipes::new(&client.daemon)?;
    let mut stdin = Stdin::new(&client.daemon)?;
    let task = container.start(&Stdio { stdin: stdin.path(), ..pipes.stdio() }).await?;
    stdin.write("hello\n")?;
    pipes.stdout.expect("hello\n").await?;
    stdin.write("again\n")?;
    pipes.stdout.expect("again\n").await?;
    // The program sees the end only when both the client and the shim have closed.
    drop(stdin);
    tokio::time::sleep(Duration::from_millis(100)).await;
    task.close_stdin().await?;
    assert_eq!(task.wait_for(10).await?, 0);
    assert_eq!(pipes.stdout.text().await?, "hello\nagain\n");
    task.delete().await?;
    container.remove().await
}

#[tokio::test]
async fn every_byte_of_a_large_output_arrives() -> Result<()> {
    let client = shared()?.client().await?;
    let script = "dd if=/dev/zero bs=65536 count=512 2>/dev/null; echo -n done";
    let output = client.run("bulk", &["sh", "-c", script], |_| {}).await?;
    assert_eq!(output.stdout.len(), 512 * 65536 + 4);
    assert!(output.stdout.ends_with("done"));
    Ok(())
}

#[tokio::test]
async fn both_outputs_may_be_one_fifo() -> Result<()> {
    let client = shared()?.client().await?;
    let container =
        client.container("one-fifo", |config| spec::args(config, &["sh", "-c", "echo a; echo b >&2"])).await?;
    let both = Collector::new(&client.daemon)?;
    let task = container.start(&Stdio { stdout: both.path(), stderr: both.path(), ..Stdio::default() }).await?;
    assert_eq!(task.wait_for(10).await?, 0);
    let text = both.text().await?;
    assert!(text == "a\nb\n" || text == "b\na\n", "{text:?}");
    task.delete().await?;
    container.remove().await
}

#[tokio::test]
async fn without_streams_the_program_has_dev_null() -> Result<()> {
    let client = shared()?.client().await?;
    let task = client.sleeper("null-streams", |_| {}).await?;
    for descriptor in 0..3 {
        let target = std::fs::read_link(format!("/proc/{}/fd/{descriptor}", task.pid))?;
        assert_eq!(target, PathBuf::from("/dev/null"), "{descriptor}");
    }
    task.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn a_file_uri_collects_both_outputs() -> Result<()> {
    let client = shared()?.client().await?;
    let log = client.daemon.home().join("logs/deep/file.log");
    let container =
        client.container("file-uri", |config| spec::args(config, &["sh", "-c", "echo a; echo b >&2"])).await?;
    let task = container.start(&Stdio::to_uri(&format!("file://{}", log.display()))).await?;
    assert_eq!(task.wait_for(10).await?, 0);
    task.delete().await?;
    let mut lines: Vec<String> = std::fs::read_to_string(&log)?.lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["a", "b"]);
    assert_eq!(std::fs::metadata(&log)?.permissions().mode() & 0o777, 0o644);
    container.remove().await
}

/// A logger in shell: says it is ready, then writes what it is told and both streams into a folder.
fn logger(folder: &std::path::Path, ready: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("logger.sh");
    let script = format!(
        "#!/bin/sh\necho \"$CONTAINER_ID $CONTAINER_NAMESPACE $*\" > {0}/about\n{ready}\n\
         cat <&3 > {0}/out & cat <&4 > {0}/err & wait\n",
        folder.display()
    );
    std::fs::write(&path, script)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[tokio::test]
async fn a_binary_uri_starts_a_logger_with_both_streams() -> Result<()> {
    let client = shared()?.client().await?;
    let folder = client.daemon.home().join("binary");
    let logger = logger(&folder, "exec 5>&-")?;
    let container =
        client.container("binary-uri", |config| spec::args(config, &["sh", "-c", "echo a; echo b >&2"])).await?;
    let task = container.start(&Stdio::to_uri(&format!("binary://{}?key=value", logger.display()))).await?;
    assert_eq!(task.wait_for(10).await?, 0);
    task.delete().await?;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    until(5, || read("out") == "a\n" && read("err") == "b\n").await.with_context(|| format!("{:?}", read("out")))?;
    assert_eq!(read("about"), format!("binary-uri {} key value\n", client.daemon.namespace()));
    container.remove().await
}

#[tokio::test]
async fn f16_a_logger_that_fails_at_once_is_an_error() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client.container("binary-missing", |config| spec::args(config, &["true"])).await?;
    let refused = container.create(&Stdio::to_uri("binary:///no/such/logger")).await;
    assert!(refused.is_err(), "created without its logger");
    container.abandon().await;
    Ok(())
}

#[tokio::test]
async fn a_terminal_has_a_size_and_ends_with_its_program() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client
        .container("tty", |config| {
            spec::args(config, &["sh"]);
            config["process"]["terminal"] = json!(true);
            config["process"]["env"] = json!([spec::PATH, "PS1=$ "]);
        })
        .await?;
    let stdout = Collector::new(&client.daemon)?;
    let mut stdin = Stdin::new(&client.daemon)?;
    let stdio = Stdio { stdin: stdin.path(), stdout: stdout.path(), terminal: true, ..Stdio::default() };
    let task = container.start(&stdio).await?;
    task.resize(132, 43).await?;
    stdin.write("stty size; tty; echo ${TERM:-none}\n")?;
    stdout.expect("43 132\r\n").await?;
    stdout.expect("/dev/").await?;
    stdin.write("ls -l /dev/console\n")?;
    stdout.expect("crw").await?;
    stdin.write("exit 5\n")?;
    assert_eq!(task.wait_for(10).await?, 5);
    stdout.text().await?;
    task.delete().await?;
    container.remove().await
}

#[tokio::test]
async fn a_terminal_takes_control_characters() -> Result<()> {
    let client = shared()?.client().await?;
    let script = "trap 'echo interrupted; exit 8' INT; echo ready; while :; do sleep 0.05; done";
    let container = client
        .container("tty-keys", |config| {
            spec::args(config, &["sh", "-c", script]);
            config["process"]["terminal"] = json!(true);
        })
        .await?;
    let stdout = Collector::new(&client.daemon)?;
    let mut stdin = Stdin::new(&client.daemon)?;
    let stdio = Stdio { stdin: stdin.path(), stdout: stdout.path(), terminal: true, ..Stdio::default() };
    let task = container.start(&stdio).await?;
    stdout.expect("ready").await?;
    stdin.write("\u{3}")?;
    stdout.expect("interrupted").await?;
    assert_eq!(task.wait_for(10).await?, 8);
    task.delete().await?;
    container.remove().await
}

#[tokio::test]
async fn f14_a_flood_without_a_reader_stays_where_it_is() -> Result<()> {
    let client = shared()?.client().await?;
    let path = fifo(&client.daemon)?;
    let reader = silent_reader(&path)?;
    let group = |config: &mut serde_json::Value| {
        config["annotations"] = json!({ "io.containerd.runc.v2.group": "flood" });
    };
    let quiet = client.sleeper("flood-quiet", group).await?;
    let shim: u32 = machine::status(quiet.pid, "PPid").context("the shim is gone")?.parse()?;
    let flood = client
        .container("flood", |config| {
            group(config);
            spec::args(config, &["yes"]);
        })
        .await?;
    let stdio = Stdio::to_uri(&path.to_string_lossy());
    let task = flood.start(&stdio).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = machine::memory(shim).context("the shim is gone")?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = machine::memory(shim).context("the shim is gone")?;
    assert!(after.rss < before.rss + 1024, "the shim grew from {} to {} KiB", before.rss, after.rss);
    let started = Instant::now();
    assert_eq!(quiet.run("beside", &["echo", "quick"]).await?.stdout, "quick\n");
    assert!(
        started.elapsed() < pace::patience(Duration::from_secs(2)),
        "the other container took {:?}",
        started.elapsed()
    );
    drop(reader);
    task.destroy().await?;
    quiet.destroy().await?;
    Ok(())
}

#[tokio::test]
async fn f14_the_exit_of_a_flooding_program_is_told_though_nobody_reads() -> Result<()> {
    let client = shared()?.client().await?;
    let path = fifo(&client.daemon)?;
    let reader = silent_reader(&path)?;
    let container = client.container("flood-exit", |config| spec::args(config, &["yes"])).await?;
    let task = container.start(&Stdio::to_uri(&path.to_string_lossy())).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let killed = Instant::now();
    task.kill(9).await?;
    assert_eq!(task.wait_for(5).await?, 137);
    assert!(killed.elapsed() < pace::patience(Duration::from_secs(2)), "the exit took {:?}", killed.elapsed());
    drop(reader);
    task.delete().await?;
    container.remove().await
}

#[tokio::test]
async fn f13_a_pipe_held_by_a_grandchild_in_the_host_pid_namespace_does_not_delay_the_exit() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client
        .container("holder", |config| {
            spec::args(config, &["sh", "-c", "echo x; sleep 1000 & exit 4"]);
            spec::without_namespace(config, "pid");
        })
        .await?;
    let pipes = Pipes::new(&client.daemon)?;
    let started = Instant::now();
    let task = container.start(&pipes.stdio()).await?;
    assert_eq!(task.wait_for(10).await?, 4);
    assert!(started.elapsed() < pace::patience(Duration::from_secs(3)), "the exit took {:?}", started.elapsed());
    assert_eq!(pipes.stdout.text().await?, "x\n");
    task.delete().await?;
    container.remove().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f15_output_flows_on_over_a_restart_of_containerd() -> Result<()> {
    let daemon = Arc::new(Containerd::start()?);
    let client = daemon.client().await?;
    let script = "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.05; done";
    let container = client.container("restart-output", |config| spec::args(config, &["sh", "-c", script])).await?;
    let pipes = Pipes::new(&daemon)?;
    let task = container.start(&pipes.stdio()).await?;
    pipes.stdout.expect("line 3\n").await?;
    daemon.stop()?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    daemon.resume()?;
    let client = client.reconnected().await?;
    let task = task.on(&client);
    assert_eq!(task.wait_for(20).await?, 0);
    let expected: String = (0..60).map(|line| format!("line {line}\n")).collect();
    assert_eq!(pipes.stdout.text().await?, expected);
    task.delete().await?;
    task.container.remove().await?;
    let left = daemon.leftovers();
    assert!(left.is_empty(), "{left}");
    Ok(())
}

#[tokio::test]
async fn f15_the_program_outlives_the_reader_of_its_fifo() -> Result<()> {
    let client = shared()?.client().await?;
    let script = "i=0; while [ $i -lt 40 ]; do echo line $i || exit 9; i=$((i+1)); sleep 0.02; done; exit 6";
    let container = client.container("reader-dies", |config| spec::args(config, &["sh", "-c", script])).await?;
    let path = fifo(&client.daemon)?;
    let reader = silent_reader(&path)?;
    let task = container.start(&Stdio::to_uri(&path.to_string_lossy())).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // The shim holds a reading end of its own, so that the program gets no SIGPIPE.
    drop(reader);
    assert_eq!(task.wait_for(10).await?, 6);
    task.delete().await?;
    container.remove().await
}

#[tokio::test]
async fn a_logger_that_others_may_write_is_refused() -> Result<()> {
    if skip_unless_tare("containerd's own shim executes any logger (CVE-2026-53488)") {
        return Ok(());
    }
    let client = shared()?.client().await?;
    let folder = client.daemon.home().join("unsafe-logger");
    let logger = logger(&folder, "exec 5>&-")?;
    std::os::unix::fs::chown(&logger, Some(1000), Some(1000))?;
    let container = client.container("unsafe-logger", |config| spec::args(config, &["true"])).await?;
    let refused = container.create(&Stdio::to_uri(&format!("binary://{}", logger.display()))).await;
    assert!(refused.is_err(), "a logger owned by user 1000 was run as root");
    container.abandon().await;
    Ok(())
}

#[tokio::test]
async fn every_byte_of_a_large_terminal_output_arrives() -> Result<()> {
    let rounds: u32 = std::env::var("ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let client = shared()?.client().await?;
    let task = client.sleeper("tty-bulk", |_| {}).await?;
    for round in 0..rounds {
        let stdout = Collector::new(&client.daemon)?;
        let stdio = Stdio { stdout: stdout.path(), terminal: true, ..Stdio::default() };
        let exec = task
            .exec(&format!("bulk-{round}"), &stdio, |process| {
                process["args"] = json!(["sh", "-c", "seq -s ' ' 300000"]);
                process["terminal"] = json!(true);
            })
            .await?;
        exec.start().await?;
        assert_eq!(exec.wait_for(30).await?, 0);
        exec.delete().await?;
        let text = stdout.text().await?;
        let tail = &text[text.len().saturating_sub(30)..];
        assert!(tail.ends_with("299999 300000\r\n"), "round {round}: {} bytes, then {tail:?}", text.len());
    }
    task.destroy().await?;
    Ok(())
}
