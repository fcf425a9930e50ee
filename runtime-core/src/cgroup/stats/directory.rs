//! One cgroup directory, opened once, and the formats its files come in.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::Error;
use crate::cgroup::file;

pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// A flat table: `key value` lines.
#[derive(Debug, Default)]
pub(super) struct Table(String);

impl Table {
    /// The value of `key`; 0 where this kernel has no such line.
    pub(super) fn get(&self, key: &str) -> u64 {
        self.find(key).unwrap_or(0)
    }

    /// All of it, in order.
    pub(super) fn entries(&self) -> Vec<(String, u64)> {
        let pair =
            |line: &str| line.split_once(' ').and_then(|(key, value)| Some((key.to_owned(), value.parse().ok()?)));
        self.0.lines().filter_map(pair).collect()
    }

    pub(super) fn find(&self, key: &str) -> Option<u64> {
        self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
    }
}

impl Directory {
    /// `None` once the cgroup has gone.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Error> {
        match file::open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_path_buf() })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::system(format_args!("open {}", path.display()), errno)),
        }
    }

    /// The text of a file; `None` where there is none, or where it has no value.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match rustix::fs::openat(&self.fd, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => file::text(&file, &self.path.join(name)),
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(errno) => Err(Error::system(format_args!("open {}", self.path.join(name).display()), errno)),
        }
    }

    /// A single number; `max` is the greatest.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.trim() {
            "max" => Ok(Some(u64::MAX)),
            number => number.parse().map(Some).map_err(|_| self.garbled(name, number)),
        }
    }

    /// A flat table, checked as a whole.
    pub(super) fn table(&self, name: &str) -> Result<Option<Table>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let sound = |line: &&str| line.split_once(' ').is_some_and(|(_, value)| value.parse::<u64>().is_ok());
        match text.lines().find(|line| !sound(line)) {
            Some(line) => Err(self.garbled(name, line)),
            None => Ok(Some(Table(text))),
        }
    }

    pub(super) fn garbled(&self, name: &str, text: &str) -> Error {
        file::garbled(&self.path.join(name), text)
    }
}
