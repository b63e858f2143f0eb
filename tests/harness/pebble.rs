//! The ACME server pebble, with a DNS server, each in a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_rustls::rustls::ClientConfig;

use crate::process::{kill, listens, own_address};
use crate::{Authority, authority, within};

/// An authority that issues certificates by ACME. It is killed when it is dropped.
pub struct Pebble {
    processes: Vec<Child>,
    folder: TempDir,
    /// Who vouches for its own port.
    authority: Authority,
    address: SocketAddr,
    management: SocketAddr,
    names: SocketAddr,
    validity: Duration,
    /// The identifier and the key of the account that its customers must have.
    external_account: Option<(String, String)>,
    /// Names that do not lead to the node.
    elsewhere: Vec<String>,
}

impl Pebble {
    /// One that does not run yet.
    pub fn absent() -> anyhow::Result<Pebble> {
        Ok(Pebble {
            processes: Vec::new(),
            folder: tempfile::tempdir()?,
            authority: Authority::new()?,
            address: own_address()?,
            management: own_address()?,
            names: own_address()?,
            validity: Duration::from_secs(24 * 60 * 60),
            external_account: None,
            elsewhere: Vec::new(),
        })
    }

    /// What it issues is valid for so long, from its next start on.
    pub fn issue_for(&mut self, validity: Duration) {
        self.validity = validity;
    }

    /// It asks for this account and its key, in base64url.
    pub fn ask_for_account(&mut self, id: &str, key: &str) {
        self.external_account = Some((id.to_owned(), key.to_owned()));
    }

    /// A name leads to an address where nobody listens, from its next start on.
    pub fn lead_elsewhere(&mut self, name: &str) {
        self.elsewhere.push(name.to_owned());
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// The certificate of the authority that vouches for its directory.
    pub fn authorities(&self) -> PathBuf {
        self.authority.file()
    }

    /// Starts it (again) without any memory, and waits until it takes connections. Every name leads
    /// to 127.0.0.1, where it checks names at these ports.
    pub async fn start(&mut self, tls: SocketAddr, http: SocketAddr) -> anyhow::Result<()> {
        self.kill().await?;
        let own = self.address.ip().to_string();
        let management = self.management.ip().to_string();
        let issued = self.authority.issue("pebble", &[&own, &management])?;
        let config = json!({ "pebble": {
            "listenAddress": self.address,
            "managementListenAddress": self.management,
            "certificate": issued.certificate,
            "privateKey": issued.key,
            "httpPort": http.port(),
            "tlsPort": tls.port(),
            "certificateValidityPeriod": self.validity.as_secs(),
            "externalAccountBindingRequired": self.external_account.is_some(),
            "externalAccountMACKeys": self.external_account.iter().cloned()
                .collect::<std::collections::BTreeMap<_, _>>(),
        }});
        let file = self.folder.path().join("pebble.json");
        std::fs::write(&file, config.to_string())?;
        let mut names = Command::new("pebble-challtestsrv");
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        names.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]);
        names.args(["-dns01", &self.names.to_string()]);
        let management = own_address()?;
        names.args(["-management", &management.to_string()]);
        self.spawn("pebble-challtestsrv", names, self.names).await?;
        for name in &self.elsewhere {
            let lead = json!({ "host": name, "addresses": ["127.255.255.254"] });
            let lead = ["--data", &lead.to_string()];
            curl(&lead, &format!("http://{management}/add-a")).await?;
        }
        let mut pebble = Command::new("pebble");
        pebble.arg("-config").arg(&file);
        pebble.args(["-dnsserver", &self.names.to_string()]);
        // It would wait for up to 15 s before it checks a name.
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        self.spawn("pebble", pebble, self.address).await
    }

    async fn spawn(
        &mut self,
        name: &str,
        mut command: Command,
        address: SocketAddr,
    ) -> anyhow::Result<()> {
        let spawned = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut process =
            spawned.with_context(|| format!("{name} cannot be started: apt-get install pebble"))?;
        listens(name, &mut process, address).await?;
        self.processes.push(process);
        Ok(())
    }

    /// Ends it without a word.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        for mut process in self.processes.drain(..) {
            kill(&mut process).await?;
        }
        Ok(())
    }

    /// A client that trusts what it issues.
    pub async fn client(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let url = format!("https://{}/roots/0", self.management);
        authority::client_of(&curl(&["--insecure"], &url).await?)
    }
}

/// What a server answers.
async fn curl(arguments: &[&str], url: &str) -> anyhow::Result<Vec<u8>> {
    let asking = Command::new("curl")
        .args(["--silent", "--show-error", "--fail"])
        // It may not listen yet.
        .args(["--retry", "9", "--retry-connrefused"])
        .args(arguments)
        .arg(url)
        .output();
    let answer = within(url, asking).await?;
    ensure!(answer.status.success(), "{url}: {answer:?}");
    Ok(answer.stdout)
}
