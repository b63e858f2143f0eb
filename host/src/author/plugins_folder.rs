//! A plugins folder for one project: the component, the manifest, and links to the page and to the
//! files that the manifest names.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, ensure};
use data_encoding::BASE64URL_NOPAD;

use super::project::Project;
use super::sources;
use crate::file;
use crate::manifest::named_files;

/// The bytes of a secret that is made up.
const SECRET_BYTES: usize = 32;

/// The key of a manifest that names the secret of tokens.
pub(super) const SECRET_KEY: &str = "jwt.secret_file";

/// The plugins folder of a project.
pub(super) struct PluginsFolder {
    path: PathBuf,
}

impl PluginsFolder {
    /// Creates the folder, empty, within the project's folder for such things.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub(super) fn create(
        project: &Project,
        name: impl AsRef<Path>,
    ) -> anyhow::Result<PluginsFolder> {
        let path = project.scratch().join(name);
        let failed = || format!("the folder {}", path.display());
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(failed)?,
            _ => {}
        }
        std::fs::create_dir_all(&path).with_context(failed)?;
        // Nothing of it belongs into a repository.
        sources::write(&project.scratch().join(".gitignore"), b"*\n")?;
        Ok(PluginsFolder { path })
    }

    /// Returns the path of the folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the component.
    pub(super) fn component(&self, project: &Project) -> PathBuf {
        self.path.join(&project.name).with_extension("wasm")
    }

    /// Puts what was built into the folder, in the place of what was there.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub(super) fn put(&self, project: &Project) -> anyhow::Result<()> {
        let manifest = project.manifest()?;
        for file in named_files(&manifest) {
            self.link(project, &file.key, Path::new(&file.path))?;
        }
        if let Some(page) = project.page() {
            link(&page, &self.path.join(&project.name))?;
        }
        let component = std::fs::read(project.output());
        let component = component.with_context(|| format!("{}", project.output().display()))?;
        let path = self.component(project);
        // A component that needs a new manifest finds it there.
        sources::replace(&path.with_extension("toml"), manifest.as_bytes())?;
        sources::replace(&path, &component)
    }

    /// Lets a file of the project be found from this folder on. A secret for tokens that the project
    /// has not is made up: that of production need not be here.
    fn link(&self, project: &Project, key: &str, named: &Path) -> anyhow::Result<()> {
        if named.is_absolute() {
            return Ok(());
        }
        let is_within = named
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        ensure!(
            is_within && !named.starts_with(&project.name),
            "{key} is {}: name a file within the project, and not of its page",
            named.display()
        );
        let (own, here) = (project.folder.join(named), self.path.join(named));
        let file = match own.is_file() {
            true => own,
            false if key == SECRET_KEY => made_up_secret(project, named)?,
            // The node says that it is missing.
            false => return Ok(()),
        };
        if let Some(folder) = here.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        }
        link(&file, &here)
    }
}

/// Where the secret of a project is that the project has not itself.
pub(super) fn secret_in_scratch(project: &Project, named: &Path) -> PathBuf {
    project.scratch().join("secrets").join(named)
}

/// Makes a secret up, unless that was done before: tokens of an earlier run stay valid.
fn made_up_secret(project: &Project, named: &Path) -> anyhow::Result<PathBuf> {
    let path = secret_in_scratch(project, named);
    if path.exists() {
        return Ok(path);
    }
    let failed = || format!("{} cannot be written", path.display());
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).context("no randomness")?;
    if let Some(folder) = path.parent() {
        file::create_private_folder(folder).with_context(failed)?;
    }
    sources::write(&path, BASE64URL_NOPAD.encode(&secret).as_bytes())?;
    Ok(path)
}

/// Makes a link, in the place of one that is there.
fn link(to: &Path, link: &Path) -> anyhow::Result<()> {
    let failed = || format!("the link {}", link.display());
    if std::fs::read_link(link).is_ok_and(|now| now == to) {
        return Ok(());
    }
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(failed);
        }
        _ => {}
    }
    symlink(to, link).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_manifest_names_is_found_and_a_missing_secret_is_made_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            sources::write(&folder.path().join(name), text.as_bytes()).expect("a file");
        };
        write(
            "jackfield.toml",
            "[build]\ncommand = 'make'\noutput = 'out/room.wasm'",
        );
        write("out/room.wasm", "a component");
        write("keys/api", "the key");
        write("page/index.html", "the page");
        let manifest = "[config]\nkey = { file = 'keys/api' }\nother = { file = '/etc/hostname' }\n\
             [jwt]\nsecret_file = 'room.secret'\n";
        write("room.toml", manifest);
        let project = Project::open(folder.path().to_owned()).expect("a project");
        let plugins = PluginsFolder::create(&project, "plugins").expect("a folder");
        plugins.put(&project).expect("a plugin");
        let read = |name: &str| std::fs::read_to_string(plugins.path().join(name)).expect(name);
        assert_eq!(read("room.wasm"), "a component");
        assert_eq!(read("room.toml"), manifest);
        assert_eq!(read("keys/api"), "the key");
        assert_eq!(read("room/index.html"), "the page");
        let secret = read("room.secret");
        assert_eq!(secret.len(), 43);
        plugins.put(&project).expect("a plugin");
        assert_eq!(read("room.secret"), secret, "it stays the same");
        let again = PluginsFolder::create(&project, "plugins").expect("a folder");
        again.put(&project).expect("a plugin");
        assert_eq!(read("room.secret"), secret, "also in the next run");
        write("room.secret", "the project's own");
        plugins.put(&project).expect("a plugin");
        assert_eq!(read("room.secret"), "the project's own");
        std::fs::remove_file(folder.path().join("room.secret")).expect("a file");
        plugins.put(&project).expect("a plugin");
        assert_eq!(read("room.secret"), secret);
        assert!(!folder.path().join("room.secret").exists());
        assert_eq!(read("keys/api"), "the key");
    }

    #[test]
    fn nothing_is_linked_over_the_files_of_the_author() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            sources::write(&folder.path().join(name), text.as_bytes()).expect("a file");
        };
        write(
            "jackfield.toml",
            "[build]\ncommand = 'make'\noutput = 'room.wasm'",
        );
        write("room.wasm", "a component");
        write("keys/api", "the key");
        write("page/index.html", "the page");
        let project = Project::open(folder.path().to_owned()).expect("a project");
        let plugins = PluginsFolder::create(&project, "plugins").expect("a folder");
        for (manifest, why) in [
            ("[config]\na = { file = '../key' }", "within the project"),
            ("[jwt]\nsecret_file = 'room/secret'", "not of its page"),
        ] {
            write("room.toml", manifest);
            let error = plugins.put(&project).expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
        // A folder is no file, and what is in it stays.
        write(
            "room.toml",
            "[config]\na = { file = 'keys' }\nb = { file = 'keys/api' }",
        );
        for _ in 0..2 {
            plugins.put(&project).expect("a plugin");
        }
        let key = folder.path().join("keys/api");
        assert!(!key.is_symlink());
        assert_eq!(std::fs::read(&key).expect("a file"), b"the key");
        assert_eq!(
            folder
                .path()
                .join("page")
                .read_dir()
                .expect("a folder")
                .count(),
            1
        );
    }
}
