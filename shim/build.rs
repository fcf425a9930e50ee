//! Links the shim at a fixed address. A position-independent program relocates its tables of pointers when it starts,
//! which makes 190 KB of every idle shim its own memory instead of the file's (docs/decisions/0006-shim-memory.md).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-no-pie");
}
