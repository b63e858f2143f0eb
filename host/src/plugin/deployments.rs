//! The deployments that a node knows, on disk: a build that was deployed runs again after a restart,
//! whatever the plugins folder has.
//!
//! They are in the folder of the kept builds. Of each plugin there is a file with the last deployment,
//! and the folder of its build, named after the digest. A build without such a file is one that the
//! node had prepared when it was killed; the next deployment removes it.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use parking_lot::Mutex;
use prost::Message as _;
use sha2::Digest as _;
use tempfile::{NamedTempFile, TempDir};

use super::builds::{COMPONENT, MANIFEST, STAGED, read_build};
use super::generation::Digest;
use super::load::content_digest;
use crate::file;
use crate::limits::COMPONENT_BYTES;
use crate::manifest::fits_a_path;
use crate::mesh::deployment::{Deployment, LastDeployments};

/// The name of the file with the last deployment of a plugin.
const LAST: &str = "deployment";

/// The beginning of the name of the folder of a deployed build.
const BUILD: &str = "deployment-";

/// The most bytes of the file with a deployment.
const RECORD_BYTES: u64 = 256 << 10;

/// The deployments that a node knows, and their builds.
pub(super) struct Deployments {
    /// The folder of the kept builds; none if the node keeps none.
    folder: Option<PathBuf>,
    known: Mutex<LastDeployments>,
    /// How many attempts use each build.
    in_use: Mutex<BTreeMap<BuildName, usize>>,
    /// Held while a deployment is written.
    writing: Mutex<()>,
}

/// A plugin, and the digest of a build of it.
type BuildName = (String, Vec<u8>);

/// A build that an attempt uses. When the last attempt is over, and it is not deployed, it is removed.
pub(super) struct UsedBuild {
    deployments: Arc<Deployments>,
    name: BuildName,
}

impl Drop for UsedBuild {
    fn drop(&mut self) {
        self.deployments.stop_using(&self.name);
    }
}

/// A build that is being received, in a folder of its own.
pub struct ReceivedBuild {
    folder: TempDir,
    plugin_folder: PathBuf,
}

impl Deployments {
    /// Reads the deployments in the folder of the kept builds, which need not exist.
    pub(super) fn open(folder: Option<PathBuf>) -> Deployments {
        let known = folder.as_deref().map(read_all).unwrap_or_default();
        Deployments {
            folder,
            known: Mutex::new(known),
            in_use: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    /// Whether the node can keep deployments.
    pub(super) fn are_kept(&self) -> bool {
        self.folder.is_some()
    }

    /// Returns the last deployment of a plugin, also if it was withdrawn.
    pub(super) fn last(&self, plugin: &str) -> Option<Deployment> {
        self.known.lock().get(plugin).cloned()
    }

    /// Returns the deployment of a plugin, unless it was withdrawn.
    pub(super) fn get(&self, plugin: &str) -> Option<Deployment> {
        self.last(plugin)
            .filter(|deployment| !deployment.is_withdrawn())
    }

    /// Returns the last deployments of all plugins, also those that were withdrawn.
    pub(super) fn all(&self) -> Vec<Deployment> {
        self.known.lock().all()
    }

    /// Returns whether a deployment counts more than the one that is known.
    pub(super) fn is_newer(&self, deployment: &Deployment) -> bool {
        self.known.lock().is_newer(deployment)
    }

    /// Takes a deployment that counts more than the one before, and writes it to the disk. Returns
    /// whether it does.
    ///
    /// # Errors
    ///
    /// The deployment cannot be written. It counts as long as the node runs if `is_decided`, and not
    /// at all otherwise.
    pub(super) fn take(&self, deployment: &Deployment, is_decided: bool) -> io::Result<bool> {
        let _writing = self.writing.lock();
        if !self.is_newer(deployment) {
            return Ok(false);
        }
        let written = match &self.folder {
            Some(_) => self.write(deployment),
            None => Ok(()),
        };
        if written.is_ok() || is_decided {
            self.known.lock().note(deployment);
        }
        written.map(|()| true)
    }

    /// Begins to receive a build of a plugin.
    ///
    /// # Errors
    ///
    /// The node keeps no builds, or nothing can be written.
    pub(super) fn receive(&self, plugin: &str) -> io::Result<ReceivedBuild> {
        let plugin_folder = self.plugin_folder(plugin)?;
        file::create_private_folder(&plugin_folder)?;
        // Only this user may read it: a manifest may have secrets.
        let folder = tempfile::Builder::new()
            .prefix(STAGED)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&plugin_folder)?;
        File::create(folder.path().join(COMPONENT))?;
        Ok(ReceivedBuild {
            folder,
            plugin_folder,
        })
    }

    /// Returns whether the build of a deployment is here.
    pub(super) fn has(&self, deployment: &Deployment) -> bool {
        let build = self.build(&deployment.plugin, &deployment.digest);
        build.is_ok_and(|build| build.join(COMPONENT).exists())
    }

    /// Returns the component and the manifest of a deployment. A build that is damaged is removed.
    ///
    /// # Errors
    ///
    /// The build is not here, is damaged, or cannot be read.
    pub(super) fn read(&self, deployment: &Deployment) -> io::Result<(Vec<u8>, Option<String>)> {
        let build = self.build(&deployment.plugin, &deployment.digest)?;
        let (component, manifest) = read_build(&build)?;
        let text = manifest.as_deref().unwrap_or_default();
        if content_digest(&component, text.as_bytes()).finalize()[..] != deployment.digest {
            fs::remove_dir_all(&build)?;
            let why = "the build that was deployed is damaged";
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        Ok((component, manifest))
    }

    /// Returns a part of the component and the manifest, one after the other, of at most `most`
    /// bytes.
    ///
    /// # Errors
    ///
    /// The build is not here, or cannot be read.
    pub(super) fn read_part(
        &self,
        plugin: &str,
        digest: &[u8],
        offset: u64,
        most: usize,
    ) -> io::Result<Bytes> {
        let build = self.build(plugin, digest)?;
        let mut component = File::open(build.join(COMPONENT))?;
        let bytes = component.metadata()?.len();
        let mut part = Vec::with_capacity(most);
        if offset < bytes {
            component.seek(SeekFrom::Start(offset))?;
            component.take(most as u64).read_to_end(&mut part)?;
        } else {
            let mut manifest = File::open(build.join(MANIFEST))?;
            manifest.seek(SeekFrom::Start(offset - bytes))?;
            manifest.take(most as u64).read_to_end(&mut part)?;
        }
        Ok(part.into())
    }

    /// Says that an attempt uses a build, until what is returned is dropped.
    pub(super) fn use_build(self: &Arc<Self>, plugin: &str, digest: &[u8]) -> UsedBuild {
        let name = (plugin.to_owned(), digest.to_vec());
        *self.in_use.lock().entry(name.clone()).or_default() += 1;
        UsedBuild {
            deployments: self.clone(),
            name,
        }
    }

    fn stop_using(&self, name: &BuildName) {
        let _writing = self.writing.lock();
        let mut in_use = self.in_use.lock();
        let uses = in_use.entry(name.clone()).or_default();
        *uses = uses.saturating_sub(1);
        if *uses > 0 {
            return;
        }
        in_use.remove(name);
        let (plugin, digest) = name;
        let is_deployed = self.last(plugin).is_some_and(|last| last.has_build(digest));
        if let Ok(build) = self.build(plugin, digest)
            && !is_deployed
        {
            let _ = fs::remove_dir_all(build);
        }
    }

    /// Writes a deployment, and removes the builds of those before.
    fn write(&self, deployment: &Deployment) -> io::Result<()> {
        let plugin = &*deployment.plugin;
        let plugin_folder = self.plugin_folder(plugin)?;
        file::create_private_folder(&plugin_folder)?;
        let mut record = NamedTempFile::with_prefix_in(STAGED, &plugin_folder)?;
        record.write_all(&deployment.encode_to_vec())?;
        record.as_file().sync_all()?;
        record.persist(plugin_folder.join(LAST))?;
        // It is written: what follows must not make it look as if it were not.
        if let Err(error) = File::open(&plugin_folder).and_then(|folder| folder.sync_all()) {
            tracing::warn!(plugin, %error, "a deployment may be lost if the machine loses its power now");
        }
        if let Err(error) = self.remove_others(&plugin_folder, deployment) {
            tracing::warn!(plugin, %error, "the builds of earlier deployments cannot be removed");
        }
        Ok(())
    }

    /// Removes the builds of a plugin but this one and those that are in use.
    fn remove_others(&self, plugin_folder: &Path, deployment: &Deployment) -> io::Result<()> {
        for entry in fs::read_dir(plugin_folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let digest = name.as_encoded_bytes().strip_prefix(BUILD.as_bytes());
            let Some(digest) = digest.and_then(|digest| HEXLOWER.decode(digest).ok()) else {
                continue;
            };
            let is_deployed = deployment.has_build(&digest);
            let name = (deployment.plugin.clone(), digest);
            if !is_deployed && !self.in_use.lock().contains_key(&name) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn plugin_folder(&self, plugin: &str) -> io::Result<PathBuf> {
        let folder = self.folder.as_ref();
        let folder = folder.ok_or_else(|| io::Error::other("the node keeps no builds (builds)"))?;
        match fits_a_path(plugin) {
            true => Ok(folder.join(plugin)),
            false => Err(io::Error::other(
                "the plugin's name can't be part of a path",
            )),
        }
    }

    fn build(&self, plugin: &str, digest: &[u8]) -> io::Result<PathBuf> {
        let name = format!("{BUILD}{}", HEXLOWER.encode(digest));
        Ok(self.plugin_folder(plugin)?.join(name))
    }
}

impl ReceivedBuild {
    /// The file that the component is written to.
    pub fn component(&self) -> PathBuf {
        self.folder.path().join(COMPONENT)
    }

    /// Writes the manifest.
    ///
    /// # Errors
    ///
    /// The manifest cannot be written.
    pub fn write_manifest(&self, manifest: &[u8]) -> io::Result<()> {
        match manifest {
            [] => Ok(()),
            manifest => fs::write(self.folder.path().join(MANIFEST), manifest),
        }
    }

    /// Reads the manifest; empty: there is none.
    ///
    /// # Errors
    ///
    /// The manifest cannot be read.
    pub(super) fn manifest(&self) -> io::Result<Vec<u8>> {
        match fs::read(self.folder.path().join(MANIFEST)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        }
    }

    /// Puts what was received to the other builds, if it is the `wanted` one. Returns its digest, and
    /// the bytes of the component and of the manifest.
    ///
    /// # Errors
    ///
    /// The build is another one, or cannot be read or moved.
    pub(super) fn end(
        self,
        plugin: &str,
        wanted: Option<&[u8]>,
        deployments: &Arc<Deployments>,
    ) -> io::Result<(UsedBuild, Digest, u64, u64)> {
        let component = file::read(&self.component(), COMPONENT_BYTES)?;
        let manifest = self.manifest()?;
        let digest: Digest = content_digest(&component, &manifest).finalize().into();
        if wanted.is_some_and(|wanted| digest != *wanted) {
            return Err(io::Error::other("what came from the other node is damaged"));
        }
        // What is deployed must be whole, also after the machine has lost its power.
        File::open(self.component())?.sync_all()?;
        if !manifest.is_empty() {
            File::open(self.folder.path().join(MANIFEST))?.sync_all()?;
        }
        File::open(self.folder.path())?.sync_all()?;
        let used = deployments.use_build(plugin, &digest);
        let name = format!("{BUILD}{}", HEXLOWER.encode(&digest));
        let build = self.plugin_folder.join(name);
        let received = self.folder.keep();
        if let Err(error) = fs::rename(&received, &build) {
            let _ = fs::remove_dir_all(&received);
            // It is here already.
            if !build.join(COMPONENT).exists() {
                return Err(error);
            }
        }
        File::open(&self.plugin_folder)?.sync_all()?;
        Ok((used, digest, component.len() as u64, manifest.len() as u64))
    }
}

/// Reads the deployments in a folder. One that cannot be read is logged, and other nodes tell it
/// again.
fn read_all(folder: &Path) -> LastDeployments {
    let mut all = LastDeployments::default();
    let Ok(entries) = fs::read_dir(folder) else {
        return all;
    };
    for entry in entries.flatten() {
        let path = entry.path().join(LAST);
        let read = match file::read(&path, RECORD_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.and_then(|bytes| Ok(Deployment::decode(&*bytes)?)),
        };
        match read {
            Ok(deployment) if *deployment.plugin == *entry.file_name() => {
                all.note(&deployment);
            }
            Ok(_) => {}
            Err(error) => {
                let path = path.display();
                tracing::error!(%path, %error, "a deployment cannot be read: the plugins folder counts");
            }
        }
    }
    all
}
