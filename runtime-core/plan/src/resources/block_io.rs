//! `linux.resources.blockIO`: weights and throttles.
//!
//! Which file takes a weight depends on the I/O scheduler in use, which only the running host knows; the list names the
//! file of BFQ's and of the other, with the value on each one's scale.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxWeightDevice};

use super::Absent;
use super::list::List;
use crate::Refusal;

const WEIGHT: &str = "linux.resources.blockIO.weight";
const LEAF: &str = "linux.resources.blockIO.leafWeight";

pub(super) fn limits(block_io: &LinuxBlockIo, list: &mut List<'_>) -> Result<(), Refusal> {
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        weigh(WEIGHT, "", checked(WEIGHT, weight)?, list)?;
    }
    if let Some(weight) = block_io.leaf_weight().filter(|weight| *weight != 0) {
        list.legacy_only(LEAF)?;
        list.push("blkio", "blkio.leaf_weight", checked(LEAF, weight)?, LEAF)?;
    }
    for device in block_io.weight_device().as_deref().unwrap_or_default() {
        weigh_device(device, list)?;
    }
    let throttles = [
        (block_io.throttle_read_bps_device(), "read_bps", "rbps", "linux.resources.blockIO.throttleReadBpsDevice"),
        (block_io.throttle_write_bps_device(), "write_bps", "wbps", "linux.resources.blockIO.throttleWriteBpsDevice"),
        (block_io.throttle_read_iops_device(), "read_iops", "riops", "linux.resources.blockIO.throttleReadIOPSDevice"),
        (
            block_io.throttle_write_iops_device(),
            "write_iops",
            "wiops",
            "linux.resources.blockIO.throttleWriteIOPSDevice",
        ),
    ];
    for (devices, legacy, unified, field) in throttles {
        for device in devices.as_deref().unwrap_or_default() {
            throttle(device, legacy, unified, field, list)?;
        }
    }
    Ok(())
}

fn weigh_device(device: &LinuxWeightDevice, list: &mut List<'_>) -> Result<(), Refusal> {
    const WEIGHT: &str = "linux.resources.blockIO.weightDevice.weight";
    const LEAF: &str = "linux.resources.blockIO.weightDevice.leafWeight";
    let name = name(WEIGHT, device.major(), device.minor())?;
    if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
        weigh(WEIGHT, &name, checked(WEIGHT, weight)?, list)?;
    }
    if let Some(weight) = device.leaf_weight().filter(|weight| *weight != 0) {
        list.legacy_only(LEAF)?;
        list.push("blkio", "blkio.leaf_weight_device", format!("{name} {}", checked(LEAF, weight)?), LEAF)?;
    }
    Ok(())
}

/// Writes a weight, of one device when it has a name.
fn weigh(field: &'static str, device: &str, weight: u16, list: &mut List<'_>) -> Result<(), Refusal> {
    let spaced = |weight: u64| if device.is_empty() { weight.to_string() } else { format!("{device} {weight}") };
    let suffix = if device.is_empty() { "" } else { "_device" };
    if list.unified() {
        let instead = Absent::Instead { file: "io.weight".to_owned(), value: spaced(io_weight(weight)) };
        return list.push_or("io", "io.bfq.weight", spaced(weight.into()), field, refused_without("io", instead, list));
    }
    let instead = Absent::Instead { file: format!("blkio.weight{suffix}"), value: spaced(weight.into()) };
    let absent = refused_without("blkio", instead, list);
    list.push_or("blkio", format!("blkio.bfq.weight{suffix}"), spaced(weight.into()), field, absent)
}

/// Without the controller there is no other file either.
fn refused_without(controller: &str, instead: Absent, list: &List<'_>) -> Absent {
    if list.has(controller) { instead } else { Absent::Refuse }
}

/// `blkio` weights (10 to 1000) stretched onto `io.weight`'s scale (1 to 10000), linearly, as all runtimes do.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn throttle(
    device: &LinuxThrottleDevice,
    legacy: &str,
    unified: &str,
    field: &'static str,
    list: &mut List<'_>,
) -> Result<(), Refusal> {
    let (name, rate) = (name(field, device.major(), device.minor())?, device.rate());
    if list.unified() {
        // 0 lifts the limit on version 1; version 2 has a word for that.
        let rate = if rate == 0 { "max".to_owned() } else { rate.to_string() };
        return list.push("io", "io.max", format!("{name} {unified}={rate}"), field);
    }
    list.push("blkio", format!("blkio.throttle.{legacy}_device"), format!("{name} {rate}"), field)
}

fn checked(field: &str, weight: u16) -> Result<u16, Refusal> {
    if (10..=1000).contains(&weight) {
        return Ok(weight);
    }
    Err(Refusal::new(field, format!("{weight} is not between 10 and 1000")))
}

fn name(field: &str, major: i64, minor: i64) -> Result<String, Refusal> {
    if major < 0 || minor < 0 {
        return Err(Refusal::new(field, format!("{major}:{minor} is not a device")));
    }
    Ok(format!("{major}:{minor}"))
}
