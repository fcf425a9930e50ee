//! Creates, starts, waits for and deletes containers in a loop: `cycle BUNDLE COUNT`. For `perf`, `strace -c -f` and the
//! benchmark; prints the median of each step in microseconds.
#![allow(clippy::unwrap_used, reason = "a tool for the developer")]

use std::os::fd::AsFd as _;
use std::time::Instant;

use runtime_core::{Container, Create, Stdio, read_spec};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let bundle = std::path::PathBuf::from(arguments.next().unwrap());
    let count: usize = arguments.next().unwrap().parse().unwrap();
    let mut times: [Vec<u128>; 4] = Default::default();
    for index in 0..count {
        let clock = Instant::now();
        let stdio = Stdio::Streams { stdin: None, stdout: None, stderr: None };
        let (id, spec) = (format!("cycle-{index}"), read_spec(&bundle).unwrap());
        let request = Create::new(&id, bundle.clone(), spec, bundle.clone(), stdio);
        let (container, process) = Container::create(request).unwrap();
        let created = clock.elapsed();
        container.start().unwrap();
        let started = clock.elapsed();
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(process.as_fd(), rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        process.try_wait().unwrap().unwrap();
        let exited = clock.elapsed();
        container.delete().unwrap();
        let deleted = clock.elapsed();
        let steps = [created, started - created, exited - started, deleted - exited];
        times.iter_mut().zip(steps).for_each(|(times, step)| times.push(step.as_micros()));
    }
    for (name, mut times) in ["create", "start", "exit", "delete"].into_iter().zip(times) {
        times.sort_unstable();
        println!("{name:8} {:6} µs", times[times.len() / 2]);
    }
}
