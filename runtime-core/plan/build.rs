//! Lays out the table of system call names and numbers that the filter compiler looks names up in. The numbers come
//! from the `syscalls` crate, which is generated from the kernel's own tables; x32, which that crate does not have, is
//! derived from x86_64 by the differences that `arch/x86/entry/syscalls/syscall_64.tbl` marks `x32` and `64`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

#[path = "src/seccomp/spread.rs"]
mod spread;

use syscalls::{aarch64, arm, x86, x86_64};

/// Columns of the table; `src/seccomp/table.rs` reads them in this order.
const X86_64: usize = 0;
const X86: usize = 1;
const X32: usize = 2;
const AARCH64: usize = 3;
const ARM: usize = 4;

/// An ABI that does not have the call.
const ABSENT: u16 = u16::MAX;

/// Calls that only the 64-bit ABI of x86_64 has.
const NOT_X32: [&str; 14] = [
    "_sysctl",
    "create_module",
    "epoll_ctl_old",
    "epoll_wait_old",
    "get_kernel_syms",
    "get_thread_area",
    "map_shadow_stack",
    "nfsservctl",
    "query_module",
    "set_thread_area",
    "uprobe",
    "uretprobe",
    "uselib",
    "vserver",
];

/// Calls that x32 has under a number of its own, from 512 up, in the order of those numbers.
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// Numbers of calls with 64-bit times for 32-bit ABIs. The crate gives them to AArch64 too, which has none of them.
const TIME64: std::ops::RangeInclusive<i32> = 403..=423;

/// AArch64's number 79, which the crate spells `fstatat` and everyone else as below.
const NEWFSTATAT: i32 = 79;

/// Calls private to 32-bit ARM, counted from 0x0f0000 (`arch/arm/include/uapi/asm/unistd.h`).
const ARM_PRIVATE: [(&str, u16); 6] =
    [("breakpoint", 1), ("cacheflush", 2), ("usr26", 3), ("usr32", 4), ("set_tls", 5), ("get_tls", 6)];

type Numbers = BTreeMap<String, [u16; 5]>;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/seccomp/spread.rs");
    let path = PathBuf::from(std::env::var("OUT_DIR")?).join("syscalls.rs");
    std::fs::write(path, source(&numbers()?)?)?;
    Ok(())
}

fn numbers() -> Result<Numbers, Box<dyn Error>> {
    let mut numbers = Numbers::new();
    for call in x86_64::Sysno::iter() {
        let number = u16::try_from(call.id())?;
        put(&mut numbers, call.name(), X86_64, number);
        if !NOT_X32.contains(&call.name()) {
            put(&mut numbers, call.name(), X32, number);
        }
    }
    for (name, number) in X32_OWN.into_iter().zip(512..) {
        put(&mut numbers, name, X32, number);
    }
    for call in x86::Sysno::iter() {
        put(&mut numbers, call.name(), X86, u16::try_from(call.id())?);
    }
    for call in aarch64::Sysno::iter().filter(|call| !TIME64.contains(&call.id())) {
        let name = if call.id() == NEWFSTATAT { "newfstatat" } else { call.name() };
        put(&mut numbers, name, AARCH64, u16::try_from(call.id())?);
    }
    // The private calls would not fit in 16 bits; the table marks them by the four upper bits.
    for call in arm::Sysno::iter().filter(|call| call.id() < 0x0f_0000) {
        put(&mut numbers, call.name(), ARM, u16::try_from(call.id())?);
    }
    for (name, number) in ARM_PRIVATE {
        put(&mut numbers, name, ARM, 0xf000 | number);
    }
    Ok(numbers)
}

fn put(numbers: &mut Numbers, name: &str, column: usize, number: u16) {
    // `break` is a word of Rust, so the crate spells it `r#break`.
    let name = name.trim_start_matches("r#").to_owned();
    numbers.entry(name).or_insert([ABSENT; 5])[column] = number;
}

/// One string of all names and, for each, where it lies in that string and its numbers: no pointer in it, so that a
/// position-independent binary has nothing to relocate. Then where each name is looked for.
fn source(numbers: &Numbers) -> Result<String, Box<dyn Error>> {
    let names: String = numbers.keys().map(String::as_str).collect();
    let mut text = format!("static NAMES: &str = {names:?};\n");
    writeln!(text, "static ROWS: [Row; {}] = [", numbers.len())?;
    let mut start = 0;
    for (name, numbers) in numbers {
        let end = start + name.len();
        u16::try_from(end)?;
        writeln!(text, "    Row {{ start: {start}, end: {end}, numbers: {numbers:?} }},")?;
        start = end;
    }
    text.push_str("];\n");
    writeln!(text, "static PLACES: [u16; {}] = {:?};", spread::PLACES, places(numbers)?)?;
    Ok(text)
}

/// For each place the row of the name that is there, counted from 1; 0 for none.
fn places(numbers: &Numbers) -> Result<Vec<u16>, Box<dyn Error>> {
    let mut places = vec![0; spread::PLACES];
    for (row, name) in numbers.keys().enumerate() {
        let mut place = spread::place(name);
        while places[place] != 0 {
            place = (place + 1) % spread::PLACES;
        }
        places[place] = u16::try_from(row + 1)?;
    }
    Ok(places)
}
