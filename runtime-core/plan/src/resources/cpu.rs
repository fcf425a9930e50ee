//! `linux.resources.cpu`: shares, bandwidth, realtime and cpusets.

use oci_spec::runtime::LinuxCpu;

use super::OtherHalf;
use super::list::{List, Verb};
use crate::Refusal;

const SHARES: &str = "linux.resources.cpu.shares";
const QUOTA: &str = "linux.resources.cpu.quota";
const PERIOD: &str = "linux.resources.cpu.period";
const BURST: &str = "linux.resources.cpu.burst";
const IDLE: &str = "linux.resources.cpu.idle";
const RT_RUNTIME: &str = "linux.resources.cpu.realtimeRuntime";
const RT_PERIOD: &str = "linux.resources.cpu.realtimePeriod";

pub(super) fn limits(cpu: &LinuxCpu, list: &mut List<'_>) -> Result<(), Refusal> {
    let sets = [
        ("cpuset.cpus", cpu.cpus(), "linux.resources.cpu.cpus"),
        ("cpuset.mems", cpu.mems(), "linux.resources.cpu.mems"),
    ];
    for (file, value, field) in sets {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            list.push("cpuset", file, value, field)?;
        }
    }
    // An idle cgroup has the least weight of all, and the kernel refuses to give it another.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        if list.unified() {
            list.push("cpu", "cpu.weight", weight(shares), SHARES)?;
        } else {
            // The kernel would take another number and say nothing. The texts are runc's.
            let problem = match shares {
                0..=1 => "the minimum allowed cpu-shares is 2",
                2..=262_144 => "",
                _ => "the maximum allowed cpu-shares is 262144",
            };
            if !problem.is_empty() {
                return Err(Refusal::new(SHARES, problem));
            }
            list.push("cpu", "cpu.shares", shares, SHARES)?;
        }
    }
    if list.unified() {
        unified(cpu, list)?
    } else {
        legacy(cpu, list)?
    }
    match cpu.idle() {
        None => Ok(()),
        Some(idle @ (0 | 1)) => list.push("cpu", "cpu.idle", idle, IDLE),
        Some(other) => Err(Refusal::new(IDLE, format!("{other} is neither 0 nor 1"))),
    }
}

fn legacy(cpu: &LinuxCpu, list: &mut List<'_>) -> Result<(), Refusal> {
    if let Some(burst) = cpu.burst() {
        list.push("cpu", "cpu.cfs_burst_us", burst, BURST)?;
    }
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        list.push("cpu", "cpu.cfs_period_us", period, PERIOD)?;
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        list.push("cpu", "cpu.cfs_quota_us", quota.max(-1), QUOTA)?;
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        list.push("cpu", "cpu.rt_period_us", period, RT_PERIOD)?;
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        list.push("cpu", "cpu.rt_runtime_us", runtime, RT_RUNTIME)?;
    }
    Ok(())
}

fn unified(cpu: &LinuxCpu, list: &mut List<'_>) -> Result<(), Refusal> {
    if let Some(burst) = cpu.burst() {
        list.push("cpu", "cpu.max.burst", burst, BURST)?;
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    let amount = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
    // One file takes both. The kernel keeps a period that is not written, and cannot do without the quota.
    match (quota, period, list.verb) {
        (None, None, _) => {}
        (Some(_), None, Verb::Update) => list.push("cpu", "cpu.max", amount, QUOTA)?,
        (None, Some(period), Verb::Update) => {
            list.push("cpu", "cpu.max", period, PERIOD)?;
            list.with(OtherHalf::FirstWord);
        }
        (Some(_), period, _) => {
            list.push("cpu", "cpu.max", format!("{amount} {}", period.unwrap_or(100_000)), QUOTA)?
        }
        (None, Some(period), Verb::Create) => list.push("cpu", "cpu.max", format!("{amount} {period}"), PERIOD)?,
    }
    if cpu.realtime_period().is_some_and(|period| period != 0) {
        list.legacy_only(RT_PERIOD)?;
    }
    if cpu.realtime_runtime().is_some_and(|runtime| runtime != 0) {
        list.legacy_only(RT_RUNTIME)?;
    }
    Ok(())
}

/// Shares (2 to 262144, 1024 by default) on the scale of weights (1 to 10000, 100 by default). A curve through the three
/// pairs, on a logarithmic scale; all runtimes use the same one, so that pods weigh the same under each of them.
fn weight(shares: u64) -> String {
    let shares = u32::try_from(shares).unwrap_or(u32::MAX);
    if shares <= 2 {
        return "1".to_owned();
    }
    if shares >= 262_144 {
        return "10000".to_owned();
    }
    let log = f64::from(shares).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    format!("{:.0}", 10_f64.powf(exponent).ceil())
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn shares_and_weights_meet_at_both_ends_and_at_the_default() {
        let table = [
            (1, "1"),
            (2, "1"),
            (3, "2"),
            (512, "59"),
            (1024, "100"),
            (2048, "174"),
            (262_144, "10000"),
            (u64::MAX, "10000"),
        ];
        for (shares, expected) in table {
            assert_eq!(weight(shares), expected, "{shares} shares");
        }
    }
}
