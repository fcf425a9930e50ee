//! `tare`: an OCI runtime with the command line of runc. It is not there yet, and says so; the runtime core that it will
//! stand on serves containerd through `containerd-shim-tare-v2`.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("tare: the command line is not implemented yet; use containerd-shim-tare-v2 with containerd");
    ExitCode::FAILURE
}
