//! The shipped plugins, built into the folder that a running node watches.
//!
//! A plugin's manifest and page are put there before its component, so that the node never
//! sees a new component with an old manifest; every file appears whole, and one whose
//! content is the same is not touched.

use anyhow::{Result, bail};

use crate::workspace::{Package, Workspace};
use crate::{component, file, wasm_target};

/// Builds the plugins in `names`, or all of them if it is empty.
pub(crate) fn build(workspace: &Workspace, names: &[String]) -> Result<()> {
    let plugins = select(workspace.plugins(), names)?;
    wasm_target::ensure(workspace)?;
    plugins
        .into_iter()
        .try_for_each(|plugin| build_one(workspace, plugin))
}

fn build_one(workspace: &Workspace, plugin: &Package) -> Result<()> {
    let built = component::build(workspace, plugin, None)?;
    let folder = workspace.plugin_folder();
    let manifest = format!("{}.toml", plugin.name);
    if plugin.folder.join(&manifest).exists() {
        file::copy(&plugin.folder.join(&manifest), &folder.join(&manifest))?;
    }
    let page = plugin.folder.join("page");
    if page.exists() {
        file::copy_folder(&page, &folder.join(&plugin.name))?;
    }
    component::install(
        workspace,
        &built,
        &folder.join(format!("{}.wasm", plugin.name)),
    )
}

fn select<'a>(plugins: Vec<&'a Package>, names: &[String]) -> Result<Vec<&'a Package>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| plugins.iter().all(|plugin| plugin.name != **name))
    {
        let known: Vec<_> = plugins.iter().map(|plugin| plugin.name.as_str()).collect();
        bail!(
            "there is no plugin `{unknown}` in plugins/; there are: {}",
            known.join(", ")
        );
    }
    let wanted = |plugin: &&Package| names.is_empty() || names.contains(&plugin.name);
    Ok(plugins.into_iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn plugin(name: &str) -> Package {
        Package {
            name: name.to_owned(),
            folder: PathBuf::new(),
            variants: Vec::new(),
        }
    }

    #[test]
    fn no_name_means_all_and_a_wrong_one_lists_the_right_ones() -> Result<()> {
        let (chat, echo) = (plugin("chat"), plugin("echo"));
        assert_eq!(select(vec![&chat, &echo], &[])?.len(), 2);
        let chosen = select(vec![&chat, &echo], &["echo".to_owned()])?;
        assert_eq!(
            chosen
                .iter()
                .map(|plugin| plugin.name.as_str())
                .collect::<Vec<_>>(),
            ["echo"]
        );
        let error = select(vec![&chat, &echo], &["ehco".to_owned()])
            .err()
            .map(|error| error.to_string());
        assert_eq!(
            error.as_deref(),
            Some("there is no plugin `ehco` in plugins/; there are: chat, echo")
        );
        Ok(())
    }
}
