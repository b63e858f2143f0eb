//! The builds that the plugins of a node have had, on disk: a build that fails is replaced by the one
//! before, which is not in the plugins folder any more.
//!
//! Each plugin has a folder, with a folder for each build, named after its digest. It has the
//! component and the manifest. A build that was taken back has a file beside it that says so, so that
//! a restart does not load it again.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::build_mark::BuildMark;
use super::generation::Digest;
use super::load::PluginFiles;
use crate::file;
use crate::limits::{COMPONENT_BYTES, KEPT_BUILDS, KEPT_BUILDS_BYTES, MANIFEST_BYTES};
use crate::registry::ms_since_1970;

/// The names of the files of a build, in its folder.
pub(super) const COMPONENT: &str = "plugin.wasm";
pub(super) const MANIFEST: &str = "plugin.toml";

/// The beginning of the name of a folder whose build is not kept yet.
pub(super) const STAGED: &str = ".new-";

/// The age of such a folder after which nobody will keep its build.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// The builds of a node's plugins.
pub(super) struct Builds {
    /// The folder of the builds; none if the node keeps none.
    folder: Option<PathBuf>,
    /// The builds that were taken back while the node ran, by the name of their plugin.
    refused: Mutex<BTreeSet<(String, Digest)>>,
    /// Held while it is written which builds were taken back.
    writing: Mutex<()>,
}

/// A build that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBuild {
    /// The digest of the build.
    pub digest: [u8; 32],
    /// The bytes of its component.
    pub bytes: u64,
    /// The last time when it was loaded, in milliseconds since 1970.
    pub loaded_at_ms: u64,
    /// Why it was taken back, if it was.
    pub taken_back: Option<String>,
}

/// The error for digits that name no build, or several.
#[derive(Debug, thiserror::Error)]
#[error(
    "no kept build of {plugin:?} {what}: `jackfield plugins builds {plugin}` lists the builds that are \
     kept"
)]
pub struct UnknownBuild {
    plugin: String,
    what: String,
}

impl UnknownBuild {
    /// No build of the plugin begins with these digits; no digits: there is none but the one that
    /// runs.
    pub(super) fn new(plugin: &str, digits: Option<&str>) -> UnknownBuild {
        let what = match digits {
            None => "ran before this one and was not taken back".to_owned(),
            Some(digits) => {
                let digits: String = digits.chars().take(64).collect();
                format!("has a digest that begins with {digits:?}")
            }
        };
        let plugin = plugin.to_owned();
        UnknownBuild { plugin, what }
    }
}

/// A build that is written and not kept yet.
pub(super) struct StagedBuild {
    folder: TempDir,
    kept: PathBuf,
    digest: Digest,
}

impl Builds {
    /// The builds in this folder, which need not exist.
    pub(super) fn new(folder: Option<PathBuf>) -> Builds {
        Builds {
            folder,
            refused: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    /// Writes a build. It is kept once it has been loaded.
    ///
    /// # Errors
    ///
    /// The build cannot be written.
    pub(super) fn stage(
        &self,
        plugin: &str,
        files: &PluginFiles,
    ) -> io::Result<Option<StagedBuild>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let plugin_folder = folder.join(plugin);
        file::create_private_folder(&plugin_folder)?;
        let kept = plugin_folder.join(HEXLOWER.encode(&files.digest));
        // Only this user may read it: a manifest may have secrets.
        let private = Permissions::from_mode(0o700);
        let staged = tempfile::Builder::new()
            .prefix(STAGED)
            .permissions(private)
            .tempdir_in(&plugin_folder)?;
        if !kept.join(COMPONENT).exists() {
            fs::write(staged.path().join(COMPONENT), &files.component)?;
            if let Some(text) = &files.text {
                fs::write(staged.path().join(MANIFEST), text)?;
            }
        }
        Ok(Some(StagedBuild {
            folder: staged,
            kept,
            digest: files.digest,
        }))
    }

    /// Returns the component and the manifest of a build.
    ///
    /// # Errors
    ///
    /// The build is not there, or cannot be read.
    pub(super) fn read(
        &self,
        plugin: &str,
        digest: &Digest,
    ) -> io::Result<(Vec<u8>, Option<String>)> {
        read_build(&self.build(plugin, digest)?)
    }

    /// Returns the manifest of a build, if it has one.
    ///
    /// # Errors
    ///
    /// The manifest cannot be read.
    pub(super) fn manifest(&self, plugin: &str, digest: &Digest) -> io::Result<Option<String>> {
        read_manifest(&self.build(plugin, digest)?)
    }

    fn build(&self, plugin: &str, digest: &Digest) -> io::Result<PathBuf> {
        let folder = self.folder.as_ref();
        let folder = folder.ok_or_else(|| io::Error::other("the node keeps no builds"))?;
        Ok(folder.join(plugin).join(HEXLOWER.encode(digest)))
    }

    /// Returns the build of a plugin that was loaded last, apart from this one, from those that were
    /// taken back, and from those that have only been canaries.
    pub(super) fn last(&self, plugin: &str, except: Option<&Digest>) -> Option<Digest> {
        let builds = kept(&self.folder.as_ref()?.join(plugin)).ok()?;
        let digests = builds.into_iter().rev().map(|(_, digest, _)| digest);
        digests
            .filter(|digest| Some(digest) != except)
            .find(|digest| !self.is_refused(plugin, digest) && !self.is_canary(plugin, digest))
    }

    /// Returns the builds of a plugin, those that were loaded last first.
    ///
    /// # Errors
    ///
    /// The folder of the builds cannot be read.
    pub(super) fn all(&self, plugin: &str) -> io::Result<Vec<KeptBuild>> {
        let Some(folder) = &self.folder else {
            return Ok(Vec::new());
        };
        let folder = folder.join(plugin);
        let builds = match kept(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            builds => builds?,
        };
        let all = builds.into_iter().rev().map(|(loaded_at, digest, bytes)| {
            let reason = || BuildMark::Refused.text(&folder, &digest);
            KeptBuild {
                digest,
                bytes,
                loaded_at_ms: ms_since_1970(loaded_at),
                taken_back: self.is_refused(plugin, &digest).then(reason),
            }
        });
        Ok(all.collect())
    }

    /// Returns the build of a plugin whose digest begins with these hexadecimal digits.
    ///
    /// # Errors
    ///
    /// There is no such build, or there are several.
    pub(super) fn find(&self, plugin: &str, digits: &str) -> Result<Digest, UnknownBuild> {
        let builds = self.all(plugin).unwrap_or_default();
        let begins = |build: &&KeptBuild| {
            let digest = HEXLOWER.encode(&build.digest);
            digest.starts_with(&digits.to_ascii_lowercase()) && !digits.is_empty()
        };
        match *builds.iter().filter(begins).collect::<Vec<_>>() {
            [only] => Ok(only.digest),
            [] => Err(UnknownBuild::new(plugin, Some(digits))),
            [..] => Err(UnknownBuild {
                plugin: plugin.to_owned(),
                what: format!("alone has a digest that begins with {digits:?}"),
            }),
        }
    }

    /// Takes back that a build was taken back, as long as the node runs.
    pub(super) fn accept(&self, plugin: &str, digest: &Digest) {
        self.refused.lock().remove(&(plugin.to_owned(), *digest));
    }

    /// Records that a build was taken back, as long as the node runs.
    pub(super) fn refuse(&self, plugin: &str, digest: &Digest) {
        self.refused.lock().insert((plugin.to_owned(), *digest));
    }

    /// Records on disk whether a build was taken back, as it is known now, with the reason.
    pub(super) fn record(&self, plugin: &str, digest: &Digest, reason: &str) {
        let Some(folder) = &self.folder else { return };
        let folder = folder.join(plugin);
        // The last one that writes knows what is so.
        let _writing = self.writing.lock();
        let is_refused = self.refused.lock().contains(&(plugin.to_owned(), *digest));
        let written = match is_refused {
            true => BuildMark::Refused.set(&folder, digest, reason),
            false => BuildMark::Refused.remove(&folder, digest),
        };
        if let Err(error) = written {
            let folder = folder.display();
            tracing::warn!(
                plugin, %folder, %error,
                "which build was taken back cannot be written: a restart may load another one"
            );
        }
    }

    /// Records on disk that a build is a canary. It must not look as if it had run for all clients.
    ///
    /// # Errors
    ///
    /// That cannot be written.
    pub(super) fn begin_canary(&self, plugin: &str, digest: &Digest) -> io::Result<()> {
        match &self.folder {
            Some(folder) => BuildMark::Canary.set(&folder.join(plugin), digest, ""),
            None => Ok(()),
        }
    }

    /// Records on disk that a build that was a canary is for all clients.
    ///
    /// # Errors
    ///
    /// That cannot be written.
    pub(super) fn promote(&self, plugin: &str, digest: &Digest) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        BuildMark::Canary.remove(&folder.join(plugin), digest)
    }

    /// Returns whether a build is kept that has run for all clients.
    pub(super) fn has_run_for_all(&self, plugin: &str, digest: &Digest) -> bool {
        let build = self.build(plugin, digest);
        build.is_ok_and(|build| build.join(COMPONENT).exists()) && !self.is_canary(plugin, digest)
    }

    fn has(&self, mark: BuildMark, plugin: &str, digest: &Digest) -> bool {
        let folder = self.folder.as_ref();
        folder.is_some_and(|folder| mark.is_there(&folder.join(plugin), digest))
    }

    fn is_canary(&self, plugin: &str, digest: &Digest) -> bool {
        self.has(BuildMark::Canary, plugin, digest)
    }

    /// Returns whether a build was taken back.
    pub(super) fn is_refused(&self, plugin: &str, digest: &Digest) -> bool {
        let is_written = || self.has(BuildMark::Refused, plugin, digest);
        self.refused.lock().contains(&(plugin.to_owned(), *digest)) || is_written()
    }
}

impl StagedBuild {
    /// Keeps a build that has been loaded, and removes the oldest ones of the plugin beyond the
    /// limits, but none of those that are `needed`. A canary is none to go back to.
    ///
    /// # Errors
    ///
    /// The build cannot be kept.
    pub(super) fn keep(self, needed: &[Digest], is_canary: bool) -> io::Result<()> {
        let StagedBuild {
            folder,
            kept,
            digest,
        } = self;
        let Some(plugin_folder) = kept.parent() else {
            return Ok(());
        };
        if !is_canary {
            BuildMark::Canary.remove(plugin_folder, &digest)?;
        }
        let is_written = folder.path().join(COMPONENT).exists();
        if is_written && !kept.join(COMPONENT).exists() {
            let written = folder.keep();
            if let Err(error) = fs::rename(&written, &kept) {
                let _ = fs::remove_dir_all(&written);
                // Another node that has the same folder may have been quicker.
                if !kept.join(COMPONENT).exists() {
                    return Err(error);
                }
            }
            // It can be gone back to at once, and a slow disk comes after that.
            for name in [COMPONENT, MANIFEST] {
                match File::open(kept.join(name)) {
                    Ok(file) => file.sync_all()?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        // The one that was loaded last is the newest.
        File::open(&kept)?.set_modified(SystemTime::now())?;
        remove_abandoned(plugin_folder)?;
        let builds = self::kept(plugin_folder)?;
        let (mut number, mut bytes) = (0, 0);
        for (_, digest, size) in builds.iter().rev() {
            number += 1;
            bytes += size;
            let is_beyond = number > KEPT_BUILDS || bytes > KEPT_BUILDS_BYTES;
            // The newest one, and the one to go back to, are kept in any case.
            if is_beyond && number > 1 && !needed.contains(digest) {
                fs::remove_dir_all(plugin_folder.join(HEXLOWER.encode(digest)))?;
                BuildMark::Canary.remove(plugin_folder, digest)?;
            }
        }
        Ok(())
    }
}

/// Reads the component and the manifest in the folder of a build.
///
/// # Errors
///
/// The build is not there, or cannot be read.
pub(super) fn read_build(build: &Path) -> io::Result<(Vec<u8>, Option<String>)> {
    let component = file::read(&build.join(COMPONENT), COMPONENT_BYTES)?;
    Ok((component, read_manifest(build)?))
}

fn read_manifest(build: &Path) -> io::Result<Option<String>> {
    match file::read_text(&build.join(MANIFEST), MANIFEST_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Removes what a process has staged that was killed.
fn remove_abandoned(plugin_folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(plugin_folder)? {
        let entry = entry?;
        let name = entry.file_name();
        // What is received or staged at the same time may be gone by now.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(STAGED.as_bytes()) && age > ABANDONED {
            match metadata.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
    }
    Ok(())
}

/// Returns the builds of a plugin, those that were loaded last at the end, with their sizes.
fn kept(plugin_folder: &Path) -> io::Result<Vec<(SystemTime, Digest, u64)>> {
    let mut builds = Vec::new();
    for entry in fs::read_dir(plugin_folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let digest = HEXLOWER.decode(name.as_encoded_bytes()).ok();
        if let Some(digest) = digest.and_then(|digest| digest.try_into().ok()) {
            // Another node may just have removed it.
            let component = entry.path().join(COMPONENT).metadata();
            if let (Ok(component), Ok(build)) = (component, entry.metadata()) {
                builds.push((build.modified()?, digest, component.len()));
            }
        }
    }
    builds.sort_unstable();
    Ok(builds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PluginLimits;

    fn files(component: &[u8], manifest: Option<&str>) -> PluginFiles {
        let (text, path) = (manifest.map(str::to_owned), Path::new("chat.wasm"));
        PluginFiles::new(component.to_vec(), text, path, &PluginLimits::default())
    }

    fn keep(builds: &Builds, files: &PluginFiles, needed: Option<&Digest>) {
        let staged = builds.stage("chat", files).expect("a folder to write to");
        let needed: Vec<_> = needed.into_iter().copied().collect();
        let kept = staged.expect("a folder").keep(&needed, false);
        kept.expect("it is kept");
    }

    /// Makes a build older than all others, since times of files may be equal.
    fn age(folder: &Path, files: &PluginFiles, seconds: u64) {
        let build = folder.join("chat").join(HEXLOWER.encode(&files.digest));
        let time = SystemTime::now() - Duration::from_secs(seconds);
        let set = File::open(build).and_then(|build| build.set_modified(time));
        set.expect("the time is set");
    }

    #[test]
    fn what_is_kept_is_read_again_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let builds = Builds::new(Some(folder.path().to_owned()));
        let (one, other) = (files(b"one", None), files(b"other", Some("# a manifest")));
        keep(&builds, &one, None);
        age(folder.path(), &one, 10);
        keep(&builds, &other, None);
        let builds = Builds::new(Some(folder.path().to_owned()));
        let read = |files: &PluginFiles| builds.read("chat", &files.digest).expect("a build");
        assert_eq!(read(&one), (b"one".to_vec(), None));
        let manifest = Some("# a manifest".to_owned());
        assert_eq!(read(&other), (b"other".to_vec(), manifest));
        assert_eq!(builds.last("chat", None), Some(other.digest));
        assert_eq!(builds.last("chat", Some(&other.digest)), Some(one.digest));
        assert_eq!(builds.last("shop", None), None);
        // A manifest may have secrets.
        let build = folder
            .path()
            .join("chat")
            .join(HEXLOWER.encode(&other.digest));
        let mode = fs::metadata(build).expect("a build").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_build_that_was_taken_back_stays_so_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (files(b"one", None), files(b"other", None));
        for folder in [None, Some(folder.path().to_owned())] {
            let builds = Builds::new(folder);
            builds.refuse("chat", &other.digest);
            builds.record("chat", &other.digest, "5 of 50 events failed");
            assert!(builds.is_refused("chat", &other.digest));
            assert!(!builds.is_refused("chat", &one.digest));
            assert!(!builds.is_refused("shop", &other.digest));
        }
        let builds = Builds::new(Some(folder.path().to_owned()));
        keep(&builds, &one, None);
        age(folder.path(), &one, 10);
        keep(&builds, &other, None);
        assert!(builds.is_refused("chat", &other.digest));
        assert_eq!(builds.last("chat", None), Some(one.digest));
        let taken_back = builds.all("chat").expect("builds").remove(0).taken_back;
        assert_eq!(taken_back.as_deref(), Some("5 of 50 events failed"));
        // Until somebody wants it again.
        builds.accept("chat", &other.digest);
        builds.record("chat", &other.digest, "");
        let builds = Builds::new(Some(folder.path().to_owned()));
        assert!(!builds.is_refused("chat", &other.digest));
    }

    #[test]
    fn the_first_digits_name_a_build_if_they_name_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let builds = Builds::new(Some(folder.path().to_owned()));
        // Of seventeen, two begin with the same digit.
        for number in 0..17u8 {
            let build = files(&[number], None);
            let written = folder
                .path()
                .join("chat")
                .join(HEXLOWER.encode(&build.digest));
            fs::create_dir_all(&written).expect("a folder");
            fs::write(written.join(COMPONENT), [number]).expect("a component");
        }
        let wanted = files(&[7], None).digest;
        let digits = HEXLOWER.encode(&wanted);
        let found = |digits: &str| builds.find("chat", digits).ok();
        assert_eq!(found(&digits), Some(wanted));
        assert_eq!(found(&digits[..16]), Some(wanted));
        assert_eq!(found(&digits.to_uppercase()), Some(wanted));
        assert_eq!(found(""), None);
        assert_eq!(builds.find("shop", &digits).ok(), None);
        let digit = |digit: u32| char::from_digit(digit, 16).expect("a digit").to_string();
        let errors = (0..16).filter_map(|number| builds.find("chat", &digit(number)).err());
        let alone = errors.filter(|error| error.to_string().contains("alone has a digest"));
        assert!(alone.count() > 0);
    }

    #[test]
    fn the_oldest_builds_are_removed_but_not_the_good_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let builds = Builds::new(Some(folder.path().to_owned()));
        let all: Vec<_> = (0..3 * KEPT_BUILDS)
            .map(|number| files(&number.to_le_bytes(), None))
            .collect();
        for (number, files) in all.iter().enumerate() {
            keep(&builds, files, Some(&all[0].digest));
            age(folder.path(), files, 1_000 - number as u64);
        }
        let is_kept = |files: &&PluginFiles| builds.read("chat", &files.digest).is_ok();
        assert!(is_kept(&&all[0]));
        assert_eq!(all.iter().filter(is_kept).count(), KEPT_BUILDS + 1);
        assert!(all[2 * KEPT_BUILDS..].iter().all(|files| is_kept(&files)));
    }

    #[test]
    fn beyond_the_bytes_builds_are_removed_and_so_is_what_a_killed_process_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let builds = Builds::new(Some(folder.path().to_owned()));
        let all = [b"1", b"2", b"3"].map(|component| files(component, None));
        let path = |files: &PluginFiles| {
            let name = HEXLOWER.encode(&files.digest);
            folder.path().join("chat").join(name)
        };
        let [abandoned, staged] = ["old", "new"].map(|name| format!("{STAGED}{name}"));
        let [abandoned, staged] =
            [abandoned, staged].map(|name| folder.path().join("chat").join(name));
        for (number, files) in all.iter().enumerate() {
            keep(&builds, files, None);
            // A file with a hole takes no room.
            let component = File::options()
                .write(true)
                .open(path(files).join(COMPONENT));
            let grown = component.and_then(|file| file.set_len(KEPT_BUILDS_BYTES * 2 / 5));
            grown.expect("a large file");
            age(folder.path(), files, 1_000 - number as u64);
            fs::create_dir_all(&abandoned).expect("a folder");
        }
        fs::create_dir(&staged).expect("a folder");
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        let aged = File::open(&abandoned).and_then(|folder| folder.set_modified(long_ago));
        aged.expect("the time is set");
        keep(&builds, &all[2], None);
        assert_eq!(
            all.each_ref().map(|files| path(files).exists()),
            [false, true, true]
        );
        assert_eq!([abandoned.exists(), staged.exists()], [false, true]);
    }

    #[test]
    fn a_canary_is_none_to_go_back_to_until_it_has_run_for_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let builds = Builds::new(Some(folder.path().to_owned()));
        let (stable, canary) = (files(b"stable", None), files(b"canary", None));
        keep(&builds, &stable, None);
        age(folder.path(), &stable, 10);
        let keep_canary = || {
            let begun = builds.begin_canary("chat", &canary.digest);
            begun.expect("it is written");
            let staged = builds.stage("chat", &canary).expect("a folder");
            let kept = staged.expect("a folder").keep(&[], true);
            kept.expect("it is kept");
        };
        keep_canary();
        let again = Builds::new(Some(folder.path().to_owned()));
        assert_eq!(again.last("chat", None), Some(stable.digest));
        let has_run = |files: &PluginFiles| again.has_run_for_all("chat", &files.digest);
        assert!(has_run(&stable) && !has_run(&canary) && !has_run(&files(b"other", None)));
        let promoted = again.promote("chat", &canary.digest);
        promoted.expect("it is written");
        assert!(has_run(&canary));
        assert_eq!(again.last("chat", None), Some(canary.digest));
        // It may begin as a canary again, and then run for all at once.
        keep_canary();
        assert!(!has_run(&canary));
        keep(&builds, &canary, None);
        assert!(has_run(&canary));
    }
}
