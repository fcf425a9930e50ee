//! Builds the stub `tare-init` and leaves it for `src/stub.rs` to embed. It is compiled by itself and always optimized:
//! an unoptimized build would ask for an unwinder.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("tare-init");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rerun-if-changed=init/src");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(tare_stub)");
    // With musl, rustc would bring a start-up of its own.
    let bare: &[&str] = if target.ends_with("-musl") { &["-C", "link-self-contained=no"] } else { &[] };
    let status = Command::new(rustc)
        .args(bare)
        .args(["init/src/stub.rs", "--crate-name", "tare_init", "--crate-type", "bin", "--edition", "2024"])
        .args(["--cfg", "tare_stub", "--check-cfg", "cfg(tare_stub)", "--target", &target])
        .args([
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "lto=fat",
            "-C",
            "codegen-units=1",
            "-C",
            "strip=symbols",
        ])
        .args(["-C", "relocation-model=static", "-C", "target-feature=+crt-static"])
        .args(["-C", "link-arg=-nostartfiles", "-C", "link-arg=-nostdlib", "-C", "link-arg=-static"])
        .args(["-C", "link-arg=-Wl,--build-id=none,-z,noexecstack,-z,norelro,--gc-sections"])
        .arg("-o")
        .arg(&out)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "the stub could not be built");
}
