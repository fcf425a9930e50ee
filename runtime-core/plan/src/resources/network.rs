//! `linux.resources.network`: the packet class and priorities of version 1.

use oci_spec::runtime::LinuxNetwork;

use super::list::List;
use crate::Refusal;

pub(super) fn limits(network: &LinuxNetwork, list: &mut List<'_>) -> Result<(), Refusal> {
    const CLASS: &str = "linux.resources.network.classID";
    const PRIORITIES: &str = "linux.resources.network.priorities";
    if let Some(class) = network.class_id().filter(|class| *class != 0) {
        list.legacy_only(CLASS)?;
        list.push("net_cls", "net_cls.classid", class, CLASS)?;
    }
    for priority in network.priorities().as_deref().unwrap_or_default() {
        list.legacy_only(PRIORITIES)?;
        let name = priority.name();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Refusal::new(PRIORITIES, format!("{name:?} is not a network interface")));
        }
        list.push("net_prio", "net_prio.ifpriomap", format!("{name} {}", priority.priority()), PRIORITIES)?;
    }
    Ok(())
}
