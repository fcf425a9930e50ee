//! containerd shim v2 over the runtime core.

fn main() {}
