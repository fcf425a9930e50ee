//! Reading a bundle's `config.json`, or a process by itself. What they mean is `tare_plan`'s business, with one exception:
//! what runtimes written in Go read and the types could not hold. A capability that no kernel we know has is left out with
//! a warning, as the specification wants; a process without a user is root's.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::any_case::{AnyCase, Merged, read_json};
use crate::record::write_private;
use crate::warnings::warn;
use crate::{Error, Kind, oci};

/// The file's name in a bundle, and in the state folder of a container.
const NAME: &str = "config.json";
/// More than any specification; less than would hurt.
const LIMIT: u64 = 16 << 20;

/// The specification in `bundle`.
///
/// # Errors
/// [`Kind::NotFound`] when there is none, [`Kind::Invalid`] when it is not one.
pub fn read_spec(bundle: &Path) -> Result<oci::Spec, Error> {
    read_spec_file(&bundle.join(NAME))
}

/// The specification in this file.
///
/// # Errors
/// As [`read_spec`].
pub fn read_spec_file(path: &Path) -> Result<oci::Spec, Error> {
    let invalid = |why: String| Error::new(Kind::Invalid, format!("{}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(Kind::NotFound, format!("{} not found", path.display())),
        _ => Error::io(format!("open {}", path.display()), &error),
    })?;
    let length = file.metadata().map_or(0, |metadata| metadata.len()).min(LIMIT);
    let mut text = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
    let read = file.take(LIMIT + 1).read_to_end(&mut text);
    read.map_err(|error| Error::io(format!("read {}", path.display()), &error))?;
    if text.len() as u64 > LIMIT {
        return Err(invalid(format!("longer than {LIMIT} bytes")));
    }
    let spec: oci::Spec = parse(&text, "/process").map_err(|error| invalid(error.to_string()))?;
    spec.process().iter().for_each(warn_of_ambient);
    warn_of_accesses(&spec);
    Ok(spec)
}

/// A process of a specification, by itself.
///
/// # Errors
/// [`Kind::Invalid`] when these bytes are not one.
pub fn read_process(text: &[u8]) -> Result<oci::Process, Error> {
    let process = parse(text, "").map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
    warn_of_ambient(&process);
    Ok(process)
}

/// Reads it once; only what cannot be read like that is looked at for what may be mended.
fn parse<T: DeserializeOwned>(text: &[u8], process: &str) -> Result<T, serde_json::Error> {
    let error = match read_json(text) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    let Ok(Merged(mut value)) = serde_json::from_slice(text) else { return Err(error) };
    let Some(process) = value.pointer_mut(process).filter(|process| process.is_object()) else { return Err(error) };
    if process["user"].is_null() {
        process["user"] = json!({ "uid": 0, "gid": 0 });
    }
    rename_flags(process.pointer_mut("/scheduler/flags"));
    let unknown = leave_out_unknown(process.get_mut("capabilities"));
    if !unknown.is_empty() {
        warn(format_args!("ignoring unknown or unavailable capabilities: {unknown:?}"));
    }
    T::deserialize(AnyCase(value))
}

/// The specification's name for a flag that oci-spec 0.10 spells otherwise.
fn rename_flags(flags: Option<&mut Value>) {
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        if flag == "SCHED_FLAG_RESET_ON_FORK" {
            *flag = json!("SCHED_RESET_ON_FORK");
        }
    }
}

/// Ambient capabilities that are not raised: they have to be permitted and inheritable, too.
fn warn_of_ambient(process: &oci::Process) {
    let Some(sets) = process.capabilities() else { return };
    let both = [sets.permitted(), sets.inheritable()];
    for name in sets.ambient().iter().flatten() {
        if !both.iter().all(|set| set.as_ref().is_some_and(|set| set.contains(name))) {
            warn(format_args!("can't raise ambient capability CAP_{name}: operation not permitted"));
        }
    }
}

/// Letters of device rules that stand for no access. runc and crun pass over them.
fn warn_of_accesses(spec: &oci::Spec) {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let rules = resources.and_then(|resources| resources.devices().as_ref()).into_iter().flatten();
    for letter in rules.filter_map(|rule| rule.access().as_deref()).flat_map(str::chars) {
        if !matches!(letter, 'r' | 'w' | 'm') {
            warn(format_args!("ignoring {letter:?} in an access of linux.resources.devices: it is none of r, w and m"));
        }
    }
}

/// The names that are left out, each once.
fn leave_out_unknown(sets: Option<&mut Value>) -> BTreeSet<String> {
    let mut unknown = BTreeSet::new();
    let sets = sets.and_then(Value::as_object_mut).into_iter().flat_map(|sets| sets.values_mut());
    for set in sets.filter_map(Value::as_array_mut) {
        set.retain(|name| {
            let known = !name.is_string() || oci::Capability::deserialize(name).is_ok();
            unknown.extend(name.as_str().filter(|_| !known).map(str::to_owned));
            known
        });
    }
    unknown
}

/// Keeps the specification in a state folder: the bundle may change, the container does not.
pub(crate) fn keep_spec(spec: &oci::Spec, state: &Path) -> Result<(), Error> {
    let path = state.join(NAME);
    let text = serde_json::to_vec(spec).map_err(|error| Error::new(Kind::System, error.to_string()))?;
    write_private(&path, &text).map_err(|error| Error::io(format!("write {}", path.display()), &error))
}

/// Takes the kept specification away; there may be none.
pub(crate) fn forget_spec(state: &Path) -> Result<(), Error> {
    let path = state.join(NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_that_nobody_knows_is_left_out_and_other_nonsense_is_not() {
        let text = r#"{"cwd":"/","user":{"uid":0,"gid":0},"capabilities":{"bounding":["CAP_NOPE","CAP_KILL"],"ambient":["CAP_X"]}}"#;
        let process = read_process(text.as_bytes()).unwrap();
        let capabilities = process.capabilities().clone().unwrap();
        assert_eq!(capabilities.bounding().clone().unwrap().into_iter().collect::<Vec<_>>(), [oci::Capability::Kill]);
        assert!(capabilities.ambient().clone().unwrap().is_empty());
        for text in [
            r#"{"cwd":"/","user":{"uid":-1,"gid":0},"capabilities":{"bounding":["CAP_NOPE"]}}"#,
            r#"{"cwd":"/","user":{"uid":0,"gid":0},"capabilities":{"bounding":[7]}}"#,
            r#"{"cwd":"/","user":{"uid":0,"gid":0},"capabilities":"CAP_KILL"}"#,
            "{",
        ] {
            assert!(read_process(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_runtimes_in_go_read_is_read() {
        let nobody = r#"{"cwd":"/","scheduler":{"policy":"SCHED_BATCH","flags":["SCHED_FLAG_RESET_ON_FORK"]}}"#;
        let process = read_process(nobody.as_bytes()).unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (0, 0));
        assert_eq!(process.scheduler().clone().unwrap().flags().clone().unwrap().len(), 1);
    }
}
