//! The script of an OCI hook: a plain program with its own environment, on the host or inside the container.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use tare_init::script::{Fd, Numbers, Op, Strings};
use tare_plan::Hook;

use super::init::NEWUSER;
use crate::script::{About, Script, strings};
use crate::spawn::GATE;

/// The script of a hook that reads the container's state from `streams[0]`. With `inside`, it joins that process's
/// namespaces of these kinds first. It has the hook's environment and nothing of the image's (CVE-2025-23266).
pub(crate) fn hook<'fd>(
    hook: &Hook,
    streams: [&'fd OwnedFd; 3],
    cwd: &std::ffi::CStr,
    inside: Option<(BorrowedFd<'fd>, u32)>,
) -> Script<'fd> {
    let mut script = Script::new();
    let name = hook.path.to_string_lossy().into_owned();
    script.what(format!("prepare hook {name}"));
    script.push(Op::ResetSignals {});
    if let Some((process, kinds)) = inside {
        let fd = script.inherit(process);
        script.push(Op::SetNs { fd, kinds });
        script.push(Op::Fork { kinds: 0, cgroup: Fd::NONE });
        if kinds & NEWUSER != 0 {
            // An id that is not mapped would lose all capabilities on execve.
            script.push(Op::Ids { uid: 0, gid: 0 });
        }
    }
    script.push(Op::Session { terminal: Fd::NONE });
    for (number, stream) in (0..).zip(streams) {
        let from = script.inherit(stream.as_fd());
        script.push(Op::Dup { from, to: number });
    }
    script.push(Op::Chdir { path: cwd, later: 0 });
    script.push(Op::Umask { mask: u32::MAX });
    script.about(About::Finding(name.clone()));
    script.push(Op::Find { candidates: Strings(hook.path.as_bytes_with_nul()) });
    script.push(Op::Report { point: GATE });
    script.push(Op::CloseFrom { first: 3, keep: Numbers(&[]) });
    script.about(About::Executing(name));
    let arguments = strings(hook.args.iter().map(|text| &**text));
    let environment = strings(hook.env.iter().flatten().map(|text| &**text));
    script.push(Op::Exec { arguments: Strings(&arguments), environment: Strings(&environment) });
    script
}
