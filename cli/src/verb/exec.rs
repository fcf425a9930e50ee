//! `exec`: another process in a container. What follows the id is its command line, options and all.

use runtime_core::cgroup::SubCgroup;
use runtime_core::{Container, Exec, IfPaused, Kind, Signals, Status, oci};

use crate::attend::{Attendance, attend};
use crate::command::{Command, Words};
use crate::failure::{Failure, Outcome};
use crate::flags::{Given, Order, switch, value};
use crate::launch::{self, Stay};
use crate::relay::{self, Host, Relay};
use crate::session::Session;
use crate::{descriptors, files};

pub(crate) const COMMAND: Command = Command {
    name: "exec",
    usage: "<container-id> <command> [arguments...]  || -p process.json <container-id>",
    about: "execute another process in a container",
    details: "In the foreground, it ends as the process does: with its exit code, or with 128 plus the number of the\n\
              signal that ended it; with 255 when there was no process.",
    flags: &[&[
        value(&["console-socket"], "a socket to send the master of the process's terminal to"),
        value(&["pidfd-socket"], "a socket to send a pidfd of the process to"),
        value(&["cwd"], "the working folder, inside"),
        value(&["env", "e"], "a variable NAME=VALUE more; may be given often"),
        switch(&["tty", "t"], "give it a terminal"),
        value(&["user", "u"], "who it is: UID[:GID]"),
        value(&["additional-gids", "g"], "a group more; may be given often"),
        value(&["process", "p"], "a file with the process as config.json would have it"),
        switch(&["detach", "d"], "do not wait for the process"),
        value(&["pid-file"], "a file to write the number of the process to"),
        value(&["process-label"], "the SELinux label"),
        value(&["apparmor"], "the AppArmor profile"),
        switch(&["no-new-privs"], "set no_new_privs"),
        value(&["cap", "c"], "a capability more; may be given often"),
        value(&["preserve-fds"], "hand over this many descriptors above the standard streams"),
        value(&["cgroup"], "[controller:]path of a cgroup below the container's; may be given often"),
        switch(&["ignore-paused"], "do not refuse a paused container; the process begins when it is resumed"),
    ]],
    order: Order::BeforeFirst,
    words: Words::AtLeast(1),
    run,
};

/// Tells "there was no process" from what a process may end with.
const NO_PROCESS: u8 = 255;

fn run(session: &Session, given: &Given) -> Outcome {
    let outcome = execute(session, given);
    outcome.map_err(|failure| failure.during("exec failed").with_code(NO_PROCESS))
}

fn execute(session: &Session, given: &Given) -> Outcome {
    let container = session.store.open(given.id())?;
    match container.status()? {
        Status::Creating | Status::Stopped => return Err(Failure::new("cannot exec in a stopped container")),
        Status::Paused if !given.has("ignore-paused") => {
            return Err(Failure::new("cannot exec in a paused container (use --ignore-paused to override)"));
        }
        _ => {}
    }
    let sub_cgroups = sub_cgroups(&given.all("cgroup").collect::<Vec<_>>())?;
    let extra = descriptors::extra(given)?;
    let mut process = match given.filled("process") {
        Some(path) => from_file(path)?,
        None => from_flags(session, &container, given)?,
    };
    process.env_mut().get_or_insert_default().extend(extra.environment);
    check(&process)?;
    let stay = if given.has("detach") { Stay::Detached } else { Stay::Foreground };
    let stdio = launch::stdio(session, &process, stay, given)?;
    let pid_file = given.filled("pid-file").map(files::absolute).transpose()?;
    let signals = (stay == Stay::Foreground).then(Signals::catch).transpose()?;
    if stay == Stay::Foreground {
        relay::fit(&mut process)?;
    }
    let if_paused = if given.has("ignore-paused") { IfPaused::Waits } else { IfPaused::GivesUp };
    let executed = container.exec(Exec { process, stdio, preserve_fds: extra.count, sub_cgroups, if_paused });
    let mut process = executed.map_err(|error| match error.kind() {
        Kind::State => Failure::from(error),
        _ => Failure::from(error).during("unable to start container process"),
    })?;
    let kill = |failure, process: &runtime_core::Process| {
        // It may have ended by itself; nobody would know of it otherwise.
        drop(process.signal(crate::signal::KILL));
        failure
    };
    let console = launch::hand_out(&mut process, given).map_err(|failure| kill(failure, &process))?;
    let written = pid_file.map(|path| files::write_pid(&path, process.pid())).transpose();
    written.map_err(|failure| kill(failure, &process))?;
    let Some(signals) = signals else { return Ok(0) };
    let relay = console.map(|master| Relay::new(Host::find()?, master)).transpose();
    let relay = relay.map_err(|failure| kill(failure, &process))?;
    let status = attend(&process, Attendance { signals: &signals, relay, notify: None })?;
    Ok(u8::try_from(status.number()).unwrap_or(u8::MAX))
}

fn from_file(path: &str) -> Result<oci::Process, Failure> {
    let text = std::fs::read(path).map_err(|error| Failure::io(format!("open {path}"), error))?;
    runtime_core::read_process(&text).map_err(|error| Failure::new(format!("{path}: {error}")))
}

/// The container's own process, changed by the flags.
fn from_flags(session: &Session, container: &Container, given: &Given) -> Result<oci::Process, Failure> {
    let process = container.process_of_spec()?.ok_or_else(|| Failure::new("process property must not be empty"))?;
    let unknown: Vec<_> = given.all("cap").filter(|name| capability(name).is_none()).collect();
    if !unknown.is_empty() {
        session.log.warn(&format!("ignoring unknown or unavailable capabilities: [{}]", unknown.join(" ")));
    }
    changed(process, given)
}

fn capability(name: &str) -> Option<oci::Capability> {
    serde_json::from_value(name.into()).ok()
}

fn changed(mut process: oci::Process, given: &Given) -> Result<oci::Process, Failure> {
    process.set_args(Some(given.words.iter().skip(1).cloned().collect()));
    process.set_terminal(Some(given.has("tty")));
    if let Some(cwd) = given.filled("cwd") {
        process.set_cwd(cwd.into());
    }
    if let Some(profile) = given.filled("apparmor") {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    if let Some(label) = given.filled("process-label") {
        process.set_selinux_label(Some(label.to_owned()));
    }
    if given.text("no-new-privs").is_some() {
        process.set_no_new_privileges(Some(given.has("no-new-privs")));
    }
    process.env_mut().get_or_insert_default().extend(given.all("env").map(str::to_owned));
    add_capabilities(&mut process, given);
    let mut user = process.user().clone();
    if let Some(text) = given.filled("user") {
        let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
        user.set_uid(id(uid, "uid")?);
        if let Some(gid) = gid {
            user.set_gid(id(gid, "gid")?);
        }
    }
    for group in given.all("additional-gids") {
        user.additional_gids_mut().get_or_insert_default().push(id(group, "additional gid")?);
    }
    process.set_user(user);
    Ok(process)
}

/// One grammar for every id: runc wraps 4294967296 to root.
fn id(text: &str, what: &str) -> Result<u32, Failure> {
    let parsed = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    parsed.filter(|id| *id != u32::MAX).ok_or_else(|| Failure::new(format!("bad {what}: {text:?} is not a user id")))
}

/// To the bounding, effective and permitted sets; to the ambient one where the container may inherit any.
fn add_capabilities(process: &mut oci::Process, given: &Given) {
    if given.text("cap").is_none() {
        return;
    }
    let mut all = process.capabilities().clone().unwrap_or_default();
    let mut sets = [all.bounding().clone(), all.effective().clone(), all.permitted().clone(), all.ambient().clone()];
    let count = if all.inheritable().as_ref().is_some_and(|set| !set.is_empty()) { 4 } else { 3 };
    for capability in given.all("cap").filter_map(capability) {
        for set in sets.iter_mut().take(count) {
            set.get_or_insert_default().insert(capability);
        }
    }
    let [bounding, effective, permitted, ambient] = sets;
    all.set_bounding(bounding).set_effective(effective).set_permitted(permitted).set_ambient(ambient);
    process.set_capabilities(Some(all));
}

/// `[controller[,controller]:]path`; without controllers it is for all, and then there is no other.
fn sub_cgroups(given: &[&str]) -> Result<Vec<SubCgroup>, Failure> {
    let mut places: Vec<SubCgroup> = Vec::new();
    for text in given {
        let Some((names, path)) = text.split_once(':') else {
            if given.len() > 1 {
                let why = "missing <controller>: prefix";
                return Err(Failure::new(format!("invalid --cgroup argument: {text} ({why})")));
            }
            places.push(SubCgroup { controllers: Vec::new(), path: (*text).to_owned() });
            continue;
        };
        let controllers: Vec<_> = names.split(',').map(str::to_owned).collect();
        if controllers.iter().any(String::is_empty) {
            let why = "empty <controller> prefix";
            return Err(Failure::new(format!("invalid --cgroup argument: {text} ({why})")));
        }
        if let Some(twice) = controllers.iter().find(|name| places.iter().any(|one| one.controllers.contains(name))) {
            let why = format!("controller {twice} specified multiple times");
            return Err(Failure::new(format!("invalid --cgroup argument(s): {why}")));
        }
        places.push(SubCgroup { controllers, path: path.to_owned() });
    }
    Ok(places)
}

/// In runc's words.
fn check(process: &oci::Process) -> Result<(), Failure> {
    let problem = match process {
        one if one.cwd().as_os_str().is_empty() => "Cwd property must not be empty",
        one if !one.cwd().is_absolute() => "Cwd must be an absolute path",
        one if one.args().as_ref().is_none_or(Vec::is_empty) => "exec args cannot be empty",
        _ => return Ok(()),
    };
    Err(Failure::new(problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Parsed, parse};

    fn given(line: &str) -> Given {
        match parse(COMMAND.flags, COMMAND.order, line.split_whitespace().map(str::to_owned)) {
            Ok(Parsed::Given(given)) => given,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_change_the_containers_process() {
        let line = "-t -e A=1 --env=B=2 --cwd /tmp -u 5:6 -g 7 -g 8 --cap CAP_SYS_ADMIN --cap CAP_FOO --no-new-privs=false c ls -l";
        let process = changed(oci::Process::default(), &given(line)).unwrap();
        assert_eq!(process.args().clone().unwrap(), ["ls", "-l"]);
        assert_eq!(process.terminal(), Some(true));
        assert!(process.env().clone().unwrap().ends_with(&["A=1".to_owned(), "B=2".to_owned()]));
        assert_eq!((process.user().uid(), process.user().gid()), (5, 6));
        assert_eq!(process.user().additional_gids().clone().unwrap(), [7, 8]);
        assert_eq!(process.no_new_privileges(), Some(false));
        let capabilities = process.capabilities().clone().unwrap();
        assert!(capabilities.bounding().clone().unwrap().contains(&oci::Capability::SysAdmin));
    }

    #[test]
    fn ids_are_numbers_of_thirty_two_bits() {
        for text in ["-1", "4294967295", "4294967296", "+1", "root", "", "1:x"] {
            let process = changed(oci::Process::default(), &given(&format!("--user={text} c ls")));
            assert_eq!(process.is_err(), !text.is_empty(), "{text}");
        }
    }

    #[test]
    fn places_below_the_containers_cgroup() {
        let place = |controllers: &[&str], path: &str| SubCgroup {
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            path: path.to_owned(),
        };
        for (given, expected) in [
            (&[][..], Ok(vec![])),
            (&["foo"], Ok(vec![place(&[], "foo")])),
            (&["cpu,memory:foo", "pids:/"], Ok(vec![place(&["cpu", "memory"], "foo"), place(&["pids"], "/")])),
            (&["foo", "bar"], Err("invalid --cgroup argument: foo (missing <controller>: prefix)")),
            (&[":foo"], Err("invalid --cgroup argument: :foo (empty <controller> prefix)")),
            (&["cpu:a", "cpu:b"], Err("invalid --cgroup argument(s): controller cpu specified multiple times")),
        ] {
            assert_eq!(sub_cgroups(given).map_err(|failure| failure.to_string()), expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn a_process_is_whole() {
        let mut process = oci::Process::default();
        process.set_args(Some(vec![]));
        assert_eq!(check(&process).unwrap_err().to_string(), "exec args cannot be empty");
        process.set_cwd("tmp".into());
        assert_eq!(check(&process).unwrap_err().to_string(), "Cwd must be an absolute path");
    }
}
