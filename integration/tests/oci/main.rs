//! An OCI runtime's command line as a black box. One test program, so that it is linked once.
//!
//! `TARE_UNDER_TEST=runc cargo test -p integration --test oci` proves the tests themselves; without it they judge tare.

mod crash;
mod hostile;
