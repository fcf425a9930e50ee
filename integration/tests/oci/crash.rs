//! A create that is killed at any of its system calls, and the delete that follows: nothing may be left of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use integration::oci::Host;
use integration::{Product, full};

/// Every how manyth point is tried, unless all are.
const STRIDE: usize = 13;

/// A place to die: the `when`th call of a kind, in the runtime itself or in any of its processes.
#[derive(Debug, Clone)]
struct Point {
    who: Who,
    call: String,
    when: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Runtime,
    Anyone,
}

/// A command that is traced. The tracer is no relative of it: its end is the command's own, even if what it leaves behind
/// is traced on.
fn traced(host: &Host, who: Who, expression: &str, log: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-D", "-qq", "-s", "0", "-e", expression, "-o"]).arg(log);
    if who == Who::Anyone {
        command.arg("-f");
    }
    command.arg(host.runtime()).arg("--root").arg(host.state());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn create(host: &Host, who: Who, expression: &str, id: &str) -> Result<bool> {
    let bundle = host.bundle(id, |_| {})?;
    let log = host.folder().join("trace");
    let mut command = traced(host, who, expression, &log);
    let status = command.arg("create").arg("--bundle").arg(&bundle).arg(id).status().context("run strace")?;
    Ok(status.success())
}

/// The calls of one create: the runtime's own, and those of each process it makes.
struct Calls {
    own: Vec<String>,
    others: BTreeMap<String, Vec<String>>,
}

fn calls(host: &Host) -> Result<Calls> {
    ensure!(create(host, Who::Anyone, "trace=all", "traced")?, "an undisturbed create fails");
    host.say(&["delete", "--force", "traced"])?.done();
    let log = fs::read_to_string(host.folder().join("trace"))?;
    let mut processes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let first = log.split_whitespace().next().context("an empty trace")?.to_owned();
    for line in log.lines() {
        let Some((process, call)) = line.split_once(' ') else { continue };
        // A call that another process's interrupted is told in two lines; the second begins with `<...`.
        if let Some((name, _)) =
            call.trim_start().split_once('(').filter(|(name, _)| !name.starts_with(['<', '-', '+']))
        {
            processes.entry(process.to_owned()).or_default().push(name.to_owned());
        }
    }
    let own = processes.remove(&first).context("no call of the runtime's own")?;
    Ok(Calls { own, others: processes })
}

/// Every call of the runtime itself; of the processes it makes, the how manyth of its name each call is.
fn points(Calls { own, others }: &Calls) -> Vec<Point> {
    let runtime = (1..=own.len()).map(|when| Point { who: Who::Runtime, call: "all".to_owned(), when });
    let mut most: BTreeMap<&str, usize> = BTreeMap::new();
    for calls in others.values() {
        let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
        calls.iter().for_each(|call| *counted.entry(call).or_default() += 1);
        for (call, count) in counted {
            let highest = most.entry(call).or_default();
            *highest = count.max(*highest);
        }
    }
    let children = most
        .into_iter()
        .flat_map(|(call, count)| (1..=count).map(move |when| Point { who: Who::Anyone, call: call.to_owned(), when }));
    runtime.chain(children).collect()
}

#[test]
fn after_a_crash_at_any_system_call_of_a_create_delete_leaves_nothing() -> Result<()> {
    let host = Host::new()?;
    let points = points(&calls(&host)?);
    let stride = if full() { 1 } else { STRIDE };
    let (mut tried, mut killed, mut harm) = (0, 0, Vec::new());
    for (number, point) in points.iter().enumerate().step_by(stride) {
        let id = format!("crash-{number}");
        let expression = format!("inject={}:signal=KILL:when={}", point.call, point.when);
        tried += 1;
        killed += usize::from(!create(&host, point.who, &expression, &id)?);
        let delete = host.say(&["delete", "--force", &id])?;
        let left = host.leftovers();
        if delete.code != Some(0) || !left.is_empty() {
            harm.push(format!("{point:?}: delete {delete:?}, left: {left}"));
            host.sweep();
        }
    }
    println!("{tried} of {} points tried, {killed} creates killed, {} left something", points.len(), harm.len());
    assert!(killed * 2 > tried, "most creates were to be killed");
    if Product::under_test() == Product::Tare {
        assert!(harm.is_empty(), "{}", harm.join("\n"));
    } else {
        println!("positive control:\n{}", harm.join("\n"));
    }
    Ok(())
}
