//! The documents lead where they say: each link to a file of the project is to one that is there,
//! and each link to a heading to one that the file has. All of them are pages of the site, and the
//! code that they show is that of files which tests build.

mod sdks;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// What a document has for others, and what it wants of them.
#[derive(Default)]
struct Document {
    headings: BTreeSet<String>,
    links: Vec<String>,
}

impl Document {
    fn read(path: &Path) -> Result<Document> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut document = Document::default();
        let mut times = BTreeMap::new();
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let slug = slug(&heading.take().unwrap_or_default());
                    let before = times.entry(slug.clone()).or_insert(0);
                    document.headings.insert(match *before {
                        0 => slug,
                        before => format!("{slug}-{before}"),
                    });
                    *before += 1;
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    document.links.push(dest_url.into_string());
                }
                _ => {}
            }
        }
        Ok(document)
    }
}

/// How GitHub names a heading in an address.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

/// The project's documents.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if name != "target" && name != "node_modules" && !name.starts_with('.') {
                documents(&path, found)?;
            }
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
    Ok(())
}

/// The project's folder, and its documents.
fn project() -> Result<(PathBuf, Vec<PathBuf>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()?;
    let mut paths = Vec::new();
    documents(&root, &mut paths)?;
    Ok((root, paths))
}

#[test]
fn no_document_has_both_sides_of_a_merge() -> Result<()> {
    for path in project()?.1 {
        let text = std::fs::read_to_string(&path)?;
        let is_marker = |line: &&str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ");
        let marker = text.lines().find(is_marker);
        assert_eq!(marker, None, "{}", path.display());
    }
    Ok(())
}

/// The SDK of a template, which is in the folder `sdk` beside what `jackfield new` writes.
fn sdk_of_template(path: &Path) -> Option<&Path> {
    let is_template = |folder: &&Path| {
        let name = folder.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(b"template")
    };
    path.ancestors().find(is_template)?.parent()
}

#[test]
fn links_lead_where_they_say() -> Result<()> {
    let (root, paths) = project()?;
    let mut read = BTreeMap::new();
    for path in paths {
        let document = Document::read(&path)?;
        read.insert(path, document);
    }
    let (mut seen, mut broken) = (0, Vec::new());
    for (path, document) in &read {
        for link in &document.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match (file, file.strip_prefix("sdk/"), sdk_of_template(path)) {
                ("", ..) => path.clone(),
                (_, Some(file), Some(sdk)) => sdk.join(file),
                _ => path.with_file_name(file),
            };
            let target = target.canonicalize();
            let leads = target.is_ok_and(|target| {
                let headings = read.get(&target).map(|document| &document.headings);
                heading.is_empty() || headings.is_some_and(|headings| headings.contains(heading))
            });
            if !leads {
                broken.push(format!("{}: {link}", path.strip_prefix(&root)?.display()));
            }
        }
    }
    assert!(seen > 100, "{seen} links only: are they read?");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

#[test]
fn every_document_is_a_page_of_the_site() -> Result<()> {
    let (root, paths) = project()?;
    let docs = root.join("docs");
    let summary = docs.join("SUMMARY.md");
    let pages = Document::read(&summary)?.links;
    let pages: BTreeSet<_> = pages.iter().map(|page| docs.join(page)).collect();
    let documents = paths.iter().filter(|path| path.starts_with(&docs));
    let missing: Vec<_> = documents
        .filter(|path| **path != summary && !pages.contains(*path))
        .collect();
    assert!(missing.is_empty(), "not in docs/SUMMARY.md: {missing:?}");
    Ok(())
}

#[test]
fn headings_are_named_as_github_does() {
    for (heading, named) in [
        ("What it costs", "what-it-costs"),
        ("`missing`", "missing"),
        ("On-call, and `jackfield_sdk`", "on-call-and-jackfield_sdk"),
        ("From GatewayWorker (PHP)", "from-gatewayworker-php"),
    ] {
        assert_eq!(slug(heading), named);
    }
}
