//! `list`: the containers of a root.

use std::os::unix::fs::MetadataExt as _;

use crate::command::{Command, Words, print};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order, switch, value};
use crate::session::Session;
use crate::table;
use crate::verb::state::State;

pub(crate) const COMMAND: Command = Command {
    name: "list",
    usage: "",
    about: "list containers",
    details: "Those whose state is in the folder of the global option --root.",
    flags: &[&[
        value(&["format", "f"], "table or json (default: table)"),
        switch(&["quiet", "q"], "print container ids only"),
    ]],
    order: Order::Anywhere,
    words: Words::Exactly(0),
    run,
};

fn run(session: &Session, given: &Given) -> Outcome {
    let states = states(session)?;
    if given.has("quiet") {
        print(&states.iter().map(|state| format!("{}\n", state.id)).collect::<String>());
        return Ok(0);
    }
    match given.text("format").unwrap_or("table") {
        "table" => print(&rows(states)),
        "json" => print(&json(&states)?),
        _ => return Err(Failure::new("invalid format option")),
    }
    Ok(0)
}

fn states(session: &Session) -> Result<Vec<State>, Failure> {
    let mut states = Vec::new();
    for id in session.store.ids()? {
        // It may be deleted meanwhile; what cannot be read is said, and hides no other.
        match session.store.find(&id).and_then(|found| found.as_ref().map(State::of).transpose()) {
            Ok(Some(state)) => states.push(state.owned_by(owner(&session.store.folder(&id)?))),
            Ok(None) => {}
            Err(failure) => session.log.warn(&format!("load container {id}: {failure}")),
        }
    }
    Ok(states)
}

/// Go has no empty list, but `null`; clients expect it.
fn json(states: &[State]) -> Result<String, Failure> {
    if states.is_empty() {
        return Ok("null\n".to_owned());
    }
    let text = serde_json::to_string(states).map_err(|error| Failure::new(error.to_string()))?;
    Ok(text + "\n")
}

fn rows(states: Vec<State>) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |one: State| [one.id, one.pid.to_string(), one.status.to_owned(), one.bundle, one.created, one.owner];
    table::layout(&std::iter::once(head).chain(states.into_iter().map(row)).collect::<Vec<_>>())
}

/// The name of who has made the state folder, or `#` and the number.
fn owner(folder: &std::path::Path) -> String {
    let Ok(metadata) = std::fs::metadata(folder) else { return String::new() };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(metadata.uid(), &passwd).unwrap_or_else(|| format!("#{}", metadata.uid()))
}

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    let mut lines = passwd.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_a_name_if_the_host_knows_one() {
        let passwd = "root:x:0:0::/root:/bin/sh\n# a comment\nann:x:1000:1000::/home/ann:/bin/sh\n";
        for (uid, expected) in [(0, Some("root")), (1000, Some("ann")), (7, None)] {
            assert_eq!(name_of(uid, passwd).as_deref(), expected);
        }
    }

    #[test]
    fn an_empty_list_is_null() {
        assert_eq!(json(&[]).unwrap(), "null\n");
        assert_eq!(rows(vec![]), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    }
}
