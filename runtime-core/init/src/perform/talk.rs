//! Ops that talk to the parent over the control socket.

use super::{Done, Interpreter};
use crate::script::{Fd, Record, record};
use crate::sys::{self, Errno};

impl Interpreter<'_> {
    fn record(&self, kind: u32, value: i32) -> [u8; 16] {
        Record { kind, op: self.op, value, detail: 0 }.to_bytes()
    }

    /// Says "I am at this point" and waits. The parent closing its end is the order to leave.
    pub(super) fn sync(&self, point: u32) -> Done {
        sys::write_all(self.line, &self.record(record::SYNC, point.cast_signed()))?;
        let mut word = [0; 16];
        if sys::read(self.line, &mut word)? == 0 {
            sys::exit(0);
        }
        Ok(())
    }

    /// Says "I am past this point".
    pub(super) fn report(&self, point: u32) -> Done {
        Ok(sys::write_all(self.line, &self.record(record::REPORT, point.cast_signed()))?)
    }

    pub(super) fn send(&self, fd: Fd, tag: u32) -> Done {
        Ok(sys::send_fd(self.line, &self.record(record::DESCRIPTOR, tag.cast_signed()), self.fd(fd))?)
    }

    /// The child goes on; this process says which it is, in its own pid namespace, and leaves.
    pub(super) fn fork(&self, kinds: u32) -> Done {
        let pid = sys::fork_beside(kinds)?;
        if pid == 0 {
            return Ok(());
        }
        let told = sys::write_all(self.line, &self.record(record::FORKED, pid));
        sys::exit(i32::from(told.is_err()))
    }
}

/// A record cannot be cut short: the socket keeps message boundaries.
const _: () = assert!(Errno::EPERM.0 == 1 && size_of::<Record>() == 16);
