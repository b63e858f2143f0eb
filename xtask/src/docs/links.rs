//! Whether a site leads where it says: each link of each page to a file of the site that is there, and
//! to a place in it that has this name. What a page loads must be the site's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What has been checked.
pub(crate) struct Checked {
    pub(crate) pages: usize,
    pub(crate) links: usize,
}

/// Checks the pages of the site `folder`. Those in the folders `others` are led to, and are
/// checked by whoever made them.
pub(crate) fn check(folder: &Path, others: &[&str]) -> Result<Checked> {
    let mut pages = BTreeMap::new();
    read(folder, folder, others, &mut pages)?;
    let (mut links, mut broken) = (0, Vec::new());
    for (path, page) in &pages {
        for link in &page.links {
            links += 1;
            if let Err(why) = leads(folder, path, link, &pages) {
                broken.push(format!("{}: {link}: {why:#}", path.display()));
            }
        }
        let foreign = page.loads.iter().filter(|address| is_foreign(address));
        broken.extend(foreign.map(|address| format!("{}: it loads {address}", path.display())));
    }
    ensure!(links > 0, "there are no links: are the pages read?");
    ensure!(
        broken.is_empty(),
        "links that lead nowhere:\n  {}",
        broken.join("\n  ")
    );
    Ok(Checked {
        pages: pages.len(),
        links,
    })
}

/// The names of places in a page, its links, and what it loads.
#[derive(Default)]
struct Page {
    names: BTreeSet<String>,
    links: Vec<String>,
    loads: Vec<String>,
}

fn read(
    root: &Path,
    folder: &Path,
    others: &[&str],
    pages: &mut BTreeMap<PathBuf, Page>,
) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.strip_prefix(root)?;
        if path.is_dir() {
            if !others.iter().any(|other| name == Path::new(other)) {
                read(root, &path, others, pages)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "html") {
            let page = Page::of(&fs::read_to_string(&path)?);
            pages.insert(path, page);
        }
    }
    Ok(())
}

fn leads(folder: &Path, from: &Path, link: &str, pages: &BTreeMap<PathBuf, Page>) -> Result<()> {
    if is_foreign(link) || link.starts_with("mailto:") {
        return Ok(());
    }
    let (file, name) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => from.to_owned(),
        file => from.with_file_name(file),
    };
    let target = target.canonicalize().context("no such file")?;
    ensure!(
        target.starts_with(folder.canonicalize()?),
        "outside the site"
    );
    ensure!(target.is_file(), "a folder");
    if let Some(page) = pages.get(&target).filter(|_| !name.is_empty()) {
        ensure!(page.names.contains(name), "no such place");
    }
    Ok(())
}

fn is_foreign(address: &str) -> bool {
    address.contains("://") || address.starts_with("//")
}

impl Page {
    fn of(html: &str) -> Page {
        let mut page = Page::default();
        let mut rest = html;
        while let Some((tag, after)) = next_tag(rest) {
            rest = after;
            let element = tag.split_whitespace().next().unwrap_or_default();
            for (name, value) in attributes(tag) {
                match (element, name) {
                    (_, "id") => drop(page.names.insert(unescaped(value))),
                    ("a", "href") => page.links.push(unescaped(value)),
                    (_, "href" | "src") => page.loads.push(unescaped(value)),
                    _ => {}
                }
            }
            // What is in a script is no tag.
            if let "script" | "style" = element
                && let Some(end) = rest.find(&format!("</{element}"))
            {
                rest = &rest[end..];
            }
        }
        page.links.extend(page.loads.iter().cloned());
        page
    }
}

/// The inside of the next tag or comment, and what comes after it.
fn next_tag(html: &str) -> Option<(&str, &str)> {
    let inside = &html[html.find('<')? + 1..];
    let end = if inside.starts_with("!--") {
        "-->"
    } else {
        ">"
    };
    inside.split_once(end)
}

/// The attributes of a tag that have values in quotes. mdBook writes no others with a name of interest.
fn attributes(tag: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = tag;
    std::iter::from_fn(move || {
        let (before, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        rest = after;
        Some((before.split_whitespace().next_back()?, value))
    })
}

fn unescaped(value: &str) -> String {
    let text = value.replace("&quot;", "\"").replace("&#39;", "'");
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(pages: &[(&str, &str)]) -> Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        for (path, text) in pages {
            crate::file::put(&folder.path().join(path), text.as_bytes())?;
        }
        Ok(folder)
    }

    #[test]
    fn links_that_lead_somewhere_are_counted() -> Result<()> {
        let folder = site(&[
            (
                "a.html",
                r##"<script src="x.js">if (1 < 2) "<a href='no.html'>"</script>
                    <h1 id="top"><a class="header" href="#top">A</a></h1>
                    <a href="b/c.html#d&amp;e">c</a> <a href="https://example.com">out</a>"##,
            ),
            ("b/c.html", r#"<p id="d&amp;e"> <a href="../a.html">a</a>"#),
            ("rust/index.html", r#"<a href="nowhere.html">not ours</a>"#),
            ("x.js", ""),
        ])?;
        let checked = check(&folder.path().canonicalize()?, &["rust"])?;
        assert_eq!((checked.pages, checked.links), (2, 5));
        Ok(())
    }

    #[test]
    fn each_way_to_lead_nowhere_is_told() -> Result<()> {
        for (page, told) in [
            (r#"<a href="b.html">"#, "b.html: no such file"),
            (r##"<a href="#b">"##, "#b: no such place"),
            (r#"<a href="folder">"#, "folder: a folder"),
            (r#"<a href="../../etc">"#, ": "),
            (
                r#"<link href="https://example.com/a.css">"#,
                "it loads https://example.com/a.css",
            ),
            ("<p>", "there are no links"),
        ] {
            let folder = site(&[("a.html", page), ("folder/x.txt", "")])?;
            let error = check(&folder.path().canonicalize()?, &[]).err();
            let error = error.context("the link must be found")?.to_string();
            assert!(error.contains(told), "{page}: {error}");
        }
        Ok(())
    }
}
