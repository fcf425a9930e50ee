//! `ps`: the processes of a container, as the host numbers them. The table is the host's own `ps`, of which the lines of
//! other processes are left out.

use std::process::Command as Program;

use runtime_core::{Kind, close_inherited_on_exec};

use crate::command::{Command, Words, print};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order, value};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "ps",
    usage: "<container-id> [ps options]",
    about: "list the processes of a container",
    details: "What follows the id goes to ps(1); without that, -ef does.",
    flags: &[&[value(&["format", "f"], "table or json (default: table)")]],
    order: Order::BeforeFirst,
    words: Words::AtLeast(1),
    run,
};

fn run(session: &Session, given: &Given) -> Outcome {
    let container = session.store.open(given.id())?;
    let pids = match container.pids() {
        // A container that has ended has no processes.
        Err(error) if error.kind() == Kind::NotFound => vec![],
        other => other?,
    };
    match given.text("format").unwrap_or("table") {
        "json" => print(&json(&pids)),
        "table" => print(&of_container(&ask_host(given.words.get(1..).unwrap_or_default())?, &pids)?),
        _ => return Err(Failure::new("invalid format option")),
    }
    Ok(0)
}

/// Go has no empty list, but `null`.
fn json(pids: &[i32]) -> String {
    if pids.is_empty() {
        return "null\n".to_owned();
    }
    let numbers: Vec<_> = pids.iter().map(i32::to_string).collect();
    format!("[{}]\n", numbers.join(","))
}

fn ask_host(options: &[String]) -> Result<String, Failure> {
    close_inherited_on_exec(3);
    let mut program = Program::new("ps");
    let output = if options.is_empty() { program.arg("-ef") } else { program.args(options) }.output();
    let output = output.map_err(|error| Failure::io("exec: \"ps\"", error))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(Failure::new(format!("ps: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr))))
}

/// The heading, and the lines of these processes.
fn of_container(table: &str, pids: &[i32]) -> Result<String, Failure> {
    let mut lines = table.lines().filter(|line| !line.is_empty());
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Failure::new("couldn't find PID field in ps output"))?;
    let mut text = format!("{heading}\n");
    for line in lines {
        let field = line.split_whitespace().nth(column).unwrap_or_default();
        let pid = field.parse::<i32>();
        let pid = pid.map_err(|_| Failure::new(format!("unable to parse pid: {field:?}")))?;
        if pids.contains(&pid) {
            text.extend([line, "\n"]);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "UID        PID  PPID CMD\nroot         1     0 init\nroot        12     1 sleep 12\n";

    #[test]
    fn other_processes_are_left_out() {
        assert_eq!(of_container(TABLE, &[12]).unwrap(), "UID        PID  PPID CMD\nroot        12     1 sleep 12\n");
        assert_eq!(of_container(TABLE, &[]).unwrap(), "UID        PID  PPID CMD\n");
        for (table, error) in
            [("UID CMD\n", "couldn't find PID field in ps output"), ("PID\nx\n", "unable to parse pid: \"x\"")]
        {
            assert_eq!(of_container(table, &[]).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn numbers_are_an_array() {
        assert_eq!(json(&[1, 2]), "[1,2]\n");
        assert_eq!(json(&[]), "null\n");
    }
}
