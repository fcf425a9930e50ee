//! Ops that talk to the parent over the control socket.

use super::{AtStep as _, Done, Failure, Interpreter, Script};
use crate::script::{Fd, IN_ONE_MESSAGE, Record, record};
use crate::sys::{self, Errno};

impl Interpreter<'_> {
    fn record(&self, kind: u32, value: i32) -> [u8; 16] {
        Record { kind, op: self.op, value, detail: 0 }.to_bytes()
    }

    /// Says "I am at this point" and waits.
    pub(super) fn sync(&self, point: u32) -> Done {
        sys::write_all(self.line, &self.record(record::SYNC, point.cast_signed()))?;
        self.wait(self.line)
    }

    /// Says "I am at this point" to whoever made the container, waits until it is on record, and then for whoever starts it:
    /// from the record on, it can be found when its maker has died. Only `read` and `write` are asked of the container's
    /// system call filter here.
    pub(super) fn gate(&mut self, point: u32, word: Fd, answer: Fd) -> Done {
        self.sync(point)?;
        self.line = self.fd(answer);
        self.wait(self.fd(word))
    }

    /// Says "I am past this point".
    pub(super) fn report(&self, point: u32) -> Done {
        Ok(sys::write_all(self.line, &self.record(record::REPORT, point.cast_signed()))?)
    }

    pub(super) fn send(&self, fd: Fd, tag: u32) -> Done {
        Ok(sys::send_fd(self.line, &self.record(record::DESCRIPTOR, tag.cast_signed()), self.fd(fd))?)
    }

    /// The child goes on when the parent has its pidfd: it could not be known by its number, which another pid namespace
    /// may have given it. This process, whose memory holds nothing but the script, leaves.
    pub(super) fn fork(&self, kinds: u32, cgroup: Fd) -> Done {
        let cgroup = if cgroup == Fd::NONE { None } else { Some(self.fd(cgroup)) };
        let (pid, pidfd) = sys::fork_beside(kinds, cgroup)?;
        if pid == 0 {
            return self.wait(self.line);
        }
        let told = sys::send_fd(self.line, &self.record(record::FORKED, pid), pidfd);
        sys::exit(i32::from(told.is_err()))
    }

    /// The script that the parent sends in answer, with what came with it.
    pub(super) fn next_script(&mut self, point: u32) -> Result<Script<'static>, Failure> {
        sys::write_all(self.line, &self.record(record::SYNC, point.cast_signed()))?;
        let mut some = [-1; IN_ONE_MESSAGE];
        let mut table: Option<&'static mut [usize]> = None;
        let mut filled = 0;
        loop {
            let Some((word, count)) = sys::receive_fds(self.line, &mut some).at(1)? else {
                // The parent closing its end is the order to leave.
                sys::exit(1)
            };
            let all = usize::try_from(u32::from_ne_bytes(word)).map_err(|_| Errno::EBADMSG)?;
            let table = match &mut table {
                Some(table) => table,
                none => none.insert(sys::map_table(all).at(2)?),
            };
            let places = table.get_mut(filled..filled + count).filter(|places| !places.is_empty());
            for (place, number) in places.ok_or(Errno::EBADMSG)?.iter_mut().zip(&some) {
                *place = usize::try_from(*number).map_err(|_| Errno::EBADMSG)?;
            }
            filled += count;
            if filled == table.len() {
                break;
            }
        }
        self.received = table.map(|table| &*table);
        let orders = self.fd(Fd(0));
        let bytes = sys::map_whole(orders).at(3)?;
        sys::close(orders)?;
        Script::read(bytes).ok_or(Errno::EBADMSG).at(4)
    }

    /// Waits for the word to go on. The parent closing its end is the order to leave.
    fn wait(&self, from: i32) -> Done {
        let mut word = [0; 16];
        if sys::read(from, &mut word)? == 0 {
            sys::exit(1);
        }
        Ok(())
    }
}

/// A record cannot be cut short: the socket keeps message boundaries.
const _: () = assert!(Errno::EPERM.0 == 1 && size_of::<Record>() == 16);
