//! The root of the program `tare-init`: no_std, no libc, static. Compiled by `runtime-core/build.rs`, embedded in both
//! binaries, and held in a sealed memfd, so that no container ever sees a runtime's binary or memory (CVE-2019-5736).
#![no_std]
#![no_main]
#![allow(dead_code, reason = "the parent's half of the script format is not used here")]

mod perform;
mod script;
mod sys;

/// Called on the initial stack. Not dumpable from here on: in a shared pid namespace, other processes could look.
fn stub_main(stack: *const usize) -> ! {
    const PR_SET_DUMPABLE: i32 = 4;
    let hidden = sys::prctl(PR_SET_DUMPABLE, 0, 0);
    sys::set_name(c"tare-init");
    if hidden.is_ok()
        && let Some(fd) = sys::script_descriptor(stack)
        && let Ok(bytes) = sys::map_whole(fd)
        && let Some(script) = perform::Script::read(bytes)
        && sys::close(fd).is_ok()
        && sys::set_close_on_exec(script.line(), 1).is_ok()
    {
        perform::run(script)
    }
    // There is no script to speak for; the parent sees the line close.
    sys::exit(127)
}

/// Nothing here panics; a bug that does ends the process, and the parent sees the line close.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(126)
}
