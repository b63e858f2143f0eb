//! The code that a document shows is in the file that the comment before it names.

use anyhow::{Context as _, Result};

/// The languages whose code a tutorial or a recipe shows from a file, and never otherwise.
const LANGUAGES: [&str; 5] = ["rust", "ts", "python", "go", "c"];

#[test]
fn code_is_that_of_the_file_that_is_named() -> Result<()> {
    let (root, paths) = crate::project()?;
    let mut seen = 0;
    for path in paths
        .iter()
        .filter(|path| path.starts_with(root.join("docs")))
    {
        let name = path.strip_prefix(&root)?;
        let text = std::fs::read_to_string(path)?;
        let is_strict = name.starts_with("docs/cookbook") || name.starts_with("docs/tutorials");
        let mut before = "";
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(language) = line.strip_prefix("```") {
                let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
                let source = before
                    .strip_prefix("<!-- ")
                    .and_then(|rest| rest.strip_suffix(" -->"));
                if let Some(source) = source {
                    seen += 1;
                    let file = std::fs::read_to_string(root.join(source))
                        .with_context(|| format!("{}: {source}", name.display()))?;
                    let block = block.join("\n");
                    assert!(
                        file.contains(&block),
                        "{}: not in {source}:\n{block}",
                        name.display()
                    );
                } else {
                    let is_checked = !is_strict || !LANGUAGES.contains(&language);
                    assert!(
                        is_checked,
                        "{}: say which file this is from:\n{block:?}",
                        name.display()
                    );
                }
            }
            before = line;
        }
    }
    assert!(seen > 30, "{seen} blocks only: are they read?");
    Ok(())
}
