//! The black-box suite: one test program, so that every topic shares one containerd and is linked once.
//!
//! `TARE_UNDER_TEST=runc cargo test -p integration` proves the tests themselves; without it they judge tare.

mod bootstrap;
mod checkpoint;
mod events;
mod exec;
mod faults;
mod hostile;
mod isolation;
mod leaks;
mod lifecycle;
mod resources;
mod spec;
mod stdio;
mod systemd;
mod user_namespaces;
