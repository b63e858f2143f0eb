//! An nginx, in a process of its own, with its files in a folder of its own.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::process::{listens, own_address};

/// Where it is: Debian's is not on everybody's `PATH`.
const PROGRAMS: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

/// What it calls the address that it is to listen at.
const LISTEN: &str = "listen 80";

/// A running nginx. It is killed when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    _process: Child,
    _folder: TempDir,
    address: SocketAddr,
}

impl Nginx {
    /// Starts one, and waits until it takes connections. `http` is what stands in the block of
    /// that name, with one server that listens at port 80, which becomes an address of its own.
    pub async fn start(http: &str) -> anyhow::Result<Nginx> {
        let address = own_address()?;
        anyhow::ensure!(http.matches(LISTEN).count() == 1, "{LISTEN} once in {http}");
        let http = http.replace(LISTEN, &format!("listen {address}"));
        let folder = tempfile::tempdir()?;
        let path = folder.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|of| format!("{of}_temp_path {path}/{of};\n"));
        let temporary = temporary.concat();
        let config = format!(
            // One process, so that none is left when it is killed.
            "daemon off; master_process off; pid {path}/pid; error_log stderr;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off;\n{temporary}\n{http}\n}}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let spawn = |program| {
            Command::new(program)
                .arg("-p")
                .arg(folder.path())
                .arg("-c")
                .arg(&file)
                .args(["-e", "stderr"])
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn()
        };
        let mut process = PROGRAMS
            .into_iter()
            .find_map(|program| spawn(program).ok())
            .context("nginx cannot be started: apt-get install nginx-light")?;
        listens("nginx", &mut process, address).await?;
        Ok(Nginx {
            _process: process,
            _folder: folder,
            address,
        })
    }

    /// Starts one with the blocks of a page of the documentation that have this in them.
    pub async fn start_as_documented(
        page: &str,
        with: &str,
        replaced: &[(&str, SocketAddr)],
    ) -> anyhow::Result<Nginx> {
        let blocks = page.split("```nginx\n").skip(1);
        let mut blocks = blocks.filter_map(|block| Some(block.split_once("\n```")?.0));
        let block = blocks.find(|block| block.contains(with));
        let mut http = block
            .with_context(|| format!("no block has {with}"))?
            .to_owned();
        for (shown, address) in replaced {
            anyhow::ensure!(http.contains(shown), "{shown} is not in {http}");
            http = http.replace(shown, &address.to_string());
        }
        Nginx::start(&http).await
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
