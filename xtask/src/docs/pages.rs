//! The pages of the site: the documents that `docs/SUMMARY.md` names, and the files that they lead to.
//!
//! A page lies where its file lies in the project, so that a link means the same in both places. A
//! file that is no document, such as an interface or a source, becomes a page that shows it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use pulldown_cmark::{Event, Options, Parser, Tag};

use crate::file;

const SUMMARY: &str = "docs/SUMMARY.md";

/// The page that lists the files, and has them below it in the contents.
const FILES: &str = "files.md";

/// Writes the source of the book into `book`.
pub(crate) fn write(root: &Path, book: &Path) -> Result<()> {
    let summary = Page::read(root, Path::new(SUMMARY))?;
    let chapters: BTreeSet<PathBuf> = summary
        .links
        .iter()
        .map(|link| link.target.clone())
        .collect();
    let mut files = BTreeSet::new();
    for chapter in &chapters {
        let page = Page::read(root, chapter).with_context(|| format!("of {SUMMARY}"))?;
        let text = page.rewritten(|link| {
            let target = root.join(&link.target);
            if link.is_image {
                file::copy(&target, &book.join(&link.target))?;
                return Ok(None);
            }
            if chapters.contains(&link.target) {
                return Ok(None);
            }
            ensure!(
                target.exists(),
                "it leads to {}, which is not there",
                link.target.display()
            );
            ensure!(
                link.target.extension().is_none_or(|ending| ending != "md"),
                "it leads to {}, which is no page: add that to {SUMMARY}",
                link.target.display()
            );
            collect(root, &link.target, &mut files)?;
            Ok(Some(shown_at(&link.target)))
        });
        file::put(&book.join(chapter), text?.as_bytes())?;
    }
    for path in &files {
        file::put(
            &book.join(shown_at(path)),
            shown(root, path, &files)?.as_bytes(),
        )?;
    }
    let contents = contents(&summary, &files)?;
    file::put(&book.join("SUMMARY.md"), contents.as_bytes())?;
    file::put(&book.join(FILES), list_of(&files).as_bytes())?;
    Ok(())
}

/// A document of the project.
struct Page {
    /// Where it is, from the project's folder on, as all paths here are.
    path: PathBuf,
    text: String,
    links: Vec<Link>,
}

/// A link to another file of the project.
struct Link {
    target: PathBuf,
    /// With its `#`; or nothing.
    heading: String,
    /// Where the address is in the text.
    range: Range<usize>,
    is_image: bool,
}

impl Page {
    fn read(root: &Path, path: &Path) -> Result<Page> {
        let text = fs::read_to_string(root.join(path))
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut links = Vec::new();
        for (event, range) in Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter() {
            let (address, is_image) = match &event {
                Event::Start(Tag::Link { dest_url, .. }) => (dest_url, false),
                Event::Start(Tag::Image { dest_url, .. }) => (dest_url, true),
                _ => continue,
            };
            if address.contains("://") || address.starts_with("mailto:") || address.starts_with('#')
            {
                continue;
            }
            // The last place: the text of the link may have it, too.
            let at = text[range.clone()].rfind(&**address).with_context(|| {
                format!(
                    "{}: write the link to {address} as [text](address)",
                    path.display()
                )
            })?;
            let start = range.start + at;
            let (file, heading) = match address.split_once('#') {
                Some((file, heading)) => (file, format!("#{heading}")),
                None => (&**address, String::new()),
            };
            links.push(Link {
                target: resolve(path, file)
                    .with_context(|| format!("{}: {address}", path.display()))?,
                heading,
                range: start..start + address.len(),
                is_image,
            });
        }
        Ok(Page {
            path: path.to_owned(),
            text,
            links,
        })
    }

    /// The text, with the address that `change` returns in place of each link's, if it returns one.
    fn rewritten(
        &self,
        mut change: impl FnMut(&Link) -> Result<Option<PathBuf>>,
    ) -> Result<String> {
        let mut text = String::with_capacity(self.text.len());
        let mut end = 0;
        for link in &self.links {
            text.push_str(&self.text[end..link.range.start]);
            let changed = change(link).with_context(|| self.path.display().to_string())?;
            match changed {
                Some(target) => {
                    let up = self.path.components().count() - 1;
                    let address = Path::new(&"../".repeat(up)).join(target);
                    write!(text, "{}{}", address.display(), link.heading)?;
                }
                None => text.push_str(&self.text[link.range.clone()]),
            }
            end = link.range.end;
        }
        text.push_str(&self.text[end..]);
        Ok(text)
    }
}

/// Where a link of the page `from` leads, from the project's folder on.
fn resolve(from: &Path, link: &str) -> Result<PathBuf> {
    let mut path = from.parent().unwrap_or(Path::new("")).to_owned();
    for component in Path::new(link).components() {
        match component {
            Component::ParentDir => ensure!(path.pop(), "the link leads out of the project"),
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => bail!("the link must be relative"),
        }
    }
    Ok(path)
}

/// Adds a file, or a folder with all that is in it.
fn collect(root: &Path, path: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    if root.join(path).is_dir() {
        for entry in entries(root, path)? {
            collect(root, &entry, files)?;
        }
    }
    files.insert(path.to_owned());
    Ok(())
}

/// What is in a folder, sorted, without hidden files and what builds have left.
fn entries(root: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with('.') && !["node_modules", "target"].contains(&&*text) {
            entries.push(folder.join(name));
        }
    }
    entries.sort();
    Ok(entries)
}

/// The page of a file or a folder.
fn shown_at(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".md");
    PathBuf::from(name)
}

/// The page's text. Links are from the page's folder on.
fn shown(root: &Path, path: &Path, files: &BTreeSet<PathBuf>) -> Result<String> {
    let mut page = format!("# {}\n\n", path.display());
    if root.join(path).is_dir() {
        let folder = path.file_name().unwrap_or_default().to_string_lossy();
        for file in files.iter().filter(|file| file.parent() == Some(path)) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            writeln!(page, "- [{name}]({folder}/{name}.md)")?;
        }
        return Ok(page);
    }
    let text = fs::read_to_string(root.join(path))
        .with_context(|| format!("{} is no text to show", path.display()))?;
    let language = language(path);
    // Longer than any fence within it.
    writeln!(page, "~~~~~~~~{language}\n{}\n~~~~~~~~", text.trim_end())?;
    Ok(page)
}

fn language(path: &Path) -> &str {
    let ending = path.extension().and_then(|ending| ending.to_str());
    match ending.unwrap_or_default() {
        "rs" => "rust",
        "h" => "c",
        "yml" => "yaml",
        "" => "text",
        other => other,
    }
}

/// The contents of the book: those of the project, and the files.
fn contents(summary: &Page, files: &BTreeSet<PathBuf>) -> Result<String> {
    let mut contents = String::new();
    let mut end = 0;
    for link in &summary.links {
        contents.push_str(&summary.text[end..link.range.start]);
        write!(contents, "{}", link.target.display())?;
        end = link.range.end;
    }
    contents.push_str(&summary.text[end..]);
    writeln!(contents, "- [Files]({FILES})")?;
    for file in files {
        let page = shown_at(file);
        writeln!(contents, "  - [{}]({})", file.display(), page.display())?;
    }
    Ok(contents)
}

fn list_of(files: &BTreeSet<PathBuf>) -> String {
    let mut page = "# Files\n\nThe pages lead to these files of the project:\n\n".to_owned();
    for file in files {
        let (name, page_of) = (file.display(), shown_at(file));
        page += &format!("- [{name}]({})\n", page_of.display());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(files: &[(&str, &str)]) -> Result<(tempfile::TempDir, PathBuf)> {
        let folder = tempfile::tempdir()?;
        for (path, text) in files {
            file::put(&folder.path().join(path), text.as_bytes())?;
        }
        let book = folder.path().join("book");
        write(folder.path(), &book)?;
        Ok((folder, book))
    }

    const CONTENTS: (&str, &str) = (
        "docs/SUMMARY.md",
        "[Home](../README.md)\n\n- [A](deep/a.md)\n",
    );

    #[test]
    fn a_link_to_a_page_stays_and_one_to_a_file_leads_to_its_page() -> Result<()> {
        let (_folder, book) = book(&[
            CONTENTS,
            (
                "README.md",
                "[a](docs/deep/a.md#b), [c](wit), [out](https://example.com)",
            ),
            (
                "docs/deep/a.md",
                "# B\n`[x](y)` [wit/a.wit](../../wit/a.wit) ![](p.svg) [home](../../README.md)",
            ),
            ("docs/deep/p.svg", "<svg/>"),
            ("wit/a.wit", "world"),
            ("wit/.hidden", ""),
        ])?;
        let text = |path: &str| fs::read_to_string(book.join(path));
        assert_eq!(
            text("README.md")?,
            "[a](docs/deep/a.md#b), [c](wit.md), [out](https://example.com)"
        );
        assert_eq!(
            text("docs/deep/a.md")?,
            "# B\n`[x](y)` [wit/a.wit](../../wit/a.wit.md) ![](p.svg) [home](../../README.md)"
        );
        assert_eq!(text("wit.md")?, "# wit\n\n- [a.wit](wit/a.wit.md)\n");
        assert_eq!(
            text("wit/a.wit.md")?,
            "# wit/a.wit\n\n~~~~~~~~wit\nworld\n~~~~~~~~\n"
        );
        assert_eq!(
            text("SUMMARY.md")?,
            "[Home](README.md)\n\n- [A](docs/deep/a.md)\n- [Files](files.md)\n  - [wit](wit.md)\n  - \
             [wit/a.wit](wit/a.wit.md)\n"
        );
        assert!(book.join("docs/deep/p.svg").exists());
        Ok(())
    }

    #[test]
    fn a_link_that_cannot_be_a_page_names_its_document() -> Result<()> {
        for (link, told) in [
            ("../../none.rs", "none.rs, which is not there"),
            (
                "b.md",
                "docs/deep/b.md, which is no page: add that to docs/SUMMARY.md",
            ),
            ("../../../out.rs", "the link leads out of the project"),
        ] {
            let error = book(&[
                CONTENTS,
                ("README.md", ""),
                ("docs/deep/a.md", &format!("[x]({link})")),
                ("docs/deep/b.md", ""),
            ]);
            let error = error.err().context("the link must be found")?;
            let error = format!("{error:#}");
            assert!(error.contains("docs/deep/a.md"), "{error}");
            assert!(error.contains(told), "{error}");
        }
        Ok(())
    }
}
