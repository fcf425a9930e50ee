//! Limits that count things: processes, huge pages, RDMA handles.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxPids, LinuxRdma};

use super::Absent;
use super::list::List;
use super::memory::maximum;
use crate::Refusal;

/// -1 is no limit. A limit of 0 is written as 1, as runc does: the process that is in the cgroup counts, neither lets it
/// fork, and with 0 it could not be born inside a version 2 cgroup.
pub(super) fn pids(pids: LinuxPids, list: &mut List<'_>) -> Result<(), Refusal> {
    let limit = match pids.limit() {
        0 => 1,
        limit => limit,
    };
    list.push("pids", "pids.max", maximum(limit), "linux.resources.pids.limit")
}

/// The specification wants the reservation limited too where the kernel can: a page that is reserved and never touched
/// would otherwise kill its owner on first use.
pub(super) fn hugepages(limits: &[LinuxHugepageLimit], list: &mut List<'_>) -> Result<(), Refusal> {
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("linux.resources.hugepageLimits[{index}]");
        let size = limit.page_size();
        if !is_page_size(size) {
            return Err(Refusal::new(field, format!("{size:?} is not a page size such as 2MB")));
        }
        let (suffix, amount) = if list.unified() {
            ("max", maximum(limit.limit()))
        } else {
            ("limit_in_bytes", limit.limit().max(-1).to_string())
        };
        list.push("hugetlb", format!("hugetlb.{size}.{suffix}"), &amount, field.clone())?;
        list.push_or("hugetlb", format!("hugetlb.{size}.rsvd.{suffix}"), &amount, field, Absent::PassOver)?;
    }
    Ok(())
}

/// `64KB`, `2MB`, `1GB`: nothing that could name another file.
fn is_page_size(size: &str) -> bool {
    let number = ["KB", "MB", "GB"].into_iter().find_map(|unit| size.strip_suffix(unit));
    number.is_some_and(|digits| {
        digits.starts_with(|c| matches!(c, '1'..='9')) && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Both versions have the same file. Sorted, since equal inputs give equal plans.
pub(super) fn rdma(rdma: &HashMap<String, LinuxRdma>, list: &mut List<'_>) -> Result<(), Refusal> {
    let mut devices: Vec<_> = rdma.iter().collect();
    devices.sort_by_key(|(name, _)| *name);
    for (name, limit) in devices {
        let field = format!("linux.resources.rdma[{name}]");
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Refusal::new(field, "is not a device name"));
        }
        let handles = limit.hca_handles().map(|count| format!(" hca_handle={count}")).unwrap_or_default();
        let objects = limit.hca_objects().map(|count| format!(" hca_object={count}")).unwrap_or_default();
        if !handles.is_empty() || !objects.is_empty() {
            list.push("rdma", "rdma.max", format!("{name}{handles}{objects}"), field)?;
        }
    }
    Ok(())
}
