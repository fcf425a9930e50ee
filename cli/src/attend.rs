//! Waiting beside a foreground process: its terminal, its signals, its readiness, its end. One thread, one poll.

use std::os::fd::AsFd as _;

use runtime_core::{ExitStatus, Process, Signals};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, wait};

use crate::failure::Failure;
use crate::notify::Notify;
use crate::relay::Relay;
use crate::signal;

/// What is looked after besides the process.
#[derive(Debug)]
pub(crate) struct Attendance<'a> {
    pub(crate) signals: &'a Signals,
    pub(crate) relay: Option<Relay>,
    pub(crate) notify: Option<Notify>,
}

/// Waits until `process` has ended.
pub(crate) fn attend(process: &Process, mut with: Attendance<'_>) -> Result<ExitStatus, Failure> {
    loop {
        while let Some(signal) = with.signals.next() {
            match signal {
                // Its children are asked for below, whatever has come of their signals.
                signal::CHILD | signal::URGENT | signal::PIPE => {}
                signal::WINDOW => with.relay.iter().for_each(Relay::resize),
                // It may have ended by now.
                other => drop(process.signal(other)),
            }
        }
        if let Some(status) = reap(process.pid())? {
            if let Some(relay) = with.relay {
                relay.finish();
            }
            return Ok(status);
        }
        step(&mut with)?;
    }
}

/// Reaps everything that has ended: besides the process, what a container without a pid namespace has orphaned.
fn reap(pid: i32) -> Result<Option<ExitStatus>, Failure> {
    loop {
        let ended = rustix::io::retry_on_intr(|| wait(WaitOptions::NOHANG));
        match ended.map_err(|errno| Failure::io("wait for the process", errno))? {
            None => return Ok(None),
            Some((ended, status)) if ended.as_raw_pid() == pid => {
                let code = status.exit_status().map(|code| ExitStatus::Code(u8::try_from(code & 0xff).unwrap_or(0)));
                return Ok(code.or_else(|| status.terminating_signal().map(ExitStatus::Signal)));
            }
            Some(_) => {}
        }
    }
}

/// Waits for the next thing to happen to anything but the process.
fn step(with: &mut Attendance<'_>) -> Result<(), Failure> {
    let idle = with.signals.as_fd();
    let nothing = || PollFd::from_borrowed_fd(idle, PollFlags::empty());
    let notify = with.notify.as_ref().map_or_else(nothing, |notify| PollFd::new(notify, PollFlags::IN));
    let live = with.relay.as_ref().filter(|relay| !relay.is_over());
    let [input, master, output] = live.map_or_else(|| [nothing(), nothing(), nothing()], |relay| relay.watched(idle));
    let mut watched = [PollFd::new(with.signals, PollFlags::IN), notify, input, master, output];
    rustix::io::retry_on_intr(|| poll(&mut watched, None)).map_err(|errno| Failure::io("poll", errno))?;
    let [_, notify, input, master, output] = watched.map(|one| one.revents());
    if !notify.is_empty() && with.notify.as_ref().is_some_and(|notify| notify.pass(std::process::id())) {
        with.notify = None;
    }
    if let Some(relay) = with.relay.as_mut().filter(|relay| !relay.is_over()) {
        relay.advance([input, master, output]);
    }
    Ok(())
}
