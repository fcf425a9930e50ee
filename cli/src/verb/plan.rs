//! `plan`: every step that would make a container of a bundle, without making it. Ours; no other runtime can tell.

use std::fmt::Write as _;

use runtime_core::{Create, Stdio, Step, dry_run};
use serde::Serialize;

use crate::command::{Command, Words, print};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, Order, switch, value};
use crate::launch;
use crate::session::Session;

const FLAGS: &[Flag] = &[
    value(&["bundle", "b"], "the folder of the bundle (default: the current one)"),
    value(&["config", "f"], "another file than the bundle's config.json"),
    value(&["format"], "text or json (default: text)"),
    switch(&["no-pivot"], "as with run"),
    switch(&["no-new-keyring"], "as with run"),
];

pub(crate) const COMMAND: Command = Command {
    name: "plan",
    usage: "[container-id]",
    about: "print the steps that would make a container of a bundle",
    details: "Nothing is changed. What cannot be planned is refused as `create` would refuse it.",
    flags: &[FLAGS],
    order: Order::Anywhere,
    words: Words::Between(0, 1),
    run,
};

/// A step as JSON.
#[derive(Serialize)]
struct Line<'a> {
    about: &'a str,
    op: &'a str,
}

fn run(session: &Session, given: &Given) -> Outcome {
    let (bundle, spec) = launch::bundle(given)?;
    let id = if given.id().is_empty() { "plan" } else { given.id() };
    let state = session.store.folder(id)?;
    let wants_terminal = spec.process().as_ref().and_then(runtime_core::oci::Process::terminal).unwrap_or(false);
    let streams = Stdio::Streams { stdin: None, stdout: None, stderr: None };
    let stdio = if wants_terminal { Stdio::Terminal } else { streams };
    let steps = dry_run(Create {
        no_pivot: given.has("no-pivot"),
        no_new_keyring: given.has("no-new-keyring"),
        cgroup_driver: session.cgroup_driver,
        ..Create::new(id, bundle, spec, state, stdio)
    })?;
    match given.text("format").unwrap_or("text") {
        "text" => print(&text(&steps)),
        "json" => print(&json(&steps)?),
        _ => return Err(Failure::new("invalid format option")),
    }
    Ok(0)
}

/// One line for each op; what it is a part of stands above, once.
fn text(steps: &[Step]) -> String {
    let mut text = String::new();
    let mut before = None;
    for (index, step) in steps.iter().enumerate() {
        if before != Some(&step.about) {
            let _ = writeln!(text, "{}", step.about);
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{index:5}  {}", step.op);
        before = Some(&step.about);
    }
    text
}

fn json(steps: &[Step]) -> Result<String, Failure> {
    let lines: Vec<_> = steps.iter().map(|step| Line { about: &step.about, op: &step.op }).collect();
    let text = serde_json::to_string_pretty(&lines).map_err(|error| Failure::new(error.to_string()))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stand_below_what_they_are_for() {
        let step = |about: &str, op: &str| Step { about: about.into(), op: op.into() };
        let steps = [step("mount proc", "open"), step("mount proc", "attach"), step("pivot", "pivot")];
        assert_eq!(text(&steps), "mount proc\n    0  open\n    1  attach\npivot\n    2  pivot\n");
        assert!(json(&steps[..1]).unwrap().contains("\"about\": \"mount proc\",\n    \"op\": \"open\""));
    }
}
