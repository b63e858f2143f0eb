//! A registry for OCI artifacts, Debian's `docker-registry`, in a process of its own.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context as _;
use oci_client::client::{
    Certificate, CertificateEncoding, ClientConfig, ClientProtocol, Config, ImageLayer,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::Authority;
use crate::process::{listens, own_address};

/// The user of a registry that asks for one, and the password.
pub const REGISTRY_USER: (&str, &str) = ("ci", "secret");

/// The same for the registry, the password as bcrypt has it.
const USERS: &str = "ci:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// The type of the configuration of a component.
pub const COMPONENT_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// A registry. It is killed when it is dropped.
pub struct OciRegistry {
    _process: Child,
    _folder: TempDir,
    address: SocketAddr,
    client: Client,
    auth: RegistryAuth,
}

impl OciRegistry {
    /// Starts one that anybody may use, without TLS.
    pub async fn start() -> anyhow::Result<OciRegistry> {
        OciRegistry::start_with(None).await
    }

    /// Starts one with a certificate of this authority, which asks for a user.
    pub async fn start_with(authority: Option<&Authority>) -> anyhow::Result<OciRegistry> {
        let folder = tempfile::tempdir()?;
        let address = own_address()?;
        let data = folder.path().join("data");
        let mut config = format!(
            "version: 0.1\nlog: {{ level: error }}\n\
             storage: {{ filesystem: {{ rootdirectory: '{}' }} }}\n\
             http:\n  addr: '{address}'\n  secret: 'of a test'\n",
            data.display()
        );
        let mut client = ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        };
        let mut auth = RegistryAuth::Anonymous;
        if let Some(authority) = authority {
            let issued = authority.issue("registry", &[&address.ip().to_string()])?;
            let users = folder.path().join("users");
            std::fs::write(&users, USERS)?;
            config.push_str(&format!(
                "  tls: {{ certificate: '{}', key: '{}' }}\n\
                 auth: {{ htpasswd: {{ realm: test, path: '{}' }} }}\n",
                issued.certificate.display(),
                issued.key.display(),
                users.display()
            ));
            client.protocol = ClientProtocol::Https;
            client.extra_root_certificates.push(Certificate {
                encoding: CertificateEncoding::Pem,
                data: std::fs::read(authority.file())?,
            });
            let (user, password) = REGISTRY_USER;
            auth = RegistryAuth::Basic(user.to_owned(), password.to_owned());
        }
        let file = folder.path().join("registry.yml");
        std::fs::write(&file, config)?;
        let spawned = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut process = spawned.context("apt-get install docker-registry")?;
        listens("docker-registry", &mut process, address).await?;
        // Somebody else may have done it.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        Ok(OciRegistry {
            _process: process,
            _folder: folder,
            address,
            client: Client::try_from(client)?,
            auth,
        })
    }

    /// Its host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts something there, as a team does it with its component, and returns its digest.
    pub async fn push(
        &self,
        name: &str,
        config_type: &str,
        component: Vec<u8>,
    ) -> anyhow::Result<String> {
        let reference: Reference = format!("{}/{name}", self.address).parse()?;
        let layer = ImageLayer::new(component, "application/wasm".to_owned(), None);
        let config = Config::new(b"{}".to_vec(), config_type.to_owned(), None);
        let pushed = self
            .client
            .push(&reference, &[layer], config, &self.auth, None)
            .await?;
        let digest = pushed.manifest_url.rsplit('/').next();
        Ok(digest.unwrap_or_default().to_owned())
    }
}
