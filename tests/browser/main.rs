//! Every page that a node serves, in real browsers: what people see in their windows.
//!
//! A node serves the pages as they are shipped, to headless chromium.
//!
//! It knows by looking at the pages as a person does, at the text they show; and by the
//! browser's own logs, which say what went wrong. That something is not shown is known by a later
//! message that is.

mod browser;
mod chat;
mod client;
mod compression;
mod docs;
mod everybody;
mod index;
mod operator;
mod refusals;
mod template;

use std::fs;

use anyhow::{Context as _, Result};
use jackfield_tests::{Node, component};

/// Puts a plugin's page beside it.
fn put_page(node: &Node, plugin: &str) -> Result<()> {
    let page = node.folder().path().join(plugin);
    fs::create_dir(&page)?;
    for file in fs::read_dir(component(plugin)?.with_extension("")).context("the page")? {
        let file = file?;
        fs::copy(file.path(), page.join(file.file_name()))?;
    }
    Ok(())
}
