//! The folder of the containers' state: `<root>/<id>` for each. What is inside is the core's; the name is ours.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use runtime_core::Container;

use crate::failure::Failure;

/// The root, and who chose it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) root: PathBuf,
    pub(crate) privacy: Privacy,
}

/// How the root is made when it does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    /// It was asked for by name.
    Given,
    /// The host's own; nothing there means no containers.
    Default,
    /// In `$XDG_RUNTIME_DIR`: sticky, so that what tidies that folder leaves it alone (basedir-spec).
    Session,
}

/// A state folder that has been made for a container which does not exist yet. Dropped, it goes away again.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) folder: PathBuf,
    kept: Kept,
}

#[derive(Debug, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

impl Claim {
    /// The container exists; its folder stays.
    pub(crate) fn keep(mut self) {
        self.kept = Kept::Yes;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While the core's record is there, something could not be undone: then the folder is what delete needs.
        if self.kept == Kept::No && !matches!(Container::open(&self.folder), Ok(Some(_)) | Err(_)) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

impl Store {
    /// The state folder of a container, whether it exists or not.
    pub(crate) fn folder(&self, id: &str) -> Result<PathBuf, Failure> {
        check_id(id)?;
        Ok(self.root.join(id))
    }

    /// An existing container.
    pub(crate) fn open(&self, id: &str) -> Result<Container, Failure> {
        self.find(id)?.ok_or_else(|| Failure::new("container does not exist"))
    }

    /// A container, if it exists.
    pub(crate) fn find(&self, id: &str) -> Result<Option<Container>, Failure> {
        Ok(Container::open(&self.folder(id)?)?)
    }

    /// Takes an id, for one container alone.
    pub(crate) fn claim(&self, id: &str) -> Result<Claim, Failure> {
        let folder = self.folder(id)?;
        let make = || DirBuilder::new().mode(0o711).create(&folder);
        let made = make().or_else(|error| match error.kind() {
            ErrorKind::NotFound => self.make_root().and_then(|()| make()),
            _ => Err(error),
        });
        made.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Failure::new("container with given ID already exists"),
            _ => Failure::io(format!("mkdir {}", folder.display()), error),
        })?;
        Ok(Claim { folder, kept: Kept::No })
    }

    fn make_root(&self) -> std::io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
        match self.privacy {
            Privacy::Session => std::fs::set_permissions(&self.root, PermissionsExt::from_mode(0o1700)),
            Privacy::Given | Privacy::Default => Ok(()),
        }
    }

    /// Everything that has the form of a container, in order.
    pub(crate) fn ids(&self) -> Result<Vec<String>, Failure> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.privacy != Privacy::Given => return Ok(vec![]),
            other => other.map_err(|error| Failure::io(format!("open {}", self.root.display()), error))?,
        };
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut ids: Vec<_> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.retain(|id| check_id(id).is_ok());
        ids.sort_unstable();
        Ok(ids)
    }

    /// The ids that a regular expression matches somewhere.
    pub(crate) fn matching(&self, pattern: &str) -> Result<Vec<String>, Failure> {
        let pattern = regex_lite::Regex::new(pattern);
        let pattern = pattern.map_err(|error| Failure::new(format!("invalid regular expression: {error}")))?;
        let mut ids = self.ids()?;
        ids.retain(|id| pattern.is_match(id));
        Ok(ids)
    }
}

/// A state folder goes, with whatever is in it.
pub(crate) fn forget(folder: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::io(format!("remove {}", folder.display()), error))
        }
        _ => Ok(()),
    }
}

fn check_id(id: &str) -> Result<(), Failure> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    match id {
        "" => Err(Failure::new("container id cannot be empty")),
        "." | ".." => Err(Failure::new("invalid container ID format")),
        // The longest name of a folder; Linux says it less clearly.
        id if id.len() > 255 || !id.bytes().all(is_allowed) => Err(Failure::new("invalid container ID format")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_folders() {
        for (id, fits) in [
            ("test", true),
            ("a_b+c-1.2", true),
            (".hidden", true),
            ("-dash", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("../x", false),
            ("a b", false),
            ("käse", false),
            ("a\n", false),
        ] {
            assert_eq!(check_id(id).is_ok(), fits, "{id:?}");
        }
        assert!(check_id(&"x".repeat(256)).is_err());
    }

    #[test]
    fn an_id_is_claimed_once_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { root: folder.path().join("a/b"), privacy: Privacy::Given };
        let claim = store.claim("x").unwrap();
        assert_eq!(store.claim("x").unwrap_err().to_string(), "container with given ID already exists");
        assert_eq!(std::fs::metadata(&claim.folder).unwrap().permissions().mode() & 0o7777, 0o711);
        drop(claim);
        assert_eq!(store.ids().unwrap(), Vec::<String>::new());
        store.claim("x").unwrap().keep();
        assert_eq!(store.ids().unwrap(), ["x"]);
        forget(&store.root.join("x")).unwrap();
        forget(&store.root.join("x")).unwrap();
    }

    #[test]
    fn a_root_that_is_not_there_holds_nothing_unless_it_was_named() {
        for (privacy, empty) in [(Privacy::Default, true), (Privacy::Session, true), (Privacy::Given, false)] {
            assert_eq!(Store { root: "/nonexistent/root".into(), privacy }.ids().is_ok(), empty);
        }
    }
}
