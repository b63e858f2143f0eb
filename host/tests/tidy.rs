//! Keeps the words of the house, by reading the sources: one name has one meaning, words that were
//! retired stay so, and every doc comment is a sentence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names of the first draft, each with what the field calls it.
const RETIRED: [(&str, &str); 29] = [
    ("Errand", "RemoteEvent"),
    ("entrust", "dispatch"),
    ("Stay", "Registration"),
    ("stay_at", "register_with"),
    ("stay_in_etcd", "register_in_etcd"),
    ("Strangers", "PendingConnections"),
    ("Stranger", "Unauthenticated"),
    ("Whose", "EventClient"),
    ("Seldom", "LogThrottle"),
    ("News", "LastLogged"),
    ("Pulse", "Keepalive"),
    ("Beat", "Heartbeat"),
    ("Pace", "RateLimiter"),
    ("Door", "Acceptor, ApiListener"),
    ("Place", "AdmissionPermit, BucketId"),
    ("Cut", "CancellationToken"),
    ("seen_off", "draining_orphans"),
    ("keep_seeing_off", "drain_orphans"),
    ("close_door", "stop_accepting"),
    ("Farewell", "DrainReason"),
    ("turning", "transition"),
    ("happen", "emit"),
    ("Happened", "EventKind"),
    ("Held", "ClientState"),
    ("Kept", "PendingFrame"),
    ("Known", "TimerRecord, Authenticated"),
    ("Picture", "Snapshot"),
    ("tell_surely", "push_reliable"),
    ("Told", "PushOutcome"),
];

/// Type names with two meanings, each with its reason.
const TWICE: [(&str, &str); 0] = [];

/// What a sentence has at least.
const WORDS: usize = 4;

#[test]
fn retired_words_are_not_used_as_names() {
    for (file, text) in sources(&["src"]) {
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for (number, line) in code.enumerate() {
            for word in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
                let retired = RETIRED.iter().find(|(retired, _)| *retired == word);
                // In a text it is a word like others.
                let is_quoted = line.contains('"');
                assert!(
                    retired.is_none() || is_quoted,
                    "{}: {word} in line {number} of its code: say {}",
                    file.display(),
                    retired.map_or("", |(_, instead)| instead)
                );
            }
        }
    }
}

#[test]
fn no_type_name_is_defined_twice() {
    let mut defined: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for (file, text) in sources(&["src"]) {
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for line in code.lines() {
            // Of a trait's implementation, which has them within.
            if line.starts_with("        ") || line.starts_with("    type ") {
                continue;
            }
            let mut words = line
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(|word| !word.is_empty() && !["pub", "crate", "super", "in"].contains(word));
            if let (Some("struct" | "enum" | "trait" | "type"), Some(name)) =
                (words.next(), words.next())
            {
                defined
                    .entry(name.to_owned())
                    .or_default()
                    .push(file.clone());
            }
        }
    }
    assert!(
        defined.len() > 200,
        "is this test still reading the sources?"
    );
    for (name, files) in defined {
        let is_meant = TWICE.iter().any(|(twice, _)| *twice == name);
        assert!(
            files.len() == 1 || is_meant,
            "{name} is defined in {files:?}"
        );
    }
}

/// In a hover or in `cargo doc` the line above is not there.
#[test]
fn every_doc_comment_is_a_sentence() {
    let mut short = Vec::new();
    let mut comments = 0;
    for (file, text) in sources(&["src", "../guest-sdk/src"]) {
        let mut words = None;
        for (number, line) in text.lines().enumerate() {
            match line.trim_start().strip_prefix("///") {
                Some(more) => {
                    *words.get_or_insert(0) += more.split_whitespace().count();
                }
                None => {
                    comments += usize::from(words.is_some());
                    if words.take().is_some_and(|words| words < WORDS) {
                        short.push(format!("{}:{number}", file.display()));
                    }
                }
            }
        }
    }
    assert!(comments > 1_000, "is this test still reading the sources?");
    assert!(
        short.is_empty(),
        "fewer than {WORDS} words:\n{}",
        short.join("\n")
    );
}

/// The sources in these folders, from the host's on; not what is generated.
/// A file that a build has left in the folder of a template would be in every new project.
#[test]
fn what_is_within_the_program_is_in_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let listed = Command::new("git")
        .args(["ls-files", "-z", "guest-sdk", "wit"])
        .current_dir(root)
        .output()
        .expect("git runs");
    let listed = String::from_utf8(listed.stdout).expect("names are UTF-8");
    let listed: BTreeSet<_> = listed.split_terminator('\0').map(PathBuf::from).collect();
    // The sources may have come without their history.
    if !listed.is_empty() {
        let embedded: BTreeSet<_> = jackfield::author::embedded_files().into_iter().collect();
        assert_eq!(embedded, listed);
    }
}

fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let host = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> = folders.iter().map(|folder| host.join(folder)).collect();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("guest-sdk/src/bindings") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                sources.push((path, text));
            }
        }
    }
    sources
}
