//! `linux.resources.unified`: files and values for version 2, in the kernel's own words.

use std::collections::HashMap;

use super::list::List;
use crate::Refusal;

/// Files that rule who is in the cgroup and whether they live, rather than what they may use: the runtime's business.
const RESERVED: [&str; 6] =
    ["cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type", "cgroup.subtree_control"];

/// Sorted by name, since equal inputs give equal plans. A value of several lines is one write for each: that is how the
/// kernel takes a table.
pub(super) fn limits(unified: Option<&HashMap<String, String>>, list: &mut List<'_>) -> Result<(), Refusal> {
    let mut files: Vec<_> = unified.into_iter().flatten().collect();
    files.sort();
    for (file, value) in files {
        let field = format!("linux.resources.unified[{file}]");
        if !list.unified() {
            return Err(Refusal::new(
                field,
                "invalid configuration: needs cgroup v2 alone, and this host uses version 1",
            ));
        }
        // SECURITY: the key becomes a file name below the container's directory, and must stay one.
        let plain = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !plain || !file.contains('.') || file.starts_with('.') {
            return Err(Refusal::new(field, "is not the name of a control file"));
        }
        if RESERVED.contains(&file.as_str()) {
            return Err(Refusal::new(field, "is ruled by the runtime"));
        }
        for line in value.lines().filter(|line| !line.is_empty()) {
            list.push_unchecked(file.clone(), line.to_owned(), field.clone());
        }
    }
    Ok(())
}
