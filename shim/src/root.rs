//! `Options.Root`: where operators look for runtime state, `<root>/<namespace>/<id>`. A container's state lies in its
//! bundle; this is a link to it, and its removal, also by a process that knows only the bundle.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use runtime_core::{Error, Kind};

/// The file in the bundle that names the link.
const NOTE: &str = "root";

/// Links `<root>/<namespace>/<id>` to the bundle. Without a root there is nothing to do.
///
/// # Errors
/// [`Kind::Invalid`] for a root that is not absolute; [`Kind::System`] when the link cannot be made.
pub(crate) fn link(root: &Path, namespace: &str, id: &str, bundle: &Path) -> Result<(), Error> {
    if root.as_os_str().is_empty() {
        return Ok(());
    }
    if !root.is_absolute() {
        return Err(Error::new(Kind::Invalid, format!("Root {root:?}: must be absolute")));
    }
    let folder = root.join(namespace);
    let link = folder.join(id);
    // As runc's root: nobody else may look, and a mapped root may pass. The note is there before the link, so that a crash
    // in between leaves nothing that nobody would find.
    let made = DirBuilder::new().recursive(true).mode(0o711).create(&folder);
    let noted = made.and_then(|()| std::fs::write(bundle.join(NOTE), path_text(&link)?));
    noted.and_then(|()| symlink(bundle, &link)).map_err(|error| {
        drop(std::fs::remove_file(bundle.join(NOTE)));
        Error::new(Kind::System, format!("link {} to the bundle: {error}", link.display()))
    })
}

/// Takes the bundle's link away, if it has one.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn unlink(bundle: &Path) -> Result<(), Error> {
    let note = bundle.join(NOTE);
    let Ok(text) = std::fs::read_to_string(&note) else { return Ok(()) };
    let link = PathBuf::from(text);
    // Somebody may have put something of their own there since.
    let ours = std::fs::read_link(&link).is_ok_and(|target| target == bundle);
    for path in [Some(&note), ours.then_some(&link)].into_iter().flatten() {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::new(Kind::System, format!("remove {}: {error}", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

fn path_text(path: &Path) -> std::io::Result<&str> {
    path.to_str().ok_or_else(|| std::io::Error::new(ErrorKind::InvalidInput, "not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_links_to_the_bundle_until_it_is_taken_away() {
        let home = std::env::temp_dir().join(format!("tare-root-{}", std::process::id()));
        let (bundle, root) = (home.join("bundle"), home.join("root"));
        std::fs::create_dir_all(&bundle).unwrap();
        link(&root, "default", "one", &bundle).unwrap();
        assert_eq!(std::fs::read_link(root.join("default/one")).unwrap(), bundle);
        unlink(&bundle).unwrap();
        unlink(&bundle).unwrap();
        assert_eq!(std::fs::read_dir(root.join("default")).unwrap().count(), 0);
        assert!(link(Path::new("relative"), "default", "one", &bundle).is_err());
        std::fs::remove_dir_all(home).unwrap();
    }
}
