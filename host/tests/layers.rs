//! Keeps two rules of the house true, by reading the sources: a room uses only rooms to its
//! right in the order that `lib.rs` gives, and each heavy crate has one home.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where each heavy crate may be named.
const HOMES: [(&str, &[&str]); 13] = [
    ("wasmtime", &["plugin"]),
    ("wasmtime_wasi", &["plugin"]),
    ("wasmtime_wasi_http", &["plugin"]),
    ("tokio_rustls", &["plugin"]),
    ("webpki_roots", &["plugin"]),
    ("redb", &["plugin"]),
    ("redis", &["plugin"]),
    ("jsonwebtoken", &["plugin"]),
    ("tungstenite", &["client"]),
    ("hyper", &["client", "plugin"]),
    ("tonic", &["mesh", "admin"]),
    ("axum", &["admin"]),
    ("figment", &["config"]),
];

#[test]
fn a_room_uses_only_rooms_to_its_right() {
    let columns = columns();
    let mut seen = 0;
    for (room, file, text) in sources() {
        for used in uses(&text) {
            let Some(to) = columns.get(&used) else {
                panic!(
                    "{}: {used} has no place in the order of lib.rs",
                    file.display()
                )
            };
            seen += 1;
            let from = columns[&room];
            let allowed = used == room || to > &from || (to == &from && to == &last(&columns));
            assert!(allowed, "{}: {room} must not use {used}", file.display());
        }
    }
    assert!(
        seen > 50,
        "only {seen} uses were found: is this test still reading the sources?"
    );
}

#[test]
fn every_room_has_a_place() {
    let columns = columns();
    for (room, file, _) in sources() {
        assert!(
            columns.contains_key(&room),
            "{}: no place for {room} in lib.rs",
            file.display()
        );
    }
}

#[test]
fn each_heavy_crate_has_one_home() {
    for (name, homes) in HOMES {
        let mut found = false;
        for (room, file, text) in sources() {
            let named = code(&text).any(|line| {
                line.contains(&format!("{name}::")) && !line.contains(&format!("_{name}::"))
            });
            found |= named;
            let at_home = homes.contains(&room.as_str());
            assert!(
                !named || at_home,
                "{}: {name} lives in {homes:?}",
                file.display()
            );
        }
        assert!(
            found,
            "{name} is nowhere: is this test still reading the sources?"
        );
    }
}

/// Each room's column in the order line of `lib.rs`: `a → b → c · d`, where `c` and `d` share
/// the last column and may use each other.
fn columns() -> BTreeMap<String, usize> {
    let lib = read(&root().join("lib.rs"));
    let order = lib
        .lines()
        .find(|line| line.contains(" → "))
        .expect("an order in lib.rs");
    let order = order.trim_start_matches("//!");
    let mut columns = BTreeMap::new();
    for (column, rooms) in order.split('→').enumerate() {
        columns.extend(
            rooms
                .split('·')
                .map(|room| (room.trim().to_owned(), column)),
        );
    }
    columns
}

fn last(columns: &BTreeMap<String, usize>) -> usize {
    columns.values().copied().max().unwrap_or_default()
}

/// The rooms that a text names by `crate::ROOM`.
fn uses(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for line in code(text) {
        for part in line.split("crate::").skip(1) {
            let end = part
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(part.len());
            rooms.push(part[..end].to_owned());
        }
    }
    rooms
}

fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// Each source file but `lib.rs` and `main.rs`, with its room.
fn sources() -> Vec<(String, PathBuf, String)> {
    let mut sources = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // Pages stand beside the code that serves them.
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let within = path.strip_prefix(root()).expect("within the sources");
            let first = within.components().next().expect("a name").as_os_str();
            let room = first.to_string_lossy().trim_end_matches(".rs").to_owned();
            if room != "lib" && room != "main" {
                sources.push((room, path.clone(), read(&path)));
            }
        }
    }
    sources
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a source file")
}
