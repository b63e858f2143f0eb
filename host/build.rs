//! Generates what nodes say to each other, and what backends say to a node, from `proto/`,
//! with protox: no `protoc` is needed.

use std::path::PathBuf;

use prost::Message as _;

/// What nodes and registers say, and the part of etcd's API that they use.
const MESH: [&str; 3] = [
    "jackfield/mesh/v1/mesh.proto",
    "jackfield/mesh/v1/register.proto",
    "etcd/rpc.proto",
];

/// What backends say.
const API: &str = "jackfield/api/v1/api.proto";

fn main() -> anyhow::Result<()> {
    let root = "../proto";
    println!("cargo:rerun-if-changed={root}");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mesh = protox::compile(MESH, [root])?;
    let api = protox::compile([API], [root])?;
    // With its comments: HTTP, its description and gRPC's reflection are made from it.
    std::fs::write(out.join("api.bin"), api.encode_to_vec())?;
    // Slices of what was received instead of copies.
    let configure = || tonic_prost_build::configure().bytes(".");
    configure().compile_fds(mesh)?;
    configure().build_client(false).compile_fds(api)?;
    Ok(())
}
