//! Help and version, in the layout that users of runc know.

use std::fmt::Write as _;

use crate::command::{COMMANDS, Command};
use crate::flags::{Flags, Takes};
use crate::session;

/// Clients parse these lines by their beginnings (go-runc).
pub(crate) fn version(program: &str) -> String {
    let commit = option_env!("TARE_COMMIT").unwrap_or("unknown");
    format!("{program} version {}\ncommit: {commit}\nspec: 1.3.0\n", env!("CARGO_PKG_VERSION"))
}

/// What `tare --help` says.
pub(crate) fn overview(program: &str) -> String {
    let mut text = format!(
        "NAME:\n   {program} - Open Container Initiative runtime\n\n\
         A container is made from a bundle: a folder with config.json and the container's\n\
         root file system.\n\n    # {program} spec\n    # {program} run [ -b bundle ] <container-id>\n\n\
         USAGE:\n   {program} [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {}\n\nCOMMANDS:\n",
        env!("CARGO_PKG_VERSION")
    );
    let rows = COMMANDS.iter().map(|command| (command.name.to_owned(), command.about));
    columns(&mut text, &rows.collect::<Vec<_>>());
    text.push_str("\nGLOBAL OPTIONS:\n");
    columns(&mut text, &options(session::FLAGS));
    text
}

/// What `tare COMMAND --help` says.
pub(crate) fn of(program: &str, command: &Command) -> String {
    let options = options(command.flags);
    let marker = if options.is_empty() { "" } else { "[command options] " };
    let Command { name, usage, about, details, .. } = command;
    let mut text = format!("NAME:\n   {program} {name} - {about}\n\nUSAGE:\n   {program} {name} {marker}{usage}\n");
    if !details.is_empty() {
        let _ = write!(text, "\n{details}\n");
    }
    if !options.is_empty() {
        text.push_str("\nOPTIONS:\n");
        columns(&mut text, &options);
    }
    text
}

fn options(flags: Flags) -> Vec<(String, &'static str)> {
    let shown = flags.iter().copied().flatten().filter(|flag| !flag.help.is_empty());
    let row = shown.map(|flag| {
        let names = flag.names.iter().map(|name| {
            let dashes = if name.len() == 1 { "-" } else { "--" };
            let value = if flag.takes == Takes::Value { " value" } else { "" };
            format!("{dashes}{name}{value}")
        });
        (names.collect::<Vec<_>>().join(", "), flag.help)
    });
    row.collect()
}

fn columns(text: &mut String, rows: &[(String, &'static str)]) {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    for (left, right) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "   {left:width$}  {right}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_has_the_lines_that_clients_look_for() {
        let text = version("tare");
        let beginnings = ["tare version ", "commit: ", "spec: 1.3"];
        assert!(text.lines().zip(beginnings).all(|(line, beginning)| line.starts_with(beginning)), "{text}");
    }

    #[test]
    fn every_command_is_in_the_overview() {
        let text = overview("tare");
        for command in COMMANDS {
            assert!(text.contains(&format!("   {} ", command.name)), "{}", command.name);
            assert!(of("tare", command).starts_with(&format!("NAME:\n   tare {} - ", command.name)));
        }
    }
}
