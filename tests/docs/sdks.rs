//! The reference of each SDK names all that the SDK has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Fails for each name that is not at the beginning of some code of the page, or after a dot or a colon.
fn check(page: &str, names: &BTreeSet<String>) -> Result<()> {
    let (root, _) = crate::project()?;
    let text = fs::read_to_string(root.join("docs/sdk").join(page))?;
    let is_named = |name: &String| {
        let mut places = text.match_indices(&**name);
        places.any(|(at, name)| {
            let before = text[..at].chars().next_back();
            let after = text[at + name.len()..].chars().next();
            let ends = after.is_some_and(|after| !after.is_alphanumeric() && after != '_');
            matches!(before, Some('`' | '.' | ':')) && ends
        })
    };
    assert!(names.len() > 40, "{page}: {} names only", names.len());
    let missing: Vec<_> = names.iter().filter(|name| !is_named(name)).collect();
    assert!(
        missing.is_empty(),
        "docs/sdk/{page} does not name {missing:?}"
    );
    Ok(())
}

/// The lines of the files of an SDK; of a folder, those of its own files.
fn lines(paths: &[&str], ending: &str) -> Result<Vec<String>> {
    let (root, _) = crate::project()?;
    let mut lines = Vec::new();
    for path in paths {
        let path = root.join("guest-sdk").join(path);
        let files = match path.is_dir() {
            true => fs::read_dir(&path)?
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<_>>()?,
            false => vec![path],
        };
        for file in files.iter().filter(|file| is_of(file, ending)) {
            let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    Ok(lines)
}

fn is_of(file: &Path, ending: &str) -> bool {
    file.is_file() && file.to_string_lossy().ends_with(ending)
}

/// The identifier with which a text begins.
fn name(text: &str) -> String {
    let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
    text.chars().take_while(is_part).collect()
}

#[test]
fn rust() -> Result<()> {
    let public = [
        "src/api",
        "src/config.rs",
        "src/handshake.rs",
        "src/http.rs",
        "src/json.rs",
        "src/keyvalue.rs",
        "src/message.rs",
        "src/testing.rs",
        "src/testing/client.rs",
        "src/testing/events.rs",
        "src/testing/handshake.rs",
        "src/testing/manifest.rs",
    ];
    let lines = lines(&public, ".rs")?;
    // What is hidden from the documentation is for `export!` alone.
    let functions = lines.windows(2).filter_map(|pair| {
        let function = pair[1].trim_start().strip_prefix("pub fn ")?;
        (pair[0] != "#[doc(hidden)]").then(|| name(function))
    });
    // `Accept::new` and others are shown by what they make.
    check("rust.md", &functions.filter(|name| name != "new").collect())
}

#[test]
fn javascript() -> Result<()> {
    let files = [
        "js/src/index.d.ts",
        "js/src/http.d.ts",
        "js/src/keyvalue.d.ts",
    ];
    let lines = lines(&files, ".d.ts")?;
    let mut names = BTreeSet::new();
    let mut interface = String::new();
    for line in &lines {
        let exported = ["export function ", "export const "];
        names.extend(
            exported
                .iter()
                .find_map(|start| Some(name(line.strip_prefix(start)?))),
        );
        if let Some(begun) = line.strip_prefix("export interface ") {
            interface = name(begun);
        }
        if let ("Bucket" | "Plugin", Some(method)) = (&*interface, line.strip_prefix("  "))
            && method.starts_with(char::is_alphabetic)
            && method.contains('(')
        {
            names.insert(name(method));
        }
    }
    check("javascript.md", &names)
}

#[test]
fn python() -> Result<()> {
    let package = "python/jackfield";
    let mut names = BTreeSet::new();
    for line in lines(&[&format!("{package}/__init__.py")], ".py")? {
        if let Some((exported, _)) = line.trim().split_once(" as ") {
            names.insert(name(exported.rsplit(' ').next().unwrap_or_default()));
        }
    }
    let modules =
        ["keyvalue", "http", "config", "plugin"].map(|name| format!("{package}/{name}.py"));
    for line in lines(&modules.each_ref().map(|module| &**module), ".py")? {
        if let Some(function) = line.trim_start().strip_prefix("def ")
            && !function.starts_with('_')
        {
            names.insert(name(function));
        }
    }
    check("python.md", &names)
}

#[test]
fn go() -> Result<()> {
    let lines = lines(&["go", "go/bucket", "go/http"], ".go")?;
    let functions = lines.iter().filter_map(|line| {
        let function = line.strip_prefix("func ")?;
        // A method's receiver comes first.
        let function = match function.strip_prefix('(') {
            Some(method) => method.split_once(") ")?.1,
            None => function,
        };
        Some(name(function)).filter(|name| name.starts_with(char::is_uppercase))
    });
    // What every error has.
    let own = functions.filter(|name| name != "Error" && name != "Unwrap");
    check("go.md", &own.collect())
}

#[test]
fn c() -> Result<()> {
    let header = lines(&["c/include/jackfield.h"], ".h")?.join("\n");
    let (own, _) = header
        .split_once("/* ---- How arguments are converted")
        .context("the header has changed")?;
    let starts = own.match_indices("jf_").map(|(at, _)| &own[at..]);
    let functions = starts.filter_map(|text| {
        let name = name(text);
        let is_called = text[name.len()..].starts_with('(') && !name.ends_with('_');
        is_called.then_some(name)
    });
    check("c.md", &functions.collect())
}
