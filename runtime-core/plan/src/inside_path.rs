//! Paths inside the container: how text becomes an [`InsidePath`]. Lexical only; symbolic links are the stub's concern,
//! which resolves every such path under a root descriptor.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::{InsidePath, Refusal};

/// `raw` as a path from the container's root: made absolute, and cleaned so that `..` never climbs above `/`.
pub(crate) fn inside(field: &str, raw: &Path) -> Result<InsidePath, Refusal> {
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in raw.as_os_str().as_bytes().split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    let mut path = vec![b'/'];
    path.extend(segments.join(&b'/'));
    Ok(InsidePath(c_string(field, path)?))
}

/// As [`inside`], of a path that has to be absolute already.
pub(crate) fn absolute_inside(field: &str, raw: &Path) -> Result<InsidePath, Refusal> {
    if !raw.is_absolute() {
        return Err(Refusal::new(field, format!("{} is not an absolute path", raw.display())));
    }
    inside(field, raw)
}

/// Text for the kernel. A NUL byte would silently cut it short, so it is refused.
pub(crate) fn c_string(field: &str, text: impl Into<Vec<u8>>) -> Result<CString, Refusal> {
    CString::new(text).map_err(|_| Refusal::new(field, "contains a NUL byte"))
}

/// A path of the host: relative ones are relative to `base`; cleaned lexically, as runc's `filepath.Join` does.
pub(crate) fn host_path(field: &str, base: &Path, raw: &Path) -> Result<PathBuf, Refusal> {
    if raw.as_os_str().is_empty() {
        return Err(Refusal::new(field, "is empty"));
    }
    let cleaned = inside(field, &base.join(raw))?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(cleaned.as_bytes())))
}

/// `path`, which is the host's, as it is called inside the root file system at `rootfs`, if it lies there. Lexical; a
/// container whose root is the host's has no inside to speak of.
pub(crate) fn below_root(rootfs: &Path, path: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(rootfs).ok().filter(|_| rootfs != Path::new("/"))?;
    Some(Path::new("/").join(rest))
}

impl InsidePath {
    /// The path's bytes, with the leading slash and without the terminating NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.to_bytes()
    }

    /// This path with one more segment.
    pub(crate) fn join(&self, field: &str, segment: &str) -> Result<Self, Refusal> {
        inside(field, &Path::new(std::ffi::OsStr::from_bytes(self.as_bytes())).join(segment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_root_has_a_name_inside() {
        let table = [
            ("/b/rootfs", "/b/rootfs/mnt/x", Some("/mnt/x")),
            ("/b/rootfs", "/b/rootfs", Some("/")),
            ("/b/rootfs", "/b/rootfs2/mnt", None),
            ("/b/rootfs", "/b", None),
            ("/", "/mnt", None),
        ];
        for (root, path, expected) in table {
            assert_eq!(below_root(Path::new(root), Path::new(path)).as_deref(), expected.map(Path::new), "{path}");
        }
    }

    #[test]
    fn a_path_is_made_absolute_and_clean() {
        let table = [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("/a/", "/a"),
            ("//a//b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../etc", "/etc"),
            ("a/../../..", "/"),
            ("/a/...", "/a/..."),
            ("/ a", "/ a"),
        ];
        for (raw, clean) in table {
            assert_eq!(inside("f", Path::new(raw)).unwrap().as_bytes(), clean.as_bytes(), "{raw}");
        }
    }

    /// Every path of up to six segments out of the difficult ones keeps the promises of the type.
    #[test]
    fn every_short_path_is_clean_and_cleaning_again_changes_nothing() {
        let words = ["", ".", "..", "a", "b.", "..."];
        for number in 0..words.len().pow(6) {
            let mut rest = number;
            let mut raw = String::new();
            for _ in 0..6 {
                raw.push_str(words[rest % words.len()]);
                raw.push('/');
                rest /= words.len();
            }
            let path = inside("f", Path::new(&raw)).unwrap();
            let text = String::from_utf8(path.as_bytes().to_vec()).unwrap();
            assert!(text.starts_with('/') && (text == "/" || !text.ends_with('/')), "{raw} -> {text}");
            assert!(text == "/" || text[1..].split('/').all(|s| !matches!(s, "" | "." | "..")), "{raw} -> {text}");
            assert_eq!(inside("f", Path::new(&text)).unwrap(), path);
        }
    }

    #[test]
    fn a_nul_byte_is_refused_by_the_name_of_the_field() {
        let refusal = inside("mounts[0].destination", Path::new("/a\0b")).unwrap_err();
        assert_eq!(refusal.to_string(), "mounts[0].destination: contains a NUL byte");
    }
}
