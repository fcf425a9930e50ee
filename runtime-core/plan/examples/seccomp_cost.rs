//! What Docker's default profile costs: building the filter and having the kernel take it, here and through libseccomp
//! as runc does it. `cargo run --release -p tare-plan --example seccomp_cost`, on a quiet machine; numbers are in
//! `docs/decisions/0004-seccomp.md`.
#![allow(clippy::expect_used, clippy::panic, reason = "a measurement that cannot be made has nothing to say")]

#[allow(dead_code, reason = "the differential test's, of which this needs the bytes only")]
#[path = "../tests/seccomp_differential/interpreter.rs"]
mod interpreter;
#[allow(dead_code, reason = "the differential test's, of which this needs the bytes only")]
#[path = "../tests/seccomp_differential/reference.rs"]
mod reference;

use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxSeccomp;
use seccompiler::sock_filter;

const DOCKER: &str = include_str!("../tests/fixtures/seccomp-docker.json");
const TIMES: usize = 201;

fn main() {
    let docker: LinuxSeccomp = serde_json::from_str(DOCKER).expect("the profile");
    report("tare", || tare_plan::seccomp::plan(&docker).expect("a filter").program);
    report("libseccomp", || reference::bytes(&docker).expect("a filter"));
}

fn report(name: &str, build: impl Fn() -> Vec<u8>) {
    let (cold, program) = timed(&build);
    let warm = median(|| timed(&build).0);
    let filter = decode(&program);
    let install = median(|| install(filter.clone()));
    let instructions = filter.len();
    println!(
        "{name:10} {instructions:5} instructions  build {cold:9.1?} cold {warm:9.1?} warm  install {install:9.1?}"
    );
}

/// In a thread of its own: a filter cannot be taken back.
fn install(filter: Vec<sock_filter>) -> Duration {
    let install = move || timed(|| seccompiler::apply_filter(&filter).expect("the kernel takes it")).0;
    std::thread::spawn(install).join().expect("the thread")
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

fn median(measure: impl Fn() -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..TIMES).map(|_| measure()).collect();
    all.sort_unstable();
    all[TIMES / 2]
}

fn decode(program: &[u8]) -> Vec<sock_filter> {
    let instruction = |(code, jt, jf, k): interpreter::Instruction| sock_filter {
        code,
        jt: u8::try_from(jt).expect("a byte"),
        jf: u8::try_from(jf).expect("a byte"),
        k,
    };
    interpreter::decode(program).into_iter().map(instruction).collect()
}
