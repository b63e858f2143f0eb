//! What a manifest lets its plugin reach beyond the plugin itself: files that the node can read, and
//! addresses that only the node's network has.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// A file that a manifest names: the key that names it, and the path as it is written.
pub(crate) struct NamedFile {
    pub(crate) key: String,
    pub(crate) path: String,
}

/// Returns what a manifest reaches, each with its key. A text that is no manifest reaches nothing.
pub(crate) fn reach(text: &str) -> BTreeSet<String> {
    let manifest: Table = text.parse().unwrap_or_default();
    let private = table(&manifest, "http").and_then(|http| http.get("allow_private"));
    let private = private.and_then(Value::as_array).into_iter().flatten();
    let private = private.map(|host| format!("http.allow_private = {host}"));
    let files = files_of(&manifest);
    let files = files.map(|NamedFile { key, path }| format!("{key} = {path}"));
    files.chain(private).collect()
}

/// Returns the files that a manifest names. A text that is no manifest names none.
pub(crate) fn named_files(text: &str) -> Vec<NamedFile> {
    files_of(&text.parse().unwrap_or_default()).collect()
}

fn files_of(manifest: &Table) -> impl Iterator<Item = NamedFile> {
    let settings = table(manifest, "config").into_iter().flatten();
    let settings = settings.filter_map(|(name, value)| {
        let path = value.get("file")?.as_str()?;
        Some(NamedFile {
            key: format!("config.{name}"),
            path: path.to_owned(),
        })
    });
    let keys = table(manifest, "jwt").into_iter().flatten();
    let keys = keys.filter_map(|(name, value)| {
        let path = value.as_str().filter(|_| name.ends_with("_file"))?;
        Some(NamedFile {
            key: format!("jwt.{name}"),
            path: path.to_owned(),
        })
    });
    settings.chain(keys)
}

fn table<'a>(manifest: &'a Table, key: &str) -> Option<&'a Table> {
    manifest.get(key).and_then(Value::as_table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_manifest_can_reach_is_found() {
        let text = "[config]\na = 'b'\nkey = { file = 'chat.key' }\n\
                    [jwt]\njwks_file = '/etc/keys'\nuid_claim = 'a_file'\n\
                    [http]\nallow = ['api.example']\nallow_private = ['10.0.0.1']\n";
        let expected = [
            "config.key = chat.key",
            "http.allow_private = \"10.0.0.1\"",
            "jwt.jwks_file = /etc/keys",
        ];
        let found = reach(text);
        assert!(found.iter().eq(expected.iter()), "{found:?}");
        assert!(reach("jwt = false").is_empty());
        assert!(reach("no manifest").is_empty());
    }
}
