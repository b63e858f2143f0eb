//! Generates a client of the API, as a backend would.

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=../../proto");
    let api = protox::compile(["jackfield/api/v1/api.proto"], ["../../proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(api)?;
    Ok(())
}
