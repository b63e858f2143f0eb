//! The plugins folder of a replay: the build, and its manifest without what has no place in a replay.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data_encoding::BASE64URL_NOPAD;
use tempfile::TempDir;
use toml::{Table, Value};

use crate::author::sources;
use crate::file;
use crate::manifest::named_files;

/// The largest manifest, in bytes.
const MANIFEST_BYTES: u64 = 1 << 20;

/// The bytes of the secret that signs tokens.
const SECRET_BYTES: usize = 32;

/// What a manifest has and a replay has not: requests go to nobody, the steps come as fast as they are
/// handled, the connections have no certificates, and there is one build.
const LEFT_OUT: [&str; 3] = ["http", "require_client_certificate", "rollout"];

/// The keys of keys for tokens. A replay signs the tokens itself.
const TOKEN_KEYS: [&str; 3] = ["secret_file", "key_file", "jwks_file"];

/// The plugins folder of one build. It is removed when this is dropped.
pub(super) struct ReplayFolder {
    folder: TempDir,
}

impl ReplayFolder {
    /// Makes the folder.
    ///
    /// # Errors
    ///
    /// The component or the manifest cannot be read.
    pub(super) fn create(
        plugin: &str,
        component: &Path,
        manifest: Option<&Path>,
    ) -> anyhow::Result<ReplayFolder> {
        let replay = ReplayFolder {
            folder: tempfile::tempdir().context("a folder for the replay")?,
        };
        let beside = component.with_extension("toml");
        let manifest = manifest.or(Some(&*beside).filter(|beside| beside.is_file()));
        let text = match manifest {
            None => String::new(),
            Some(path) => file::read_text(path, MANIFEST_BYTES)
                .with_context(|| format!("the manifest {}", path.display()))?,
        };
        let written = for_replay(&text, replay.secret())
            .with_context(|| format!("the manifest of {}", component.display()))?;
        let from = manifest.and_then(Path::parent).unwrap_or(Path::new("."));
        for named in named_files(&written) {
            replay.link(from, Path::new(&named.path))?;
        }
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).context("no randomness")?;
        sources::write(&replay.secret(), BASE64URL_NOPAD.encode(&secret).as_bytes())?;
        let path = replay.plugins().join(plugin);
        sources::write(&path.with_extension("toml"), written.as_bytes())?;
        let bytes = std::fs::read(component);
        let bytes = bytes.with_context(|| format!("the component {}", component.display()))?;
        sources::write(&path.with_extension("wasm"), &bytes)?;
        Ok(replay)
    }

    /// The plugins folder.
    pub(super) fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// The file with the secret that signs tokens.
    pub(super) fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// Lets a file that the manifest names be found. One that is missing is said by the node.
    fn link(&self, from: &Path, named: &Path) -> anyhow::Result<()> {
        let to = from.join(named);
        let (Ok(to), false) = (to.canonicalize(), named.is_absolute()) else {
            return Ok(());
        };
        let link = self.plugins().join(named);
        // A path that leads out of the folder may lead anywhere.
        let failed = || format!("the file {} of the manifest", named.display());
        if let Some(folder) = link.parent() {
            std::fs::create_dir_all(folder).with_context(failed)?;
        }
        symlink(to, link).with_context(failed)
    }
}

/// The manifest for a replay, whose tokens are signed with the secret in a file.
fn for_replay(text: &str, secret: PathBuf) -> anyhow::Result<String> {
    let mut manifest: Table = text.parse()?;
    for key in LEFT_OUT {
        manifest.remove(key);
    }
    if let Some(limits) = manifest.get_mut("limits").and_then(Value::as_table_mut) {
        limits.retain(|key, _| !key.contains("per_second"));
    }
    if let Some(jwt) = manifest.get_mut("jwt").and_then(Value::as_table_mut) {
        for key in TOKEN_KEYS {
            jwt.remove(key);
        }
        let secret = secret.to_string_lossy().into_owned();
        jwt.insert("secret_file".to_owned(), secret.into());
    }
    Ok(manifest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_signs_its_own_tokens_and_asks_nobody() {
        let text = "subprotocols = ['chat']\n[http]\nallow = ['example.com']\n\
                    [limits]\nmessages_per_second_per_plugin = 5\nevent_timeout = '1s'\n\
                    [jwt]\njwks_file = 'keys.json'\naudience = 'chat'\n[config]\nroom = 'hall'\n";
        let written = for_replay(text, "/tmp/secret".into()).expect("a manifest");
        let expected: Table = "subprotocols = ['chat']\n[limits]\nevent_timeout = '1s'\n\
                               [jwt]\nsecret_file = '/tmp/secret'\naudience = 'chat'\n\
                               [config]\nroom = 'hall'\n"
            .parse()
            .expect("a table");
        assert_eq!(written.parse::<Table>(), Ok(expected));
        assert_eq!(for_replay("", "/tmp/secret".into()).expect("nothing"), "");
        for_replay("no manifest", "/tmp/secret".into()).expect_err("wrong");
    }
}
