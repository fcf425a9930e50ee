//! What is being done, for a person who looks for a fault: the stations of a container's birth, in the words that runc's
//! `--debug` has for the same, where it has some. Without a listener, nothing is formatted and nothing is asked.

use std::fmt::Display;
use std::sync::OnceLock;

use rustix::process::Pid;

use crate::lower::point;
use crate::spawn::GATE;

type Listener = Box<dyn Fn(&str) + Send + Sync>;

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// Asks for the steps of this process, whichever thread they come from. The first who asks gets them.
pub fn on_step(listener: impl Fn(&str) + Send + Sync + 'static) {
    // As with warnings: the first goes on.
    let _ = LISTENER.set(Box::new(listener));
}

/// `message` is made only when somebody listens.
pub(crate) fn step<M: Display>(message: impl FnOnce() -> M) {
    if let Some(listener) = LISTENER.get() {
        listener(&message().to_string());
    }
}

/// The stub has been given its script.
pub(crate) fn begun(pid: i32) {
    step(|| format!("nsexec[{pid}]: => nsexec container setup"));
}

/// The process that goes on waits for its first word. `stub` has made it, on the processors that the script gave for the
/// way in; the one that goes on has left them where it was born into a cpuset of its own, by the kernel's `cpuset_fork`.
pub(crate) fn born(stub: i32) {
    step(|| {
        let set = rustix::thread::sched_getaffinity(Pid::from_raw(stub)).unwrap_or_default();
        // The first of them will do, as with runc.
        let mask = (0..64).filter(|cpu| set.is_set(*cpu)).fold(0_u64, |mask, cpu| mask | 1 << cpu);
        format!("nsexec[{stub}]: affinity: {mask:#x}")
    });
    step(|| "child process in init()");
}

/// The process waits for this one to do its part.
pub(crate) fn waits(pid: i32, at: u32) {
    step(|| {
        let what = match at {
            point::MAPS => "its id maps and clock offsets",
            point::TREES => "the host's trees",
            point::IDS => "the ids of a mount",
            point::CGROUP => "its control group",
            point::SCRIPT => "the rest of what it has to do",
            point::DEVICES => "its network devices",
            point::HOOKS => "the hooks",
            point::LIMITS => "its resource limits",
            point::SIZE => "the size of its terminal",
            point::LISTENER => "the seccomp agent",
            GATE => "start",
            _ => "what nobody knows",
        };
        format!("nsexec[{pid}]: waits for {what}")
    });
}
