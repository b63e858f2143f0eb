//! What is wrong with a configuration, and can be said before a node starts.

use anyhow::Context as _;
use http::uri::Authority;

use crate::admin::ApiTokens;
use crate::certificates::Certificates;
use crate::config::{AcmeChallenge, Config, MeshConfig, Role};
use crate::mesh::{self, TlsFiles, Trust};
use crate::tracer::Collector;

/// Checks what a node would read at its start with this configuration. No port is opened, and
/// nothing is dialled.
///
/// # Errors
///
/// Returns an error when a file cannot be read or has the wrong content, or when values do not fit
/// each other.
pub fn check(config: &Config) -> anyhow::Result<()> {
    check_tls(config)?;
    if config.tls.is_used() {
        Certificates::check(&config.tls)?;
    }
    anyhow::ensure!(
        !(config.listen.is_empty() && config.tls.listen.is_empty()),
        NOWHERE
    );
    ApiTokens::check(&config.api_tokens)?;
    check_alone(&config.mesh)?;
    trust(&config.mesh)?;
    check_others(&config.mesh)?;
    config.unix_socket.check()?;
    Collector::read(&config.tracing)?;
    if config.role == Role::Full {
        let plugins = config.plugins.display();
        std::fs::read_dir(&config.plugins)
            .with_context(|| format!("the plugins folder {plugins} cannot be read"))?;
    }
    Ok(())
}

/// The error of a node that would have no clients.
pub(super) const NOWHERE: &str = "clients cannot connect anywhere: set listen, or tls.listen";

/// Checks that the settings for TLS have a port where they take effect, and that the origin to which
/// others are sent is one.
pub(super) fn check_tls(config: &Config) -> anyhow::Result<()> {
    let (tls, acme) = (&config.tls, &config.tls.acme);
    let host = tls.redirect.strip_prefix("https://");
    anyhow::ensure!(
        tls.redirect.is_empty() || host.is_some_and(|host| host.parse::<Authority>().is_ok()),
        "tls.redirect: {:?} is no origin: write it like https://chat.example.com",
        tls.redirect
    );
    let is_wanted = acme.is_used() || !tls.redirect.is_empty();
    anyhow::ensure!(
        tls.is_used() || !is_wanted,
        "tls.redirect and tls.acme need a port with TLS: set tls.listen, or tls.api"
    );
    let (ports, shown) = match acme.challenge {
        AcmeChallenge::TlsAlpn => (&tls.listen, "tls.listen with port 443 (tls-alpn-01)"),
        AcmeChallenge::Http => (&config.listen, "listen with port 80 (http-01)"),
    };
    anyhow::ensure!(
        !acme.is_used() || !ports.is_empty(),
        "tls.acme: the authority checks the names at a port that this node does not have: set \
         {shown}, or another tls.acme.challenge"
    );
    Ok(())
}

/// Checks that a node that is told of other nodes is reached by them.
pub(super) fn check_alone(mesh: &MeshConfig) -> anyhow::Result<()> {
    anyhow::ensure!(
        !mesh.listen.is_empty() || *mesh == MeshConfig::default(),
        "the node is told of other nodes, and not where they reach it: say it with --mesh ADDR"
    );
    Ok(())
}

/// Checks the addresses of registers and of other nodes.
pub(super) fn check_others(mesh: &MeshConfig) -> anyhow::Result<()> {
    for (flag, addresses) in [("--register", &mesh.registers), ("--peer", &mesh.peers)] {
        for address in addresses {
            mesh::check_address(flag, address)?;
        }
    }
    Ok(())
}

/// Reads the secret and the certificates of the mesh.
pub(super) fn trust(config: &MeshConfig) -> anyhow::Result<Trust> {
    let tls = TlsFiles {
        certificate: config.tls_certificate.clone(),
        key: config.tls_key.clone(),
        authority: config.tls_authority.clone(),
        name: config.tls_name.clone(),
    };
    Trust::read(&config.secret_file, &tls)
}
