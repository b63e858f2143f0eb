//! Components in an OCI registry, where teams keep them beside their images.
//!
//! The format is that of the CNCF's working group for WebAssembly
//! (<https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>): a manifest with a
//! configuration of its own type and one layer, which is the component.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::io::AsyncWriteExt as _;

use crate::authorities::{Authorities, provide_cryptography};
use crate::limits::COMPONENT_BYTES;

/// The beginning of a reference.
const SCHEME: &str = "oci://";

/// The type of the configuration of a component.
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";

/// The type of the layer with the component.
const COMPONENT_TYPE: &str = "application/wasm";

/// A component in a registry.
#[derive(Debug)]
pub(super) struct OciReference(Reference);

impl OciReference {
    /// Reads `oci://HOST/NAME:TAG` or `oci://HOST/NAME@DIGEST`; none: it is something else.
    ///
    /// # Errors
    ///
    /// What follows `oci://` is no reference.
    pub(super) fn parse(text: &str) -> anyhow::Result<Option<OciReference>> {
        let Some(reference) = text.strip_prefix(SCHEME) else {
            return Ok(None);
        };
        let parsed = reference.parse();
        let parsed = parsed.with_context(|| {
            format!("{text} is no reference: write oci://HOST/NAME:TAG or oci://HOST/NAME@DIGEST")
        })?;
        Ok(Some(OciReference(parsed)))
    }

    /// The last part of the name: that of the plugin, if nobody gives another one.
    pub(super) fn name(&self) -> &str {
        let repository = self.0.repository();
        repository.rsplit('/').next().unwrap_or(repository)
    }

    /// Writes the component to a file. Returns the reference with the digest in place of the tag: it
    /// always leads to these bytes.
    ///
    /// # Errors
    ///
    /// The registry cannot be reached, refuses, or has something else there.
    pub(super) async fn pull(&self, authority: &Path, file: &Path) -> anyhow::Result<String> {
        let OciReference(reference) = self;
        let asked = || format!("{SCHEME}{}", reference.whole());
        let (client, auth) = (client(reference, authority)?, credentials(reference)?);
        let pulled = client.pull_image_manifest(reference, &auth).await;
        let (manifest, digest) = pulled.with_context(asked)?;
        let types = manifest.layers.iter().map(|layer| &*layer.media_type);
        let types = types.collect::<Vec<_>>().join(", ");
        ensure!(
            manifest.config.media_type == CONFIG_TYPE,
            "{} is no component: its configuration is of the type {}, and not {CONFIG_TYPE}",
            asked(),
            manifest.config.media_type
        );
        let [layer] = &manifest.layers[..] else {
            bail!(
                "{} has {} layers, and not one",
                asked(),
                manifest.layers.len()
            );
        };
        ensure!(
            layer.media_type == COMPONENT_TYPE,
            "{} is no component: its layer is of the type {types}, and not {COMPONENT_TYPE}",
            asked()
        );
        ensure!(
            u64::try_from(layer.size).is_ok_and(|bytes| bytes <= COMPONENT_BYTES),
            "{} has {} bytes, more than the {COMPONENT_BYTES} that a component may have",
            asked(),
            layer.size
        );
        let mut written = tokio::fs::File::create(file).await?;
        // It is compared with its digest on the way.
        let pulled = client.pull_blob(reference, layer, &mut written).await;
        pulled.with_context(asked)?;
        written.flush().await?;
        let pinned = reference.clone_with_digest(digest);
        Ok(format!("{SCHEME}{}", pinned.whole()))
    }
}

/// A client of the registry. One on this machine is asked without TLS, as Docker does it.
fn client(reference: &Reference, authority: &Path) -> anyhow::Result<Client> {
    provide_cryptography();
    let host = reference.resolve_registry();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let address: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
    let is_here = name == "localhost" || address.is_some_and(|address| address.is_loopback());
    let mut config = ClientConfig {
        protocol: match is_here && authority.as_os_str().is_empty() {
            true => ClientProtocol::Http,
            false => ClientProtocol::Https,
        },
        // A component runs on each of them.
        platform_resolver: Some(Box::new(|entries| {
            entries.first().map(|entry| entry.digest.clone())
        })),
        ..ClientConfig::default()
    };
    if let Some(authorities) = Authorities::read("--registry-authority", authority)? {
        config.extra_root_certificates.push(Certificate {
            encoding: CertificateEncoding::Pem,
            data: authorities.pem,
        });
    }
    Ok(Client::try_from(config)?)
}

/// What `docker login` or `podman login` has left for the registry.
fn credentials(reference: &Reference) -> anyhow::Result<RegistryAuth> {
    use CredentialRetrievalError::{ConfigNotFound, ConfigReadError, NoCredentialConfigured};
    let registry = reference.resolve_registry();
    let found = docker_credential::get_credential(registry).or_else(|error| match error {
        ConfigNotFound | ConfigReadError | NoCredentialConfigured => {
            docker_credential::get_podman_credential(registry)
        }
        error => Err(error),
    });
    match found {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(RegistryAuth::Basic(user, password))
        }
        Ok(DockerCredential::IdentityToken(token)) => Ok(RegistryAuth::Bearer(token)),
        Err(ConfigNotFound | ConfigReadError | NoCredentialConfigured) => {
            Ok(RegistryAuth::Anonymous)
        }
        Err(error) => Err(error).context("what `docker login` has left cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_a_registry_a_plugin_and_a_build() {
        let name = |text: &str| {
            let reference = OciReference::parse(text).expect("a reference");
            reference.map(|reference| reference.name().to_owned())
        };
        assert_eq!(
            name("oci://registry.example/chat:1.2").as_deref(),
            Some("chat")
        );
        assert_eq!(
            name("oci://127.0.0.1:5000/team/chat").as_deref(),
            Some("chat")
        );
        let digest = "a".repeat(64);
        let pinned = format!("oci://registry.example/chat@sha256:{digest}");
        assert_eq!(name(&pinned).as_deref(), Some("chat"));
        assert_eq!(name("plugins/chat.wasm"), None);
        assert!(OciReference::parse("oci://registry.example/Chat Room").is_err());
    }
}
