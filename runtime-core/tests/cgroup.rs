//! A cgroup's life on the real kernel, as root: in whatever hierarchies this host mounts, and once more with the
//! version 2 hierarchy alone where there is one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use runtime_core::cgroup::{Cgroup, layout};
use tare_plan::CgroupLayout;

/// A cgroup of this test's own, whose directories are gone when the test is.
struct Scratch {
    cgroup: Cgroup,
    directories: Vec<PathBuf>,
}

impl Scratch {
    fn new(layout: &CgroupLayout) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tare-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let cgroup = Cgroup::plan(layout, &Path::new("/").join(&name)).unwrap();
        let mut mounts: Vec<PathBuf> = match layout {
            CgroupLayout::Unified { mountpoint, .. } => vec![mountpoint.clone()],
            CgroupLayout::Legacy { hierarchies, unified } => {
                hierarchies.iter().map(|one| one.mountpoint.clone()).chain(unified.clone()).collect()
            }
        };
        mounts.iter_mut().for_each(|mount| mount.push(&name));
        Self { cgroup, directories: mounts }
    }

    fn present(&self) -> usize {
        self.directories.iter().filter(|directory| directory.exists()).count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.cgroup.kill();
        let _ = self.cgroup.remove();
        assert_eq!(self.present(), 0, "left behind: {:?}", self.directories);
    }
}

/// This host's layout, and version 2 alone where a cgroup2 hierarchy is mounted at all.
fn layouts() -> Vec<CgroupLayout> {
    let host = layout().unwrap();
    let alone = match &host {
        CgroupLayout::Legacy { unified: Some(mountpoint), .. } => {
            Some(CgroupLayout::Unified { mountpoint: mountpoint.clone(), controllers: Vec::new() })
        }
        _ => None,
    };
    [Some(host), alone].into_iter().flatten().collect()
}

#[test]
fn what_is_created_is_removed_and_removing_again_is_no_error() {
    for layout in layouts() {
        let scratch = Scratch::new(&layout);
        scratch.cgroup.create().unwrap();
        assert_eq!(scratch.present(), scratch.directories.len());
        scratch.cgroup.remove().unwrap();
        assert_eq!(scratch.present(), 0);
        scratch.cgroup.remove().unwrap();
    }
}
