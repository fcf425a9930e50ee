//! The scripts around CRIU: CRIU itself, a program of the host; and the mount points that it will look for.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use tare_init::script::{Fd, Numbers, Op, Strings, make};
use tare_plan::{Plan, Propagation, Reach, Tree};

use super::init::propagation;
use super::mounts::{AT_RECURSIVE, attach, attach_rootfs, enslave};
use super::{EVERY, affinity, enter_cgroup};
use crate::criu::session::{Home, Place};
use crate::prepare::Prepared;
use crate::script::{About, Script, numbers, strings};
use crate::spawn::GATE;

const NEWNS: u32 = libc::CLONE_NEWNS.cast_unsigned();

/// How CRIU is run.
#[derive(Debug)]
pub(crate) struct Criu<'a, 'fd> {
    pub(crate) program: &'a CStr,
    pub(crate) arguments: [&'a CStr; 3],
    pub(crate) environment: &'a [CString],
    pub(crate) null: &'fd OwnedFd,
    /// Descriptors that it has at the same numbers.
    pub(crate) kept: &'a [BorrowedFd<'fd>],
    pub(crate) place: &'a Place<'fd>,
}

/// The script of CRIU.
pub(crate) fn criu<'fd>(criu: &Criu<'_, 'fd>) -> Script<'fd> {
    let mut script = Script::new();
    script.what("prepare criu");
    script.push(Op::ResetSignals {});
    if let Place::Home(home) = criu.place {
        settle(&mut script, home);
    }
    script.what("prepare criu");
    script.push(Op::Session { terminal: Fd::NONE });
    let null = script.inherit(criu.null.as_fd());
    for number in 0..3 {
        script.push(Op::Dup { from: null, to: number });
    }
    script.push(Op::Chdir { path: c"/", later: 0 });
    script.push(Op::Umask { mask: u32::MAX });
    script.about(About::Finding("criu".into()));
    script.push(Op::Find { candidates: Strings(criu.program.to_bytes_with_nul()) });
    script.push(Op::Report { point: GATE });
    let kept: Vec<Fd> = criu.kept.iter().map(|fd| script.inherit(*fd)).collect();
    let keep: Vec<u32> = kept.iter().map(|fd| fd.0.cast_unsigned()).collect();
    script.push(Op::CloseFrom { first: 3, keep: Numbers(&numbers(&keep)) });
    for fd in kept {
        // Onto itself: it stays open in the program.
        script.push(Op::Dup { from: fd, to: fd.0 });
    }
    script.about(About::Executing("criu".into()));
    let arguments = strings(criu.arguments);
    let environment = strings(criu.environment.iter().map(|text| &**text));
    script.push(Op::Exec { arguments: Strings(&arguments), environment: Strings(&environment) });
    script
}

/// What is restored takes over what CRIU has: keyring and cgroup.
fn settle<'fd>(script: &mut Script<'fd>, home: &Home<'fd>) {
    if let Some(name) = home.keyring {
        script.what("make the container's session keyring");
        script.push(Op::Keyring { name, permissions: 0 });
    }
    enter_cgroup(script, home.entrance, 0);
    affinity(script, &EVERY);
}

/// Mounts everything once, in a mount namespace that ends with the stub, so that every mount point is there when CRIU
/// looks for it: below the rootfs, and below what is bound into it. New file systems are played by an empty tmpfs, since
/// CRIU brings their content.
pub(crate) fn mount_points<'fd>(plan: &Plan, prepared: &'fd Prepared) -> Script<'fd> {
    let mut script = Script::new();
    script.what("make a mount namespace for mount points");
    script.push(Op::ResetSignals {});
    script.push(Op::Unshare { kinds: NEWNS });
    enslave(&mut script);
    let rootfs = CString::new(plan.rootfs.path.as_os_str().as_bytes()).unwrap_or_default();
    let root = clone_named(&mut script, &rootfs, Reach::Tree);
    attach_rootfs(&mut script, plan, root);
    for (mount, source) in plan.mounts.iter().zip(&prepared.sources) {
        let path = mount.target.as_c_str();
        script.what(format!("make mount point {}", path.to_string_lossy()));
        let plain = if mount.plain_target { make::PLAIN } else { 0 };
        match (&mount.tree, source) {
            (Tree::Bind { source: name, reach }, Some(source)) => {
                let name = CString::new(name.as_os_str().as_bytes()).unwrap_or_default();
                let tree = clone_named(&mut script, &name, *reach);
                let private = propagation(Propagation::Private);
                script.push(Op::SetAttr { tree, recursive: 1, set: 0, clear: 0, propagation: private });
                attach(&mut script, tree, path, source.make | plain, root);
            }
            (Tree::New { .. }, _) => {
                let into = script.slot();
                let (kind, parameters, none) = (c"tmpfs", Strings(b""), Fd::NONE);
                let (source, like) = (kind, c"");
                script.push(Op::Filesystem { kind, source, parameters, attributes: 0, root: none, like, into });
                attach(&mut script, Fd::slot(into), path, make::DIRECTORY | plain, root);
            }
            _ => {}
        }
    }
    script.push(Op::Report { point: GATE });
    script
}

/// A clone of what the namespace, a copy of the host's, has at this path.
fn clone_named(script: &mut Script<'_>, path: &CStr, reach: Reach) -> Fd {
    let into = script.slot();
    let flags = if reach == Reach::Tree { AT_RECURSIVE } else { 0 };
    script.push(Op::CloneTree { dir: Fd::CWD, path, flags, into });
    Fd::slot(into)
}
