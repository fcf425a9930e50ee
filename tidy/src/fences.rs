//! Where `unsafe`, raw descriptors and paths into a rootfs may be. The compiler denies `unsafe_code`; the law here is
//! that only a fence may allow it again.

use crate::{Breach, Source};

/// The folders and files that hold system calls.
const FENCES: [&str; 4] = ["runtime-core/src/sys", "runtime-core/init/src/sys", "shim/src/sys", "cli/src/sys"];

fn is_fenced(path: &str) -> bool {
    FENCES.iter().any(|fence| path.strip_prefix(fence).is_some_and(|rest| rest.starts_with('/') || rest == ".rs"))
}

/// `unsafe` stands inside a fence.
#[must_use]
pub fn unsafe_code(source: &Source) -> Vec<Breach> {
    if is_fenced(&source.path) {
        return Vec::new();
    }
    let what = "`unsafe` outside the fences; give the system call a safe function in `sys`";
    source.find_word("unsafe").into_iter().map(|offset| source.breach(offset, what)).collect()
}

/// Each unsafe block has its `SAFETY:` comment right above.
#[must_use]
pub fn safety(source: &Source) -> Vec<Breach> {
    let is_block = |offset: &usize| {
        let after = source.code.get(offset + "unsafe".len()..).unwrap_or_default().trim_start();
        after.starts_with('{') || after.starts_with("impl")
    };
    let bare = source.find_word("unsafe").into_iter().filter(is_block).filter(|offset| !has_reason(source, *offset));
    bare.map(|offset| source.breach(offset, "say above, after `// SAFETY:`, why each condition holds")).collect()
}

/// The comment may stand above the statement that holds the block, not above an earlier one.
fn has_reason(source: &Source, offset: usize) -> bool {
    let number = source.code.get(..offset).unwrap_or_default().lines().count();
    let is_open = source.code.get(..offset).is_some_and(|before| before.ends_with('\n'));
    let above = if is_open { number } else { number.saturating_sub(1) };
    let code: Vec<_> = source.code.lines().take(above).collect();
    let comments: Vec<_> = source.comments.lines().take(above).collect();
    let lines = code.iter().zip(&comments).rev().map(|(code, comment)| (code.trim(), comment.trim()));
    for (code, comment) in lines {
        if comment.contains("SAFETY:") {
            return true;
        }
        if code.ends_with([';', '{', '}', ',']) || (code.is_empty() && comment.is_empty()) {
            return false;
        }
    }
    false
}

/// Descriptors are owned or borrowed. To read the number of one that lives (`AsRawFd`, for a script or a name in procfs)
/// harms nobody; to make a descriptor of a number, or to keep one as a number, is for the fences.
#[must_use]
pub fn raw_descriptors(source: &Source) -> Vec<Breach> {
    if is_fenced(&source.path) || source.is_test() || source.path.starts_with("integration/") {
        return Vec::new();
    }
    let words = ["RawFd", "FromRawFd", "IntoRawFd"].into_iter().flat_map(|word| source.find_word(word));
    let product = source.product().len();
    let what = "a raw descriptor outside the fences; use `OwnedFd` and `BorrowedFd`";
    words.filter(|offset| *offset < product).map(|offset| source.breach(offset, what)).collect()
}

/// Nobody joins the rootfs with a path: paths inside are resolved by the stub, under a root descriptor.
#[must_use]
pub fn joined_rootfs(source: &Source) -> Vec<Breach> {
    if source.is_test() || source.path.starts_with("integration/") {
        return Vec::new();
    }
    let joins = source.product().match_indices(".join(").filter(|(offset, _)| {
        let before = source.code.get(..*offset).unwrap_or_default();
        let chain = before.rsplit(|c: char| !(c.is_ascii_alphanumeric() || "_.()".contains(c))).next();
        chain.is_some_and(|chain| chain.contains("rootfs"))
    });
    let what = "a path below the rootfs is resolved under a root descriptor, never joined";
    joins.map(|(offset, _)| source.breach(offset, what)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(law: fn(&Source) -> Vec<Breach>, path: &str, text: &str, lines: &[usize]) {
        let found: Vec<_> = law(&Source::new(path, text)).iter().map(|breach| breach.line).collect();
        assert_eq!(found, lines, "{text}");
    }

    #[test]
    fn unsafe_outside_a_fence_is_found() {
        check(unsafe_code, "runtime-core/src/spawn.rs", "fn f() {\n    unsafe { g() }\n}", &[2]);
        check(unsafe_code, "runtime-core/src/system.rs", "unsafe fn f() {}", &[1]);
        check(unsafe_code, "runtime-core/src/sys/clone.rs", "unsafe fn f() {}", &[]);
        check(unsafe_code, "shim/src/sys.rs", "unsafe fn f() {}", &[]);
        check(unsafe_code, "cli/src/main.rs", "#![deny(unsafe_code)] // unsafe", &[]);
    }

    #[test]
    fn an_unsafe_block_without_its_reason_is_found() {
        let path = "shim/src/sys.rs";
        check(safety, path, "fn f() {\n    unsafe { g() }\n}", &[2]);
        check(safety, path, "// SAFETY: g is fine.\nlet a = 1;\nlet b = unsafe { g() };", &[3]);
        check(safety, path, "// SAFETY: g is fine,\n// always.\nlet b =\n    unsafe { g() };", &[]);
        check(safety, path, "fn f() {\n    // SAFETY: fine.\n    unsafe { g() }\n}", &[]);
        check(safety, path, "unsafe fn f() {}", &[]);
    }

    #[test]
    fn a_raw_descriptor_outside_a_fence_is_found() {
        check(raw_descriptors, "shim/src/stdio.rs", "use std::os::fd::FromRawFd;", &[1]);
        check(
            raw_descriptors,
            "shim/src/stdio.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests { use std::os::fd::RawFd; }",
            &[],
        );
        check(raw_descriptors, "shim/src/stdio.rs", "let number = fd.as_raw_fd();", &[]);
        check(raw_descriptors, "runtime-core/init/src/sys/x86_64.rs", "fn f(fd: RawFd) {}", &[]);
    }

    #[test]
    fn a_path_joined_to_the_rootfs_is_found() {
        check(joined_rootfs, "shim/src/task.rs", "let a = bundle.rootfs().join(path);", &[1]);
        check(joined_rootfs, "shim/src/task.rs", "let a = rootfs.path.join(path);", &[1]);
        check(joined_rootfs, "shim/src/task.rs", "let rootfs = bundle.join(\"rootfs\");", &[]);
    }
}
