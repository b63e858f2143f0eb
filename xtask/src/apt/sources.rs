//! The machine's own apt sources, read to learn where its Debian mirror is and which key
//! signs it. No mirror's address stands in this project: a machine reaches the one it uses.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// One entry of the machine's sources, of either format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// Keyring, fingerprint or the key itself; without it apt takes its general keys.
    signed_by: Option<String>,
}

/// Debian's two archives. Mirrors often carry them at different addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Archive {
    Main,
    Security,
}

/// An address that may have one of Debian's archives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mirror {
    uri: String,
    signed_by: Option<String>,
}

/// Reads every source list apt reads.
pub(crate) fn of_this_machine() -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for file in source_files(Path::new("/etc/apt")) {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension() == Some(OsStr::new("sources")) {
            true => sources.extend(parse_deb822(&text)),
            false => sources.extend(parse_lines(&text)),
        }
    }
    ensure!(
        !sources.is_empty(),
        "there is no package source in /etc/apt/sources.list or /etc/apt/sources.list.d"
    );
    Ok(sources)
}

/// The addresses among `sources` that may have `archive`. Others than Debian name their
/// suites as Debian does, so what is returned is to be tried; the signature tells.
pub(crate) fn mirrors(sources: &[Source], archive: Archive) -> Vec<Mirror> {
    let mut mirrors = Vec::new();
    for source in sources.iter().filter(|source| source.may_have(archive)) {
        for uri in source.uris.iter().filter(|uri| !uri.starts_with("cdrom:")) {
            let mirror = Mirror {
                uri: uri.clone(),
                signed_by: source.signed_by.clone(),
            };
            if !mirrors.contains(&mirror) {
                mirrors.push(mirror);
            }
        }
    }
    mirrors
}

impl Mirror {
    /// A source of `suite` at this mirror, for a file that ends in `.sources`.
    pub(crate) fn stanza(&self, suite: &str) -> String {
        let Self { uri, signed_by } = self;
        let key = signed_by
            .as_ref()
            .map(|key| format!("Signed-By: {key}\n"))
            .unwrap_or_default();
        format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n{key}")
    }
}

impl Source {
    fn may_have(&self, archive: Archive) -> bool {
        let is_security = |suite: &String| suite.ends_with("-security");
        self.components.iter().any(|component| component == "main")
            && match archive {
                Archive::Main => !self.suites.iter().all(is_security),
                Archive::Security => self.suites.iter().any(is_security),
            }
    }
}

fn source_files(apt: &Path) -> Vec<PathBuf> {
    let parts = fs::read_dir(apt.join("sources.list.d"))
        .into_iter()
        .flatten();
    let mut files: Vec<_> = parts.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "list" || extension == "sources")
    });
    files.sort();
    files.insert(0, apt.join("sources.list"));
    files
}

/// Reads the format of one line an entry: `deb [signed-by=/key] URI SUITE COMPONENT…`.
fn parse_lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line
        .strip_prefix("deb")?
        .strip_prefix([' ', '\t'])?
        .trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned),
    })
}

/// Reads the format of one stanza an entry (deb822).
fn parse_deb822(text: &str) -> Vec<Source> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .filter_map(parse_stanza)
        .collect()
}

fn parse_stanza(lines: &[&str]) -> Option<Source> {
    let words = |name| {
        field(lines, name)
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    let types: Vec<String> = words("Types");
    let is_off = field(lines, "Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    if is_off || !types.iter().any(|kind| kind == "deb") {
        return None;
    }
    let signed_by = field(lines, "Signed-By");
    Some(Source {
        uris: words("URIs"),
        suites: words("Suites"),
        components: words("Components"),
        signed_by,
    })
}

/// The value of a stanza's field, with the lines that continue it: a key may stand there whole.
fn field(lines: &[&str], name: &str) -> Option<String> {
    let is_continued = |line: &&&str| line.starts_with([' ', '\t']);
    let value = |line: &str| {
        let (found, value) = line.split_once(':')?;
        found
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    };
    let (start, first) = lines
        .iter()
        .enumerate()
        .find_map(|(number, line)| Some((number, value(line)?)))?;
    let continued = lines[start + 1..].iter().take_while(is_continued);
    Some(continued.fold(first, |value, line| value + "\n" + line))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "Types: deb
# where the image was made
URIs: https://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

types: deb deb-src
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQENBFJhQ

Enabled: no
Types: deb
URIs: https://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: https://source.example/debian
Suites: bookworm
Components: main
";

    fn addresses(sources: &[Source], archive: Archive) -> Vec<String> {
        mirrors(sources, archive)
            .into_iter()
            .map(|mirror| mirror.uri)
            .collect()
    }

    #[test]
    fn stanzas_that_are_off_or_of_sources_do_not_count() {
        let sources = parse_deb822(IMAGE);
        assert_eq!(
            addresses(&sources, Archive::Main),
            ["https://mirror.example/debian"]
        );
        assert_eq!(
            addresses(&sources, Archive::Security),
            ["https://mirror.example/debian-security"]
        );
    }

    #[test]
    fn a_key_is_carried_over_as_it_stands() {
        let sources = parse_deb822(IMAGE);
        let main = mirrors(&sources, Archive::Main)[0].stanza("trixie-backports");
        assert_eq!(
            main,
            "Types: deb\nURIs: https://mirror.example/debian\nSuites: trixie-backports\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        );
        let security = mirrors(&sources, Archive::Security)[0].stanza("bookworm-security");
        assert!(
            security
                .ends_with("Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQENBFJhQ\n"),
            "{security}"
        );
    }

    #[test]
    fn lines_with_and_without_options_are_read() {
        let sources = parse_lines(
            "# deb https://commented.example/debian bookworm main
deb https://mirror.example/debian bookworm main contrib # the nearest
deb-src https://source.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/company.gpg] https://security.example/debian bookworm-security main
deb cdrom:[Debian_12]/ bookworm main
deb https://other.example/apt cloud stable
",
        );
        assert_eq!(
            addresses(&sources, Archive::Main),
            ["https://mirror.example/debian"]
        );
        assert_eq!(
            mirrors(&sources, Archive::Security),
            [Mirror {
                uri: "https://security.example/debian".to_owned(),
                signed_by: Some("/etc/apt/keyrings/company.gpg".to_owned())
            }]
        );
    }

    #[test]
    fn a_mirror_named_twice_is_tried_once() {
        let line = "deb https://mirror.example/debian bookworm main\n";
        assert_eq!(
            addresses(&parse_lines(&line.repeat(2)), Archive::Main).len(),
            1
        );
    }
}
