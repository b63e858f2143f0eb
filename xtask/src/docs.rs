//! `cargo xtask docs`: the documents as a site in `target/docs`, made by mdBook, whose links all lead
//! where they say.
//!
//! The site needs no network, neither to be made (once mdBook is there) nor to be read.

mod links;
mod pages;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::file;
use crate::process::{self, cargo};
use crate::tools::Tool;
use crate::workspace::Workspace;

/// Without its web server, which would be most of its compilation.
const MDBOOK: Tool = Tool {
    name: "mdbook",
    version: "0.5.4",
    features: Some("search"),
};

/// The folder of the Rust SDK's reference within the site.
const RUST: &str = "rust";

pub(crate) fn docs(workspace: &Workspace) -> Result<()> {
    let mdbook = MDBOOK.find(workspace)?;
    let book = workspace.target.join("docs-book");
    let site = workspace.target.join("docs");
    // What was a page the last time would be one for ever.
    file::remove(&book)?;
    file::remove(&site)?;
    for name in ["book.toml", "site.css"] {
        file::copy(&workspace.root.join("docs").join(name), &book.join(name))?;
    }
    pages::write(&workspace.root, &book.join("src"))?;
    lead_to_rust_reference(&book.join("src/docs/sdk/rust.md"))?;
    process::run(
        Command::new(mdbook)
            .arg("build")
            .arg(&book)
            .arg("--dest-dir")
            .arg(&site),
    )?;
    rust_reference(workspace, &site.join(RUST))?;
    let checked = links::check(&site, &[RUST])?;
    eprintln!(
        "{} has {} pages, and their {} links lead where they say",
        site.join("index.html").display(),
        checked.pages,
        checked.links
    );
    Ok(())
}

/// The page of the Rust SDK leads to its whole reference, which is in the site alone.
fn lead_to_rust_reference(page: &Path) -> Result<()> {
    let text = fs::read_to_string(page)?;
    let lead = format!(
        "\n## The whole reference\n\nThe [reference that `cargo doc` makes](../../{RUST}/jackfield_sdk/index.html) \
         has an example of each function.\n"
    );
    file::put(page, (text + &lead).as_bytes()).map(drop)
}

/// The reference of the Rust SDK, as `cargo doc` makes it. Its own folder keeps it apart from the
/// documentation of the workspace, whose search would have every crate.
fn rust_reference(workspace: &Workspace, folder: &Path) -> Result<()> {
    let target = workspace.target.join("docs-rust");
    process::run(
        cargo()
            .args(["doc", "--quiet", "--package", "jackfield-sdk", "--no-deps"])
            .arg("--target-dir")
            .arg(&target)
            .env("RUSTDOCFLAGS", "-D warnings")
            .current_dir(&workspace.root),
    )?;
    file::copy_folder(&target.join("doc"), folder).context("the reference of the Rust SDK")
}
