//! The life of a task: create, start, wait, kill, delete, and the refusals in between.

use anyhow::Result;
use integration::{Stdio, shared};

#[tokio::test]
async fn a_container_runs_and_says_its_exit_code() -> Result<()> {
    let client = shared()?.client().await?;
    let output = client.run("exit-code", &["sh", "-c", "echo out; echo err >&2; exit 7"], |_| {}).await?;
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "out\n", "err\n"));
    Ok(())
}

#[tokio::test]
async fn a_created_container_can_be_deleted() -> Result<()> {
    let client = shared()?.client().await?;
    let container = client.container("created", |_| {}).await?;
    let task = container.create(&Stdio::null()).await?;
    task.delete().await?;
    container.remove().await
}
