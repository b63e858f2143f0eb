//! What nodes say to each other, what backends say to a node, and the part of etcd's API that a
//! node uses. Protox reads the schemas: no `protoc` is needed.

use std::fs;
use std::path::Path;

use anyhow::Result;
use prost::Message as _;

/// What nodes and registers say, and the part of etcd's API that they use.
const MESH: [&str; 3] = [
    "jackfield/mesh/v1/mesh.proto",
    "jackfield/mesh/v1/register.proto",
    "etcd/rpc.proto",
];

/// What a live trace shows, between nodes and to backends.
const TRACE: &str = "jackfield/trace/v1/trace.proto";

/// What backends say.
const API: &str = "jackfield/api/v1/api.proto";

/// Each file's name and content.
pub(crate) fn generate(schemas: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let out = tempfile::tempdir()?;
    let mesh = protox::compile(MESH, [schemas])?;
    let api = protox::compile([API], [schemas])?;
    // With its comments: HTTP, its description and gRPC's reflection are made from it.
    let mut files = vec![("api.bin".to_owned(), api.encode_to_vec())];
    // Slices of what was received instead of copies.
    let configure = || {
        tonic_prost_build::configure()
            .bytes(".")
            .out_dir(out.path())
    };
    let trace = protox::compile([TRACE], [schemas])?;
    configure().build_client(false).compile_fds(trace)?;
    // The others use the same types of it.
    let configure = || configure().extern_path(".jackfield.trace.v1", "crate::live_trace");
    configure().compile_fds(mesh)?;
    configure().build_client(false).compile_fds(api)?;
    for entry in fs::read_dir(out.path())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files.push((name.into_owned(), fs::read(&path)?));
    }
    Ok(files)
}
