//! When and where a process runs: scheduler, I/O priority, CPU affinity.

use oci_spec::runtime as oci;
use oci_spec::runtime::{IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy};

use crate::{Refusal, Scheduler};

const FIFO: u32 = 1;
const ROUND_ROBIN: u32 = 2;
const DEADLINE: u32 = 6;
/// The kernel's largest CONFIG_NR_CPUS; a mask never gets longer than 1 KiB.
const MAX_CPUS: usize = 8192;

pub(crate) fn policy(field: &str, listed: &oci::Scheduler) -> Result<Scheduler, Refusal> {
    let policy = policy_number(*listed.policy());
    let nice = listed.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(Refusal::new(format!("{field}.nice"), format!("{nice} is not between -20 and 19")));
    }
    let priority = u32::try_from(listed.priority().unwrap_or(0))
        .ok()
        .filter(|priority| *priority <= 99)
        .ok_or_else(|| Refusal::new(format!("{field}.priority"), "is not between 0 and 99"))?;
    if priority != 0 && !matches!(policy, FIFO | ROUND_ROBIN) {
        return Err(Refusal::new(format!("{field}.priority"), "is only for SCHED_FIFO and SCHED_RR"));
    }
    let times = [listed.runtime(), listed.deadline(), listed.period()].map(|time| time.unwrap_or(0));
    if times != [0; 3] && policy != DEADLINE {
        return Err(Refusal::new(field, "runtime, deadline and period are only for SCHED_DEADLINE"));
    }
    let [runtime, deadline, period] = times;
    let flags = listed.flags().iter().flatten().fold(0, |bits, flag| bits | flag_bit(*flag));
    Ok(Scheduler { policy, flags, nice, priority, runtime, deadline, period })
}

fn policy_number(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => FIFO,
        LinuxSchedulerPolicy::SchedRr => ROUND_ROBIN,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => DEADLINE,
    }
}

fn flag_bit(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// The value of ioprio_set(2).
pub(crate) fn io_priority(field: &str, listed: &oci::LinuxIOPriority) -> Result<u32, Refusal> {
    let class = match listed.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = u32::try_from(listed.priority()).ok().filter(|level| *level <= 7);
    let level = level.ok_or_else(|| {
        Refusal::new(format!("{field}.priority"), format!("{} is not between 0 and 7", listed.priority()))
    })?;
    Ok(class << 13 | level)
}

/// The CPUs of an exec before it joins the container's cgroup.
pub(crate) fn initial_affinity(field: &str, process: &oci::Process) -> Result<Vec<u64>, Refusal> {
    let text = process.exec_cpu_affinity().as_ref().and_then(|affinity| affinity.initial().as_deref());
    cpus(&format!("{field}.initial"), text.unwrap_or_default())
}

/// The CPUs of an exec after it has joined the container's cgroup.
pub(crate) fn final_affinity(field: &str, process: &oci::Process) -> Result<Vec<u64>, Refusal> {
    let text = process.exec_cpu_affinity().as_ref().and_then(|affinity| affinity.cpu_affinity_final().as_deref());
    cpus(&format!("{field}.final"), text.unwrap_or_default())
}

fn cpus(field: &str, text: &str) -> Result<Vec<u64>, Refusal> {
    let problem = |part: &str| Refusal::new(field, format!("{part:?} is not a range of CPUs below {MAX_CPUS}"));
    list_mask(text, MAX_CPUS).map_err(problem)
}

/// `0-3,7` as a mask of 64-bit words, with numbers below `end`; nothing is the empty mask. The error is the part that is
/// no such range.
pub(crate) fn list_mask(text: &str, end: usize) -> Result<Vec<u64>, &str> {
    let mut mask: Vec<u64> = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = number(first).zip(number(last)).filter(|(first, last)| first <= last && *last < end);
        let (first, last) = range.ok_or(part)?;
        for number in first..=last {
            let word = number / 64;
            mask.resize(mask.len().max(word + 1), 0);
            mask[word] |= 1 << (number % 64);
        }
    }
    Ok(mask)
}

/// A plain decimal number, without sign or space.
fn number(text: &str) -> Option<usize> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_masks() {
        let table: [(&str, Option<&[u64]>); 12] = [
            ("", Some(&[])),
            ("0", Some(&[1])),
            ("0-3,7", Some(&[0x8f])),
            ("63-64", Some(&[1 << 63, 1])),
            (
                "8191",
                Some(&{
                    let mut words = [0; 128];
                    words[127] = 1 << 63;
                    words
                }),
            ),
            ("8192", None),
            ("3-1", None),
            ("+1", None),
            ("1,", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("1-2-3", None),
        ];
        for (text, expected) in table {
            assert_eq!(cpus("f", text).ok().as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_policy_takes_only_what_it_means() {
        let table = [
            (r#"{"policy":"SCHED_OTHER","nice":-20}"#, true),
            (r#"{"policy":"SCHED_OTHER","nice":20}"#, false),
            (r#"{"policy":"SCHED_BATCH","priority":1}"#, false),
            (r#"{"policy":"SCHED_FIFO","priority":99}"#, true),
            (r#"{"policy":"SCHED_RR","priority":-1}"#, false),
            (r#"{"policy":"SCHED_RR","runtime":1}"#, false),
            (r#"{"policy":"SCHED_DEADLINE","runtime":1,"deadline":2,"period":3,"flags":["SCHED_FLAG_RECLAIM"]}"#, true),
        ];
        for (text, allowed) in table {
            let listed: oci::Scheduler = serde_json::from_str(text).unwrap();
            assert_eq!(policy("f", &listed).is_ok(), allowed, "{text}");
        }
    }
}
