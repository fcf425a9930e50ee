//! containerd shim v2 over the runtime core: `containerd-shim-tare-v2`.
//!
//! It knows ttrpc and containerd's ways, and nothing of containers: a request is decoded ([`service`]), allowed or
//! refused ([`lifecycle`]), done by the core, and encoded. `start` forks the server ([`bootstrap`]), which lives on one
//! thread ([`serve`]) for as long as it has tasks; `delete` cleans up after a server that may be dead.

mod bootstrap;
mod decode;
mod encode;
mod events;
mod flags;
mod info;
mod lifecycle;
mod logger;
mod oom;
mod options;
mod orphans;
mod process;
mod removal;
mod root;
mod serve;
mod service;
mod stats;
mod stdio;
mod sys;
mod task;
mod work;

use std::io::Write;
use std::process::ExitCode;

use flags::{Action, Flags};

fn main() -> ExitCode {
    sys::close_inherited();
    sys::lean_allocator();
    match flags::parse(std::env::args().skip(1)).and_then(|flags| dispatch(&flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // In the daemon this is the bundle's log; there is nobody else to tell.
            let _unheard = writeln!(std::io::stderr(), "containerd-shim-tare-v2: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(flags: &Flags) -> Result<(), String> {
    if matches!(flags.action, Action::Start | Action::Serve) {
        runtime_core::check_kernel().map_err(|error| error.to_string())?;
    }
    match flags.action {
        Action::Version => {
            println!(
                "containerd-shim-tare-v2:\n  Version:  {}\n  Revision: {}",
                env!("CARGO_PKG_VERSION"),
                info::REVISION
            );
            Ok(())
        }
        Action::Info => info::answer(),
        Action::Delete => removal::delete(flags),
        Action::Start => match bootstrap::start(flags)? {
            None => Ok(()),
            Some(daemon) => {
                bootstrap::foreground()?;
                serve::run(daemon.serve, || daemon.tell.ready())
            }
        },
        Action::Serve => {
            let serve = bootstrap::direct(flags)?;
            bootstrap::foreground()?;
            serve::run(serve, || {})
        }
    }
}
