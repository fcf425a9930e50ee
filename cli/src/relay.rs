//! The caller's terminal and a container's: bytes both ways, the window's size, and raw mode for as long as it lasts.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use runtime_core::oci;

use crate::failure::Failure;

/// A process whose specification has no size for its terminal begins with the caller's: its program may ask at once.
pub(crate) fn fit(process: &mut oci::Process) -> Result<(), Failure> {
    if !process.terminal().unwrap_or(false) || process.console_size().is_some() {
        return Ok(());
    }
    let Ok(size) = tcgetwinsize(&Host::find()?.terminal) else { return Ok(()) };
    let fitted = oci::BoxBuilder::default().height(size.ws_row).width(size.ws_col).build();
    let fitted = fitted.map_err(|error| Failure::new(format!("the size of the terminal: {error}")))?;
    process.set_console_size((size.ws_row > 0).then_some(fitted));
    Ok(())
}

/// The caller's terminal, raw until this is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    terminal: OwnedFd,
    before: Termios,
}

impl Host {
    /// Any of the standard streams may be the terminal; if none is, the controlling one.
    pub(crate) fn find() -> Result<Self, Failure> {
        let streams = [rustix::stdio::stderr(), stdout(), stdin()];
        let terminal = match streams.into_iter().find(|stream| isatty(stream)) {
            Some(stream) => stream.try_clone_to_owned().map_err(|error| Failure::io("unable to get console", error))?,
            None => rustix::fs::open("/dev/tty", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| Failure::io("open /dev/tty", errno))?,
        };
        let before = tcgetattr(&terminal).map_err(|errno| Failure::io("read the terminal's mode", errno))?;
        Ok(Self { terminal, before })
    }

    /// Every key is the container's from now on.
    pub(crate) fn make_raw(&self) -> Result<(), Failure> {
        let mut raw = self.before.clone();
        raw.make_raw();
        // The container's terminal leaves line ends alone (see `Relay::new`); they are made here, as with runc.
        raw.output_modes |= OutputModes::OPOST;
        tcsetattr(&self.terminal, OptionalActions::Now, &raw).map_err(|errno| Failure::io("set raw mode", errno))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Bytes on their way.
#[derive(Debug)]
struct Buffer {
    bytes: [u8; 4096],
    filled: Range<usize>,
}

impl Buffer {
    const EMPTY: Self = Self { bytes: [0; 4096], filled: 0..0 };

    fn waiting(&self) -> &[u8] {
        self.bytes.get(self.filled.clone()).unwrap_or_default()
    }

    /// Whether there is more to come from `from`.
    fn fill(&mut self, from: BorrowedFd<'_>) -> bool {
        match rustix::io::read(from, &mut self.bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.filled = 0..count;
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            // EIO of a master: nobody holds the other side any more.
            Err(_) => false,
        }
    }

    /// Whether `to` takes more.
    fn drain(&mut self, to: BorrowedFd<'_>) -> bool {
        match rustix::io::write(to, self.waiting()) {
            Ok(count) => {
                self.filled.start += count;
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => {
                self.filled = 0..0;
                false
            }
        }
    }

    /// Everything to `to`, which takes it in its own time, whether it blocks or not.
    fn pour(&mut self, to: BorrowedFd<'_>) {
        while !self.waiting().is_empty() && self.drain(to) {
            if !self.waiting().is_empty() {
                // Should it fail, writing will, too.
                let _ = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
            }
        }
    }
}

/// Whether a direction may bring more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    Ended,
}

/// Both directions between the caller and the master of a container's terminal.
#[derive(Debug)]
pub(crate) struct Relay {
    host: Host,
    master: OwnedFd,
    inwards: Buffer,
    outwards: Buffer,
    input: Flow,
    output: Flow,
}

impl Relay {
    /// Begins with the caller's terminal raw and the container's as large.
    pub(crate) fn new(host: Host, master: OwnedFd) -> Result<Self, Failure> {
        let problem = |errno| Failure::io("set up the container's terminal", errno);
        let flags = fcntl_getfl(&master).map_err(problem)?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(problem)?;
        let mut mode = tcgetattr(&master).map_err(problem)?;
        mode.output_modes -= OutputModes::ONLCR;
        tcsetattr(&master, OptionalActions::Now, &mode).map_err(problem)?;
        host.make_raw()?;
        let (inwards, outwards) = (Buffer::EMPTY, Buffer::EMPTY);
        let relay = Self { host, master, inwards, outwards, input: Flow::Open, output: Flow::Open };
        relay.resize();
        Ok(relay)
    }

    /// Passes the size of the window on.
    pub(crate) fn resize(&self) {
        // A terminal without a size, such as a serial line, has 0 by 0: then the container's keeps its own.
        match tcgetwinsize(&self.host.terminal) {
            Ok(size) if size.ws_row > 0 => drop(tcsetwinsize(&self.master, size)),
            _ => {}
        }
    }

    /// What to wait for: the caller's input, the master, the caller's output. A side that has nothing to do is not asked
    /// at all (`idle` is), since poll reports a hang-up whether it was asked for or not.
    pub(crate) fn watched<'a>(&'a self, idle: BorrowedFd<'a>) -> [PollFd<'a>; 3] {
        let when = |condition: bool, flags| if condition { flags } else { PollFlags::empty() };
        let watch = |fd: BorrowedFd<'a>, flags: PollFlags| {
            PollFd::from_borrowed_fd(if flags.is_empty() { idle } else { fd }, flags)
        };
        let input = when(self.input == Flow::Open && self.inwards.waiting().is_empty(), PollFlags::IN);
        let from_master = when(self.output == Flow::Open && self.outwards.waiting().is_empty(), PollFlags::IN);
        let to_master = when(!self.inwards.waiting().is_empty(), PollFlags::OUT);
        let output = when(!self.outwards.waiting().is_empty(), PollFlags::OUT);
        [watch(stdin(), input), watch(self.master.as_fd(), from_master | to_master), watch(stdout(), output)]
    }

    /// The master has hung up: its side of poll would be ready for ever.
    pub(crate) fn is_over(&self) -> bool {
        self.output == Flow::Ended && self.outwards.waiting().is_empty()
    }

    /// Moves what can be moved without waiting.
    pub(crate) fn advance(&mut self, ready: [PollFlags; 3]) {
        let [input, master, output] = ready;
        if self.inwards.waiting().is_empty() {
            if !input.is_empty() && self.input == Flow::Open && !self.inwards.fill(stdin()) {
                self.input = Flow::Ended;
            }
        } else if !master.is_empty() && !self.inwards.drain(self.master.as_fd()) {
            self.input = Flow::Ended;
        }
        if !self.outwards.waiting().is_empty() {
            if !output.is_empty() {
                self.outwards.drain(stdout());
            }
        } else if !master.is_empty() && self.output == Flow::Open && !self.outwards.fill(self.master.as_fd()) {
            self.output = Flow::Ended;
        }
    }

    /// Whatever the process said before it ended. Another may hold the terminal still, and write without end: neither its
    /// end is waited for, nor more than a terminal holds (640 KiB).
    pub(crate) fn finish(mut self) {
        const MOST: usize = 1 << 20;
        for _ in 0..MOST / self.outwards.bytes.len() {
            self.outwards.pour(stdout());
            if !self.outwards.fill(self.master.as_fd()) || self.outwards.waiting().is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

    use super::*;

    #[test]
    fn a_reader_that_takes_its_time_is_waited_for_without_work() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let room = fcntl_setpipe_size(&writer, 4096).unwrap();
        rustix::io::write(&writer, &vec![1; room]).unwrap();
        let slow = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            fcntl_setfl(&reader, OFlags::empty()).unwrap();
            std::io::read_to_string(std::fs::File::from(reader)).unwrap().len()
        });
        let mut buffer = Buffer { bytes: [2; 4096], filled: 0..4096 };
        // proc(5): user and system time in hundredths of a second, counted from the name's end.
        let used = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields = stat.rsplit(')').next().unwrap().split(' ').skip(12).take(2);
            fields.map(|field| field.parse::<u64>().unwrap()).sum::<u64>()
        };
        let before = used();
        buffer.pour(writer.as_fd());
        assert!(used() - before < 10, "it has turned in circles");
        drop(writer);
        assert_eq!(slow.join().unwrap(), room + 4096);
    }
}
