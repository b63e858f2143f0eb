//! Where the node's binary and the components are: `cargo xtask test` builds them and says so
//! through the environment; without it, where it would have left them.

use std::path::{Path, PathBuf};

use anyhow::ensure;

/// The node's binary.
pub fn binary_path() -> anyhow::Result<PathBuf> {
    let path = from_environment("JACKFIELD_BIN", "debug/jackfield");
    ensure!(
        path.exists(),
        "{} is missing: run `cargo xtask test`",
        path.display()
    );
    Ok(path)
}

/// A shipped plugin, or a component that only tests load, by its name.
pub fn component(name: &str) -> anyhow::Result<PathBuf> {
    let file = format!("{name}.wasm");
    let plugins = from_environment("JACKFIELD_PLUGINS", "plugins").join(&file);
    let guests = from_environment("JACKFIELD_GUESTS", "guests").join(&file);
    let found = [plugins, guests].into_iter().find(|path| path.exists());
    found.ok_or_else(|| anyhow::anyhow!("{file} is missing: run `cargo xtask test`"))
}

/// Whether `cargo xtask test` has left something out, since a program is not on this machine. That is
/// said here, too.
pub fn is_skipped(what: &str, folder: &Path) -> bool {
    let missing = std::fs::read_to_string(folder.join("SKIPPED"));
    if let Ok(missing) = &missing {
        eprintln!("SKIPPED: {what}, since there is no `{missing}` here");
    }
    missing.is_ok()
}

/// The client library of `clients/js` as it was built; none if there is no Node.js here.
pub fn js_client() -> anyhow::Result<Option<PathBuf>> {
    let folder = from_environment("JACKFIELD_JS_CLIENT", "clients/js");
    if is_skipped("clients/js", &folder) {
        return Ok(None);
    }
    ensure!(
        folder.join("dist/index.js").exists(),
        "{} is missing: run `cargo xtask test --test resume`",
        folder.display()
    );
    Ok(Some(folder))
}

/// Compiled components, kept for all tests: the first one to load a component compiles it.
pub(crate) fn cache() -> PathBuf {
    target().join("test-cache")
}

fn from_environment(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| target().join(default), PathBuf::from)
}

fn target() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}
