//! Generates the messages that `containerd-shim-protos` lacks. Pure Rust: no `protoc` on the build machine.

fn main() {
    println!("cargo:rerun-if-changed=vendor/runtimeoptions.proto");
    protobuf_codegen::Codegen::new()
        .pure()
        .include("vendor")
        .input("vendor/runtimeoptions.proto")
        .cargo_out_dir("generated")
        .run_from_script();
}
