//! An OCI runtime's command line as a black box. One test program, so that it is linked once.
//!
//! `TARE_UNDER_TEST=runc cargo test -p integration --test oci` proves the tests themselves; without it they judge tare.

mod agreed;
mod apart;
mod crash;
mod debug;
mod descriptors;
mod floor;
mod foreground;
mod hostile;
mod verbs;
mod walk;

use std::time::{Duration, Instant};

use integration::oci::Said;
use integration::{Product, pace};

/// The command was refused, in runc's words. crun has words of its own, which are not asked for.
#[track_caller]
fn refused(said: &Said, words: &str) {
    assert!(said.code.is_some_and(|code| code > 0), "{said:?}");
    if Product::under_test() != Product::Crun {
        // runc's own log quotes what it says.
        assert!(said.err.replace("\\\"", "\"").contains(words), "{words:?} is not in {said:?}");
    }
}

/// It becomes true within ten seconds, or what is ten seconds on this machine.
fn eventually(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + pace::patience(Duration::from_secs(10));
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}
