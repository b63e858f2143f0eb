//! The plugins folder of a replay: the build, and its manifest without what has no place in a replay.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data_encoding::BASE64URL_NOPAD;
use tempfile::TempDir;
use toml::{Table, Value};

use crate::author::sources;
use crate::file;

/// The largest manifest, in bytes.
const MANIFEST_BYTES: u64 = 1 << 20;

/// The bytes of the secret that signs tokens.
const SECRET_BYTES: usize = 32;

/// What a manifest has and a replay has not: the connections have no certificates, and there is one build.
const LEFT_OUT: [&str; 2] = ["require_client_certificate", "rollout"];

/// The host to which requests may go. It can never be found (RFC 6761).
const NOBODY: &str = "replay.invalid";

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
        let from = manifest.and_then(Path::parent).unwrap_or(Path::new(""));
        let written = for_replay(&text, from, &replay.secret())
            .with_context(|| format!("the manifest of {}", component.display()))?;
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).context("no randomness")?;
        sources::write(&replay.secret(), BASE64URL_NOPAD.encode(&secret).as_bytes())?;
        let path = |ending| replay.plugins().join(format!("{plugin}.{ending}"));
        sources::write(&path("toml"), written.as_bytes())?;
        let bytes = std::fs::read(component);
        let bytes = bytes.with_context(|| format!("the component {}", component.display()))?;
        sources::write(&path("wasm"), &bytes)?;
        Ok(replay)
    }

    /// The path of the plugins folder.
    pub(super) fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// The file with the secret that signs tokens.
    pub(super) fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }
}

/// The manifest for a replay, whose tokens are signed with the secret in a file. The files that it names
/// are found from where it was.
fn for_replay(text: &str, from: &Path, secret: &Path) -> anyhow::Result<String> {
    let mut manifest: Table = text.parse()?;
    for key in LEFT_OUT {
        manifest.remove(key);
    }
    if let Some(limits) = table(&mut manifest, "limits") {
        // The steps come as fast as they are handled.
        limits.retain(|key, _| !key.contains("per_second"));
    }
    if let Some(http) = table(&mut manifest, "http") {
        *http = Table::from_iter([("allow".to_owned(), vec![NOBODY].into())]);
    }
    for setting in table(&mut manifest, "config").into_iter().flatten() {
        let file = setting.1.get_mut("file").filter(|file| file.is_str());
        if let Some(file) = file {
            let named = from.join(file.as_str().unwrap_or_default());
            let found = named.canonicalize();
            let found = found.with_context(|| format!("the file {}", named.display()))?;
            *file = found.to_string_lossy().into_owned().into();
        }
    }
    if let Some(jwt) = table(&mut manifest, "jwt") {
        for key in TOKEN_KEYS {
            jwt.remove(key);
        }
        let secret = secret.to_string_lossy().into_owned();
        jwt.insert("secret_file".to_owned(), secret.into());
    }
    Ok(manifest.to_string())
}

fn table<'a>(manifest: &'a mut Table, key: &str) -> Option<&'a mut Table> {
    manifest.get_mut(key).and_then(Value::as_table_mut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_signs_its_own_tokens_and_asks_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().canonicalize().expect("a path").join("key");
        std::fs::write(&key, "the key").expect("a file");
        let secret = Path::new("/tmp/secret");
        let text = "subprotocols = ['chat']\n[http]\nallow = ['example.com']\nallow_private = ['10.0.0.1']\n\
                    [limits]\nmessages_per_second_per_plugin = 5\nevent_timeout = '1s'\n\
                    [rollout]\npercent = 5\n[jwt]\njwks_file = 'keys.json'\naudience = 'chat'\n\
                    [config]\nroom = 'hall'\nkey = { file = 'key' }\n";
        let written = for_replay(text, folder.path(), secret).expect("a manifest");
        let expected = format!(
            "subprotocols = ['chat']\n[http]\nallow = ['replay.invalid']\n\
             [limits]\nevent_timeout = '1s'\n[jwt]\nsecret_file = '/tmp/secret'\naudience = 'chat'\n\
             [config]\nroom = 'hall'\nkey = {{ file = '{}' }}\n",
            key.display()
        );
        assert_eq!(written.parse::<Table>(), expected.parse::<Table>());
        assert_eq!(for_replay("", folder.path(), secret).expect("nothing"), "");
        for wrong in ["no manifest", "[config]\nkey = { file = 'nowhere' }\n"] {
            for_replay(wrong, folder.path(), secret).expect_err("wrong");
        }
    }
}
