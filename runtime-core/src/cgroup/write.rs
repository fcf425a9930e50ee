//! The one writer: performs the list of `tare_plan::resources` in a cgroup. It decides nothing; every rule it follows is
//! in the list, or is the one about order below.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use tare_plan::resources::{Absent, Floor, OtherHalf, Resources, Write};

use super::{Cgroup, file};
use crate::{Error, Kind, sys};

/// The control file written last, kept open: a version 1 device list is a dozen writes into one file.
struct Open {
    path: PathBuf,
    file: OwnedFd,
}

/// What the cgroups above a container's do to its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Above {
    Unfiltered,
    /// Making a node may be refused whatever the container's own list says.
    Filtered,
}

impl Cgroup {
    /// Writes the limits, to a new cgroup or as an update.
    ///
    /// The kernel checks some values against others that are written later (`memory.limit_in_bytes` against the old
    /// `memsw`, a period against the old quota), so what it calls invalid is tried once more after all the others.
    ///
    /// # Errors
    /// The first write that was refused: its field, file, value and errno.
    pub fn apply(&self, resources: &Resources) -> Result<(), Error> {
        let mut open = None;
        let mut again = Vec::new();
        for write in &resources.writes {
            match self.perform(write, &mut open) {
                Err(error) if error.errno() == Some(Errno::INVAL) => again.push(write),
                outcome => outcome?,
            }
        }
        for write in again {
            self.perform(write, &mut open)?;
        }
        resources.device_program.as_deref().map_or(Ok(()), |program| self.filter_devices(program))
    }

    /// Writes the changes of an update, and tells systemd where the cgroup is a unit's.
    ///
    /// # Errors
    /// As [`Cgroup::apply`].
    pub fn update(&self, resources: &Resources) -> Result<(), Error> {
        if !self.is_unit() {
            return self.apply(resources);
        }
        // systemd asks for no floor, and is told whole values.
        let mut told = resources.clone();
        for write in &mut told.writes {
            let Some(directory) = self.directory_of(write.controller) else { continue };
            if let Some(floor) = write.floor {
                refuse_below(&directory.join(floor.file), floor).map_err(|error| error.during(&write.field))?;
            }
            let value = whole(write, directory).map_err(|error| error.during(&write.field))?.into_owned();
            write.value = if write.file == "cpu.max" { with_period(value, directory)? } else { value };
            write.other_half = None;
        }
        let told = tare_plan::systemd::as_kept(&told);
        self.change_unit(&told)?;
        self.apply(&told)
    }

    fn perform(&self, write: &Write, open: &mut Option<Open>) -> Result<(), Error> {
        let directory = self.directory_of(write.controller).ok_or_else(|| {
            Error::new(Kind::Unsupported, format!("no {} hierarchy is mounted", write.controller)).during(&write.field)
        })?;
        if let Some(floor) = write.floor {
            refuse_below(&directory.join(floor.file), floor).map_err(|error| error.during(&write.field))?;
        }
        let path = directory.join(&write.file);
        let value = whole(write, directory).map_err(|error| error.during(&write.field))?;
        let refused = |path: &Path, value: &str, errno| {
            Error::system(format_args!("{}: write {value} to {}", write.field, path.display()), errno)
        };
        match put(&path, &value, open) {
            Err(Errno::NOENT) => match &write.absent {
                Absent::PassOver => Ok(()),
                Absent::Instead { file, value } => {
                    let path = directory.join(file);
                    put(&path, value, open).map_err(|errno| refused(&path, value, errno))
                }
                Absent::Refuse => Err(self.missing(write, &path, directory)),
            },
            outcome => outcome.map_err(|errno| refused(&path, &value, errno)),
        }
    }

    /// On version 2 a missing file mostly means a controller that could not be enabled when the cgroup was made.
    fn missing(&self, write: &Write, path: &Path, directory: &Path) -> Error {
        let hint = match directory.parent() {
            Some(parent) if self.legacy.is_empty() && file::exists(directory) => {
                format!("not enabled in {}: ", parent.join("cgroup.subtree_control").display())
            }
            _ => String::new(),
        };
        let Write { field, value, .. } = write;
        Error::system(format_args!("{field}: {hint}write {value} to {}", path.display()), Errno::NOENT)
    }

    /// Whether devices are filtered above this cgroup already, as Podman does it for its pods.
    pub(crate) fn devices_above(&self) -> Above {
        let Some(place) = self.unified.as_ref().filter(|_| self.legacy.is_empty()) else { return Above::Unfiltered };
        let above = place.directory.ancestors().skip(1).take_while(|path| path.starts_with(&place.mountpoint));
        // systemd has not made all of them yet.
        let nearest = above.map(|path| file::open(path, OFlags::RDONLY | OFlags::DIRECTORY)).find_map(Result::ok);
        match nearest.map(|directory| sys::bpf::ruling_device_programs(directory.as_fd())) {
            Some(Ok(1..)) => Above::Filtered,
            // Who may not ask is in a user namespace, where no node can be made anyway.
            _ => Above::Unfiltered,
        }
    }

    /// Attaches the device program in place of an earlier one: a list replaces a list.
    fn filter_devices(&self, program: &[u8]) -> Result<(), Error> {
        const FIELD: &str = "linux.resources.devices";
        let Some(place) = &self.unified else {
            return Err(Error::new(Kind::Unsupported, format!("{FIELD}: no cgroup2 hierarchy is mounted")));
        };
        let problem = |what: &str, errno| {
            Error::system(format_args!("{FIELD}: {what} the device program of {}", place.directory.display()), errno)
        };
        let directory = file::open(&place.directory, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|errno| problem("find the cgroup for", errno))?;
        let before = sys::bpf::device_programs(directory.as_fd()).map_err(|errno| problem("list", errno))?;
        let loaded = sys::bpf::load_device_program(program).map_err(|errno| problem("load", errno))?;
        sys::bpf::attach_device_program(directory.as_fd(), loaded.as_fd(), before.first().map(AsFd::as_fd))
            .map_err(|errno| problem("attach", errno))
    }
}

/// One `write(2)` into a control file.
fn put(path: &Path, value: &str, open: &mut Option<Open>) -> Result<(), Errno> {
    if open.as_ref().is_none_or(|open| open.path != path) {
        *open = Some(Open { path: path.to_path_buf(), file: file::open(path, OFlags::WRONLY)? });
    }
    open.as_ref().map_or(Err(Errno::BADF), |open| rustix::io::write(&open.file, value.as_bytes()).map(drop))
}

/// The value with what it lacks.
fn whole<'a>(write: &'a Write, directory: &Path) -> Result<Cow<'a, str>, Error> {
    let read = |name: &str| {
        let path = directory.join(name);
        file::read(&path).map(|text| (text.unwrap_or_default(), path))
    };
    match write.other_half {
        None => Ok(Cow::Borrowed(&write.value)),
        Some(OtherHalf::FirstWord) => {
            let (text, path) = read(&write.file)?;
            let first = text.split_whitespace().next().ok_or_else(|| file::garbled(&path, &text))?;
            Ok(Cow::Owned(format!("{first} {}", write.value)))
        }
        Some(OtherHalf::Less(name)) => {
            let (text, path) = read(name)?;
            let (Ok(all), Ok(part)) = (write.value.parse::<u64>(), text.trim().parse::<u64>()) else {
                let what = format!("{} includes {}, which has no limit", write.value, path.display());
                return Err(Error::new(Kind::Invalid, what));
            };
            let rest = all.checked_sub(part).ok_or_else(|| {
                Error::new(Kind::Invalid, format!("{all} is below {}, {part}, which it includes", path.display()))
            })?;
            Ok(Cow::Owned(rest.to_string()))
        }
    }
}

/// A bandwidth without a period has that of before.
fn with_period(value: String, directory: &Path) -> Result<String, Error> {
    if value.split_whitespace().nth(1).is_some() {
        return Ok(value);
    }
    let before = file::read(&directory.join("cpu.max"))?.unwrap_or_default();
    Ok(before.split_whitespace().nth(1).map(|period| format!("{} {period}", value.trim())).unwrap_or(value))
}

/// Refuses a limit that what is used already does not fit below, in runc's words.
fn refuse_below(path: &Path, floor: Floor) -> Result<(), Error> {
    let text = file::read(path)?.unwrap_or_default();
    let used: u64 = text.trim().parse().map_err(|_| file::garbled(path, &text))?;
    if floor.limit <= used {
        return Err(Error::new(Kind::Invalid, format!("rejecting {} {} <= usage {used}", floor.what, floor.limit)));
    }
    Ok(())
}
