//! Reading a bundle's `config.json`. Its meaning is `tare_plan`'s business.

use std::io::Read as _;
use std::path::Path;

use crate::{Error, Kind, oci};

/// The file's name in a bundle, and in the state folder of a container.
const NAME: &str = "config.json";
/// More than any specification; less than would hurt.
const LIMIT: u64 = 16 << 20;

/// The specification in `bundle`.
///
/// # Errors
/// [`Kind::NotFound`] when there is none, [`Kind::Invalid`] when it is not one.
pub fn read_spec(bundle: &Path) -> Result<oci::Spec, Error> {
    read_spec_file(&bundle.join(NAME))
}

/// The specification in this file.
///
/// # Errors
/// As [`read_spec`].
pub fn read_spec_file(path: &Path) -> Result<oci::Spec, Error> {
    let invalid = |why: String| Error::new(Kind::Invalid, format!("{}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(Kind::NotFound, format!("{} not found", path.display())),
        _ => Error::io(format!("open {}", path.display()), &error),
    })?;
    let length = file.metadata().map_or(0, |metadata| metadata.len()).min(LIMIT);
    let mut text = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
    let read = file.take(LIMIT + 1).read_to_end(&mut text);
    read.map_err(|error| Error::io(format!("read {}", path.display()), &error))?;
    if text.len() as u64 > LIMIT {
        return Err(invalid(format!("longer than {LIMIT} bytes")));
    }
    serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))
}

/// Keeps the specification in a state folder: the bundle may change, the container does not.
pub(crate) fn keep_spec(spec: &oci::Spec, state: &Path) -> Result<(), Error> {
    let path = state.join(NAME);
    let text = serde_json::to_vec(spec).map_err(|error| Error::new(Kind::System, error.to_string()))?;
    std::fs::write(&path, text).map_err(|error| Error::io(format!("write {}", path.display()), &error))
}

/// Takes the kept specification away; there may be none.
pub(crate) fn forget_spec(state: &Path) -> Result<(), Error> {
    let path = state.join(NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}
