//! The proxies HAProxy and stunnel, each in a process of its own, with a configuration in a folder
//! of its own.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::process::{listens, own_address};

/// A running proxy. It is killed when it is dropped.
#[derive(Debug)]
pub struct ProxyServer {
    _process: Child,
    _folder: TempDir,
    address: SocketAddr,
}

impl ProxyServer {
    /// Starts HAProxy with one frontend, which listens here, and one backend, whose server this
    /// is: `127.0.0.1:80 send-proxy-v2`.
    pub async fn haproxy(server: &str) -> anyhow::Result<ProxyServer> {
        let config = |address| {
            format!(
                "defaults\n mode tcp\n timeout connect 10s\n timeout client 1m\n timeout server 1m\n\
                 frontend clients\n bind {address}\n default_backend node\n\
                 backend node\n server node {server}\n"
            )
        };
        ProxyServer::start("haproxy", &["-q", "-f"], config).await
    }

    /// Starts stunnel as a server that ends TLS with this certificate, and tells the node behind it
    /// who its clients are.
    pub async fn stunnel(
        node: SocketAddr,
        certificate: &crate::CertificateFile,
    ) -> anyhow::Result<ProxyServer> {
        let (file, key) = (certificate.certificate.display(), certificate.key.display());
        let config = |address| {
            format!(
                "foreground = yes\npid =\n[node]\naccept = {address}\nconnect = {node}\n\
                 protocol = proxy\ncert = {file}\nkey = {key}\n"
            )
        };
        ProxyServer::start("stunnel4", &[], config).await
    }

    async fn start(
        program: &str,
        arguments: &[&str],
        config: impl Fn(SocketAddr) -> String,
    ) -> anyhow::Result<ProxyServer> {
        let address = own_address()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("proxy.conf");
        std::fs::write(&file, config(address))?;
        let spawn = |program: &str| {
            Command::new(program)
                .args(arguments)
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
        };
        // Debian's is not on everybody's `PATH`.
        let spawned = spawn(program).or_else(|_| spawn(&format!("/usr/sbin/{program}")));
        let mut process = spawned
            .with_context(|| format!("{program} cannot be started: apt-get install {program}"))?;
        listens(program, &mut process, address).await?;
        Ok(ProxyServer {
            _process: process,
            _folder: folder,
            address,
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
