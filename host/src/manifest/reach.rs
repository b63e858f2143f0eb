//! What a manifest lets its plugin reach beyond the plugin itself: files that the node can read, and
//! addresses that only the node's network has.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// Returns what a manifest reaches, each with its key. A text that is no manifest reaches nothing.
pub(crate) fn reach(text: &str) -> BTreeSet<String> {
    let manifest: Table = text.parse().unwrap_or_default();
    let table = |key: &str| manifest.get(key).and_then(Value::as_table);
    let settings = table("config").into_iter().flatten();
    let settings = settings.filter_map(|(name, value)| {
        let file = value.get("file")?.as_str()?;
        Some(format!("config.{name} = {file}"))
    });
    let keys = table("jwt").into_iter().flatten();
    let keys = keys.filter_map(|(name, value)| {
        let file = value.as_str().filter(|_| name.ends_with("_file"))?;
        Some(format!("jwt.{name} = {file}"))
    });
    let private = table("http").and_then(|http| http.get("allow_private"));
    let private = private.and_then(Value::as_array).into_iter().flatten();
    let private = private.map(|host| format!("http.allow_private = {host}"));
    settings.chain(keys).chain(private).collect()
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
