//! Descriptors that the caller gives to a container's process: the standard streams, those of `--preserve-fds`, and
//! those of socket activation (sd_listen_fds(3)). They keep their numbers, from 3 on.

use runtime_core::{Stdio, close_inherited_on_exec, is_inherited};

use crate::failure::Failure;
use crate::flags::Given;

/// The first descriptor above the standard streams.
const FIRST: u32 = 3;

/// What a process gets from 3 on, and what it is told of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extra {
    pub(crate) count: u32,
    pub(crate) environment: Vec<String>,
}

/// The caller's own streams. One that is closed is /dev/null in the container.
pub(crate) fn streams() -> Stdio {
    let [stdin, stdout, stderr] = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
        .map(|stream| stream.try_clone_to_owned().ok());
    Stdio::Streams { stdin, stdout, stderr }
}

/// Activation's descriptors first, as systemd numbers them, then those of `--preserve-fds`. Everything beyond is kept
/// from the container and from hooks.
pub(crate) fn extra(given: &Given) -> Result<Extra, Failure> {
    let preserve: u32 = given.number("preserve-fds")?.unwrap_or(0);
    let activated = activated(|name| std::env::var(name).ok(), std::process::id());
    let extra = describe(activated, preserve, std::env::var("LISTEN_FDNAMES").ok(), is_inherited)?;
    close_inherited_on_exec(FIRST + extra.count);
    Ok(extra)
}

fn describe(
    activated: u32,
    preserve: u32,
    names: Option<String>,
    is_there: impl Fn(u32) -> bool,
) -> Result<Extra, Failure> {
    // SECURITY: a number that the caller has not opened may be a descriptor of ours, which the container would keep.
    if let Some(number) = (FIRST..FIRST.saturating_add(activated)).find(|number| !is_there(*number)) {
        return Err(Failure::new(format!("LISTEN_FDS={activated}: descriptor {number} is not open")));
    }
    let first = FIRST + activated;
    let missing = (0..preserve).find(|index| !is_there(first.saturating_add(*index)));
    if let Some(index) = missing {
        let what = format!("unable to stat preserved-fd {index} (of {preserve})");
        return Err(Failure::new(format!("{what}: stat /proc/self/fd/{}: no such file or directory", first + index)));
    }
    let mut environment = Vec::new();
    if activated > 0 {
        environment.extend([format!("LISTEN_FDS={activated}"), "LISTEN_PID=1".to_owned()]);
        environment.extend(names.map(|names| format!("LISTEN_FDNAMES={names}")));
    }
    Ok(Extra { count: activated + preserve, environment })
}

/// How many descriptors socket activation has given to exactly this process.
fn activated(variable: impl Fn(&str) -> Option<String>, own: u32) -> u32 {
    let number = |name| variable(name)?.parse::<u32>().ok();
    match (number("LISTEN_FDS"), number("LISTEN_PID")) {
        (Some(count), Some(pid)) if pid == own => count,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activation_is_for_one_process() {
        for (fds, pid, expected) in [
            (Some("2"), Some("7"), 2),
            (Some("2"), Some("8"), 0),
            (Some("2"), None, 0),
            (None, Some("7"), 0),
            (Some("-1"), Some("7"), 0),
            (Some("x"), Some("7"), 0),
        ] {
            let variable = |name: &str| if name == "LISTEN_FDS" { fds } else { pid }.map(str::to_owned);
            assert_eq!(activated(variable, 7), expected, "{fds:?} {pid:?}");
        }
    }

    #[test]
    fn activations_descriptors_come_first() {
        let extra = describe(2, 1, Some("a:b".to_owned()), |number| number <= 5).unwrap();
        let environment = ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b"].map(str::to_owned).to_vec();
        assert_eq!(extra, Extra { count: 3, environment });
    }

    #[test]
    fn a_descriptor_that_is_not_there_is_named() {
        let error = describe(0, 2, None, |number| number == 3).unwrap_err().to_string();
        assert!(error.starts_with("unable to stat preserved-fd 1 (of 2): stat /proc/self/fd/4: "), "{error}");
        for activated in [2, u32::MAX] {
            let error = describe(activated, 0, None, |number| number == 3).unwrap_err().to_string();
            assert_eq!(error, format!("LISTEN_FDS={activated}: descriptor 4 is not open"));
        }
    }
}
