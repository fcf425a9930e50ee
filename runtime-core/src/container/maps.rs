//! The id maps of a new user namespace and the clock offsets of a new time namespace. Both can only be written from
//! outside, while the child waits; it is ours, so that its number cannot be anybody else's.

use std::process::Command;

use tare_plan::{IdRange, Mapper, Namespaces};

use crate::{Error, Kind};

/// Writes what `spaces` has for the process `pid`.
pub(crate) fn give(spaces: &Namespaces, pid: i32) -> Result<(), Error> {
    if !spaces.uid_map.is_empty() {
        match spaces.mapper {
            Mapper::Tools => {
                tool("newuidmap", pid, &spaces.uid_map)?;
                tool("newgidmap", pid, &spaces.gid_map)?;
            }
            Mapper::Owner => {
                write(pid, "uid_map", &lines(&spaces.uid_map))?;
                // Without this, giving up a group could give access that the group is denied (CVE-2014-8989).
                write(pid, "setgroups", "deny")?;
                write(pid, "gid_map", &lines(&spaces.gid_map))?;
            }
            Mapper::Runtime => {
                write(pid, "uid_map", &lines(&spaces.uid_map))?;
                write(pid, "gid_map", &lines(&spaces.gid_map))?;
            }
        }
    }
    if spaces.time_offsets.is_empty() {
        return Ok(());
    }
    let offsets = spaces.time_offsets.iter().fold(String::new(), |all, (clock, seconds, nanoseconds)| {
        format!("{all}{} {seconds} {nanoseconds}\n", clock.to_string_lossy())
    });
    write(pid, "timens_offsets", &offsets)
}

fn lines(map: &[IdRange]) -> String {
    map.iter().fold(String::new(), |all, one| format!("{all}{} {} {}\n", one.inside, one.outside, one.count))
}

fn write(pid: i32, file: &str, text: &str) -> Result<(), Error> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, text).map_err(|error| Error::io(format!("write {file} of the user namespace"), &error))
}

/// `newuidmap PID INSIDE OUTSIDE COUNT ...` (shadow's newuidmap(1)).
fn tool(name: &str, pid: i32, map: &[IdRange]) -> Result<(), Error> {
    let ranges = map.iter().flat_map(|one| [one.inside, one.outside, one.count]).map(|number| number.to_string());
    let failed = |why: String| Error::new(Kind::System, format!("map ids of the user namespace by {name}: {why}"));
    let output = Command::new(name).arg(pid.to_string()).args(ranges).output();
    let output = output.map_err(|error| failed(format!("{error} (package uidmap)")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
