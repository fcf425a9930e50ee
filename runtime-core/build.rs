//! Builds the stub and embeds it.

fn main() {}
