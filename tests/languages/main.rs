//! The same plugins in each language that has an SDK, as `jackfield new` and `jackfield build` make them.
//!
//! `cargo xtask test` builds them, and names the languages whose toolchain is not there. The suite of the
//! contract (`semantics`) runs over their plugin `console`, too.

mod auction;
mod lobby;
mod scenarios;
mod tutorial;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jackfield_tests::{Node, NodeBuilder, is_skipped};

/// The component of a plugin in a language; none if the language was not built.
fn component(language: &str, plugin: &str) -> Result<Option<PathBuf>> {
    let folder = std::env::var_os("JACKFIELD_LANGUAGES")
        .map(PathBuf::from)
        .context("JACKFIELD_LANGUAGES is missing: run `cargo xtask test`")?;
    let folder = folder.join(language);
    if is_skipped(&format!("{plugin} in {language}"), &folder) {
        return Ok(None);
    }
    let built = folder.join(format!("{plugin}.wasm"));
    anyhow::ensure!(
        built.exists(),
        "{} is missing: run `cargo xtask test --test languages`",
        built.display()
    );
    Ok(Some(built))
}

/// A node that runs a plugin in a language, under this manifest.
fn node(component: &Path, plugin: &str, manifest: &str) -> Result<NodeBuilder> {
    let bytes = std::fs::read(component)?;
    let file = format!("{plugin}.wasm");
    let node = Node::builder().alone();
    let node = node.change_folder(move |folder| Ok(std::fs::write(folder.join(&file), &bytes)?));
    Ok(node.manifest(plugin, manifest))
}

/// Makes a test of each language.
macro_rules! in_each_language {
    ($plugin:literal, $($language:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $language() -> anyhow::Result<()> {
            match crate::component(stringify!($language), $plugin)? {
                Some(component) => works(component).await,
                None => Ok(()),
            }
        }
    )+};
}

use in_each_language;
