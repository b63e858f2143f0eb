//! Keeps three rules of the house true, by reading the sources: a room uses only rooms to its
//! right in the order that `lib.rs` gives, the files of a room do not import each other in a
//! circle, and each heavy crate has one home.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where each heavy crate may be named.
const HOMES: [(&str, &[&str]); 22] = [
    ("wasmtime", &["guest"]),
    ("wasmtime_wasi", &["guest"]),
    ("wasmtime_wasi_http", &["guest"]),
    (
        "tokio_rustls",
        &[
            "guest",
            "keyvalue",
            "mesh",
            "authorities",
            "certificates",
            "socket",
        ],
    ),
    ("webpki_roots", &["authorities"]),
    ("redb", &["keyvalue"]),
    ("redis", &["keyvalue"]),
    ("jsonwebtoken", &["access"]),
    ("oci_client", &["remote"]),
    ("tungstenite", &["author", "client"]),
    ("wit_component", &["author"]),
    ("include_dir", &["author"]),
    (
        "hyper",
        &[
            "author",
            "remote",
            "admin",
            "client",
            "guest",
            "certificates",
        ],
    ),
    ("tonic", &["mesh", "admin", "pending_connections", "tracer"]),
    ("opentelemetry", &["tracer"]),
    ("opentelemetry_sdk", &["tracer"]),
    ("opentelemetry_otlp", &["tracer"]),
    ("axum", &["admin"]),
    ("prometheus_client", &["admin"]),
    ("procfs", &["admin"]),
    ("figment", &["config"]),
    ("instant_acme", &["certificates"]),
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

/// A circle has no order in which its files could be read or tested by themselves.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let graph = imports::graph(&root());
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(
        edges > 300,
        "only {edges} imports were found: is this test still reading the sources?"
    );
    let circle = imports::circle(&graph);
    assert!(
        circle.is_none(),
        "a circle of imports: {}",
        circle.unwrap_or_default().join(" → ")
    );
}

#[test]
fn a_circle_is_found() {
    let module = |name: &str| vec![name.to_owned()];
    let graph = |edges: &[(&str, &[&str])]| {
        let edges = edges.iter().map(|(from, to)| {
            let to = to.iter().copied().map(module).collect();
            (module(from), to)
        });
        imports::circle(&edges.collect())
    };
    assert_eq!(
        graph(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]),
        None
    );
    let circle = graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["d", "b"]), ("d", &[])]);
    assert_eq!(circle.expect("a circle"), ["b", "c", "b"]);
}

/// The capabilities of a guest are views: whatever serves an interface has its own state.
#[test]
fn only_the_contract_is_served_by_the_guest_itself() {
    let mut served = Vec::new();
    for (_, file, text) in sources() {
        let serves = |line: &str| line.starts_with("impl ") && line.contains("Host for Guest");
        if code(&text).any(serves) {
            served.push(file.strip_prefix(root()).expect("within").to_owned());
        }
    }
    assert_eq!(served, [Path::new("guest/contract.rs")]);
}

/// Lines of a file, tests included. A longer one has a reason in its head.
const LINES: usize = 600;

#[test]
fn a_long_file_gives_its_reason() {
    for (_, file, text) in sources() {
        let lines = text.lines().count();
        let head = text.lines().take_while(|line| line.starts_with("//!"));
        let has_reason = head
            .fold(String::new(), |head, line| head + line)
            .contains("Long because");
        assert!(
            lines <= LINES || has_reason,
            "{}: {lines} lines, and no \"Long because\" in its head",
            file.display()
        );
    }
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
