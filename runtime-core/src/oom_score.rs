//! `oomScoreAdj` for those who may not lower it. Lowering asks for CAP_SYS_RESOURCE in the host's user namespace; a user
//! without privileges gets what he has already, as with runc, since every engine writes a score into its specifications.

use tare_plan::{Host, Process};

/// The process with a score that this user may give it. Root is refused by the kernel, and told.
pub(crate) fn bearable(process: Process, host: &Host) -> Process {
    let oom_score_adj = match (process.oom_score_adj, own()) {
        (Some(wanted), Some(own)) if host.euid != 0 || host.in_user_namespace => Some(wanted.max(own)),
        (wanted, _) => wanted,
    };
    Process { oom_score_adj, ..process }
}

fn own() -> Option<i32> {
    std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Host, bearable, own};

    #[test]
    fn only_who_is_not_root_gets_the_score_he_has() {
        let own = own().unwrap();
        let text = format!(r#"{{"cwd":"/","args":["x"],"user":{{"uid":0,"gid":0}},"oomScoreAdj":{}}}"#, own - 1);
        let root = crate::host::host().unwrap().clone();
        let process = crate::read_process(text.as_bytes()).unwrap();
        let process = tare_plan::process(&process, "process", tare_plan::Groups::Set, &root).unwrap();
        let score = |host: &Host| bearable(process.clone(), host).oom_score_adj;
        assert_eq!(score(&Host { euid: 0, in_user_namespace: false, ..root.clone() }), Some(own - 1));
        assert_eq!(score(&Host { euid: 1000, ..root.clone() }), Some(own));
        assert_eq!(score(&Host { euid: 0, in_user_namespace: true, ..root }), Some(own));
    }
}
