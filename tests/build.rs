//! Compiles the API's published schema, as any client of it would.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=../proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let api = protox::compile(["jackfield/api/v1/api.proto"], ["../proto"])?;
    std::fs::write(out.join("api.bin"), api.encode_to_vec())?;
    Ok(())
}
