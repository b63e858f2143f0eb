//! Generates what nodes say to each other from `proto/`, with protox: no `protoc` is needed.

fn main() -> anyhow::Result<()> {
    let root = "../proto";
    let files = [
        "jackfield/mesh/v1/mesh.proto",
        "jackfield/mesh/v1/register.proto",
        "etcd/rpc.proto",
    ];
    println!("cargo:rerun-if-changed={root}");
    let descriptors = protox::compile(files, [root])?;
    tonic_prost_build::configure()
        // Slices of what was received instead of copies.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
