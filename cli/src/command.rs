//! The table of commands, and the way from a command line to one of them.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::failure::{Failure, Outcome};
use crate::flags::{Flags, Given, Order, Parsed, parse};
use crate::session::{self, Session};
use crate::{help, verb};

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// The arguments, as help shows them.
    pub(crate) usage: &'static str,
    /// One line for the list of commands.
    pub(crate) about: &'static str,
    /// The rest of what help says; may be empty.
    pub(crate) details: &'static str,
    pub(crate) flags: Flags,
    pub(crate) order: Order,
    pub(crate) words: Words,
    pub(crate) run: fn(&Session, &Given) -> Outcome,
}

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    Exactly(usize),
    AtLeast(usize),
    Between(usize, usize),
}

/// In the order of help.
pub(crate) const COMMANDS: &[&Command] = &[
    &verb::checkpoint::COMMAND,
    &verb::create::COMMAND,
    &verb::delete::COMMAND,
    &verb::events::COMMAND,
    &verb::exec::COMMAND,
    &verb::features::COMMAND,
    &verb::kill::COMMAND,
    &verb::list::COMMAND,
    &verb::pause::COMMAND,
    &verb::plan::COMMAND,
    &verb::ps::COMMAND,
    &verb::restore::COMMAND,
    &verb::pause::RESUME,
    &verb::run::COMMAND,
    &verb::spec::COMMAND,
    &verb::start::COMMAND,
    &verb::state::COMMAND,
    &verb::update::COMMAND,
];

/// runc's exit code for a command that does not exist.
const NO_SUCH_COMMAND: u8 = 3;

/// Does what a command line says.
pub(crate) fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let mut words = words.map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    // Whoever installs it under another name reads that name in its texts.
    let name = match program.rsplit('/').next() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "tare".to_owned(),
    };
    let given = match parse(session::FLAGS, Order::BeforeFirst, words) {
        Ok(Parsed::Given(given)) => given,
        Ok(Parsed::Help) => return shown(&help::overview(&name)),
        Err(mistake) => {
            print(&format!("Incorrect Usage. {mistake}\n\n{}", help::overview(&name)));
            eprintln!("{mistake}");
            return ExitCode::FAILURE;
        }
    };
    if given.has("version") {
        return shown(&help::version(&name));
    }
    match Session::new(&given, name) {
        Ok(session) => dispatch(&session, &program, given.words),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(session: &Session, program: &str, words: Vec<String>) -> ExitCode {
    let mut words = words.into_iter();
    let name = words.next().unwrap_or_else(|| "help".to_owned());
    if matches!(name.as_str(), "help" | "h") {
        let topic = words.next().and_then(|name| find(&name));
        return shown(&topic.map_or_else(|| help::overview(&session.name), |command| help::of(&session.name, command)));
    }
    let Some(command) = find(&name) else {
        session.log.error(&format!("No help topic for '{name}'"));
        return ExitCode::from(NO_SUCH_COMMAND);
    };
    let usage = || help::of(&session.name, command);
    let outcome = match parse(command.flags, command.order, words) {
        Ok(Parsed::Help) => return shown(&usage()),
        Ok(Parsed::Given(given)) => match command.words.check(given.words.len()) {
            Ok(()) => {
                session.log.debug(&format!("{} {name} {}", session.name, given.words.join(" ")));
                runtime_core::check_kernel().map_err(Failure::from).and_then(|()| (command.run)(session, &given))
            }
            Err(demand) => {
                print(&format!("Incorrect Usage.\n\n{}", usage()));
                Err(Failure::new(format!("{program}: {name:?} requires {demand} argument(s)")))
            }
        },
        Err(mistake) => {
            print(&format!("Incorrect Usage: {mistake}\n\n{}", usage()));
            Err(Failure::new(mistake))
        }
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            session.log.error(&failure.to_string());
            ExitCode::from(failure.code)
        }
    }
}

fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().copied().find(|command| command.name == name)
}

fn shown(text: &str) -> ExitCode {
    print(text);
    ExitCode::SUCCESS
}

/// A reader that has gone away is no failure.
pub(crate) fn print(text: &str) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

impl Words {
    /// The demand that `count` arguments do not meet.
    fn check(self, count: usize) -> Result<(), String> {
        match self {
            Self::Exactly(wanted) if count != wanted => Err(format!("exactly {wanted}")),
            Self::AtLeast(least) | Self::Between(least, _) if count < least => Err(format!("a minimum of {least}")),
            Self::Between(_, most) if count > most => Err(format!("a maximum of {most}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_counted() {
        for (words, count, expected) in [
            (Words::Exactly(1), 1, Ok(())),
            (Words::Exactly(1), 2, Err("exactly 1")),
            (Words::Exactly(0), 1, Err("exactly 0")),
            (Words::AtLeast(1), 0, Err("a minimum of 1")),
            (Words::AtLeast(1), 9, Ok(())),
            (Words::Between(1, 2), 3, Err("a maximum of 2")),
            (Words::Between(1, 2), 0, Err("a minimum of 1")),
        ] {
            assert_eq!(words.check(count), expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn no_flag_is_there_twice() {
        for command in COMMANDS {
            let mut names: Vec<_> = command.flags.iter().copied().flatten().flat_map(|flag| flag.names).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", command.name);
        }
    }

    #[test]
    fn commands_stand_in_the_order_of_the_alphabet() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.name));
    }
}
