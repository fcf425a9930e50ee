//! The last two ops: finding the program, as the user the process has become, and executing it.

use core::ffi::CStr;

use super::{Done, Interpreter};
use crate::script::Strings;
use crate::sys::{self, Answer, Errno, flag};

impl<'a> Interpreter<'a> {
    /// Takes the first candidate that is an executable file. The error is that of the last one, as a `$PATH` search
    /// has no other.
    pub(super) fn find(&mut self, candidates: Strings<'a>) -> Done {
        let mut last = Errno::ENOENT;
        for candidate in candidates.iter() {
            match executable(candidate) {
                Ok(()) => {
                    self.program = Some(candidate);
                    return Ok(());
                }
                Err(errno) => last = errno,
            }
        }
        Err(last.into())
    }

    /// Becomes the program. Returns only to say why not.
    pub(super) fn exec(&self, arguments: Strings<'a>, environment: Strings<'a>) -> Done {
        let program = self.program.ok_or(Errno::EBADMSG)?;
        Err(sys::execve(program, table(arguments)?, table(environment)?).into())
    }
}

/// A file, and this user may execute it.
fn executable(path: &CStr) -> Answer<()> {
    if sys::fstatat(-100, path, 0)?.mode & flag::S_IFMT == flag::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    sys::may_execute(path)
}

/// Pointers to the strings, and a null.
fn table(strings: Strings<'_>) -> Answer<&'static [usize]> {
    let table = sys::map_table(strings.iter().count() + 1)?;
    for (pointer, string) in table.iter_mut().zip(strings.iter()) {
        *pointer = string.as_ptr().expose_provenance();
    }
    Ok(table)
}
