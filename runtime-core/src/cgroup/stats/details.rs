//! What `runc events` prints and containerd's messages have no place for: the kernel's whole table of memory, the CPU set,
//! and the use of each processor by kind. Read for people, not for whoever polls.

use super::directory::Directory;
use crate::Error;
use crate::cgroup::Cgroup;

/// What is there; a controller that is not mounted leaves its part empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// `memory.stat`, under the kernel's names.
    pub memory: Vec<(String, u64)>,
    /// The CPU set; version 1 alone, as with runc.
    pub cpuset: Option<CpuSet>,
    /// Nanoseconds in the kernel, of each processor; version 1 alone.
    pub kernel: Vec<u64>,
    /// Nanoseconds in programs, of each processor; version 1 alone.
    pub user: Vec<u64>,
}

/// The files of the `cpuset` hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's names")]
pub struct CpuSet {
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

impl Cgroup {
    /// The rest of what the container has used.
    ///
    /// # Errors
    /// A control file that does not say what its format promises.
    pub fn details(&self) -> Result<Details, Error> {
        let open = |controller: &str| self.directory_of(controller).map_or(Ok(None), Directory::open);
        let memory = open("memory")?.map_or(Ok(None), |memory| memory.table("memory.stat"))?;
        let mut details =
            Details { memory: memory.map(|table| table.entries()).unwrap_or_default(), ..Details::default() };
        if !self.legacy.is_empty() {
            details.cpuset = open("cpuset")?.as_ref().map(cpuset).transpose()?;
            (details.user, details.kernel) = open("cpuacct")?.as_ref().map_or(Ok((vec![], vec![])), by_kind)?;
        }
        Ok(details)
    }
}

fn cpuset(directory: &Directory) -> Result<CpuSet, Error> {
    let number = |name: &str| directory.number(name).map(Option::unwrap_or_default);
    let list = |name: &str| {
        let text = directory.text(name)?.unwrap_or_default();
        listed(&text).ok_or_else(|| directory.garbled(name, &text))
    };
    let level = "cpuset.sched_relax_domain_level";
    let text = directory.text(level)?.unwrap_or_default();
    Ok(CpuSet {
        cpus: list("cpuset.cpus")?,
        cpu_exclusive: number("cpuset.cpu_exclusive")?,
        mems: list("cpuset.mems")?,
        mem_hardwall: number("cpuset.mem_hardwall")?,
        mem_exclusive: number("cpuset.mem_exclusive")?,
        memory_migrate: number("cpuset.memory_migrate")?,
        memory_spread_page: number("cpuset.memory_spread_page")?,
        memory_spread_slab: number("cpuset.memory_spread_slab")?,
        memory_pressure: number("cpuset.memory_pressure")?,
        sched_load_balance: number("cpuset.sched_load_balance")?,
        sched_relax_domain_level: text.trim().parse().map_err(|_| directory.garbled(level, &text))?,
    })
}

/// `0-2,7`; nothing is an empty list.
fn listed(text: &str) -> Option<Vec<u16>> {
    let mut all = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        all.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}

/// `cpuacct.usage_all`: a heading, and for each processor its number, and what was used in programs and in the kernel.
fn by_kind(directory: &Directory) -> Result<(Vec<u64>, Vec<u64>), Error> {
    let file = "cpuacct.usage_all";
    let text = directory.text(file)?.unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.parse::<u64>().ok()?, words.next()?.parse::<u64>().ok()?))
    };
    let lines = text.lines().skip(1).map(|one| line(one).ok_or_else(|| directory.garbled(file, one)));
    Ok(lines.collect::<Result<Vec<_>, _>>()?.into_iter().unzip())
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn lists_of_processors_have_ranges() {
        for (text, expected) in [
            ("0-2,7\n", Some(vec![0, 1, 2, 7])),
            ("3\n", Some(vec![3])),
            ("\n", Some(vec![])),
            ("0-\n", None),
            ("a\n", None),
            ("0-70000\n", None),
        ] {
            assert_eq!(listed(text), expected, "{text:?}");
        }
    }
}
