//! The folders that a node's plugins need.

use std::path::Path;

/// The folders of a node's plugins.
#[derive(Clone, Copy, Debug)]
pub struct PluginFolders<'a> {
    /// The folder that the plugins come from.
    pub plugins: &'a Path,
    /// The folder for the builds that they have had. With an empty path, it is in the folder for
    /// compiled components.
    pub builds: &'a Path,
}

/// The builds are in the folder for compiled components.
impl<'a> From<&'a Path> for PluginFolders<'a> {
    fn from(plugins: &'a Path) -> PluginFolders<'a> {
        PluginFolders {
            plugins,
            builds: Path::new(""),
        }
    }
}
