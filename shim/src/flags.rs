//! The command line, as containerd and CRI-O write it: Go's flag package. Pure.
//!
//! `-name value`, `-name=value`, and both with two dashes mean the same; a boolean flag takes its value only after `=`.
//! The first word that is not a flag ends the flags and is the action.

use std::path::PathBuf;

/// What the shim was called to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Action {
    /// Serve in the foreground: no action word.
    #[default]
    Serve,
    /// `start`: bring up a shim, say where it listens.
    Start,
    /// `delete`: clean up after a container whose shim may be dead.
    Delete,
    /// `-v`, `-version`.
    Version,
    /// `-info`.
    Info,
}

/// The command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Flags {
    /// What to do.
    pub(crate) action: Action,
    /// The container's id; the pod's first container for a grouped shim.
    pub(crate) id: String,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// containerd's gRPC address.
    pub(crate) address: String,
    /// The bundle; the working directory when empty.
    pub(crate) bundle: PathBuf,
    /// Where to listen (serve only).
    pub(crate) socket: PathBuf,
    /// How much to log.
    pub(crate) verbosity: Verbosity,
}

/// How much to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Verbosity {
    /// What an operator must know.
    #[default]
    Normal,
    /// `-debug`: every request too.
    Debug,
}

/// Reads the arguments that follow the program's name.
///
/// # Errors
/// An unknown flag or action, or a flag without its value; the text is for people.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Flags, String> {
    let mut flags = Flags::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some(flag) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            flags.action = action(&argument)?;
            break;
        };
        let (name, given) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if let Some(set) = switch(name) {
            if given.as_deref().is_none_or(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")) {
                set(&mut flags);
            }
            continue;
        }
        let value = given.or_else(|| arguments.next()).ok_or_else(|| format!("flag needs an argument: -{name}"))?;
        text(&mut flags, name, value)?;
    }
    Ok(flags)
}

/// What a boolean flag does; `None` for any other.
fn switch(name: &str) -> Option<fn(&mut Flags)> {
    match name {
        "v" | "version" => Some(|flags| flags.action = Action::Version),
        "info" => Some(|flags| flags.action = Action::Info),
        "debug" => Some(|flags| flags.verbosity = Verbosity::Debug),
        _ => None,
    }
}

/// Sets a flag that has a value.
fn text(flags: &mut Flags, name: &str, value: String) -> Result<(), String> {
    match name {
        "id" => flags.id = value,
        "namespace" => flags.namespace = value,
        "address" => flags.address = value,
        "bundle" => flags.bundle = value.into(),
        "socket" => flags.socket = value.into(),
        // The event publisher talks ttrpc to containerd; there is no debug endpoint. Accepted, because containerd passes them.
        "publish-binary" | "debug-socket" => {}
        _ => return Err(format!("flag provided but not defined: -{name}")),
    }
    Ok(())
}

/// Reads the action word.
fn action(word: &str) -> Result<Action, String> {
    match word {
        "start" => Ok(Action::Start),
        "delete" => Ok(Action::Delete),
        other => Err(format!("unknown action {other:?}: start or delete")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<Flags, &str>) {
        let parsed = parse(line.split_whitespace().map(str::to_owned));
        assert_eq!(parsed, expected.map_err(str::to_owned), "{line}");
    }

    #[test]
    fn containerd_and_crio_lines_are_understood() {
        let start = Flags {
            action: Action::Start,
            id: "c1".into(),
            namespace: "k8s.io".into(),
            address: "/run/containerd/containerd.sock".into(),
            verbosity: Verbosity::Debug,
            ..Flags::default()
        };
        let line =
            "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id c1";
        check(&format!("{line} -debug start"), Ok(start.clone()));
        let delete = Flags { action: Action::Delete, bundle: "/b".into(), verbosity: Verbosity::Normal, ..start };
        check(&format!("{line} -bundle /b delete"), Ok(delete));
        let crio = Flags { action: Action::Start, id: "x".into(), namespace: "default".into(), ..Flags::default() };
        check("--namespace=default --id=x -debug=false start", Ok(crio));
    }

    #[test]
    fn questions_need_no_action() {
        check("-v", Ok(Flags { action: Action::Version, ..Flags::default() }));
        check("-info", Ok(Flags { action: Action::Info, ..Flags::default() }));
        check("", Ok(Flags::default()));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        check("-frobnicate start", Err("flag provided but not defined: -frobnicate"));
        check("-id", Err("flag needs an argument: -id"));
        check("restart", Err("unknown action \"restart\": start or delete"));
    }
}
