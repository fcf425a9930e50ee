//! an OCI runtime with the command line of runc.

fn main() {}
