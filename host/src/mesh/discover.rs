//! Discovery of nodes without a register: by a name in DNS that stands for all nodes, as a headless
//! service has it, or in etcd.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::address::check_address;
use super::resolver::Resolver;
use super::source::Source;
use super::state::Mesh;

/// How often a DNS name is looked up.
const LOOK_UP: Duration = Duration::from_secs(5);

impl Mesh {
    /// Finds nodes at `source` (`dns:NAME:PORT` or `etcd:HOST:PORT`), for as long as the node runs.
    ///
    /// # Errors
    ///
    /// The source has neither of these forms, or its address can't be dialled.
    pub fn discover(self: &Arc<Self>, source: &str) -> anyhow::Result<()> {
        let flag = "--discover";
        if let Some(endpoint) = source.strip_prefix("etcd:") {
            check_address(&format!("{flag} etcd:"), endpoint)?;
            let (source, endpoint) = (source.to_owned(), endpoint.to_owned());
            self.registrations
                .spawn(self.clone().register_in_etcd(source, endpoint));
            return Ok(());
        }
        let name = source.strip_prefix("dns:").with_context(|| {
            format!("{flag} {source}: write it as dns:NAME:PORT or etcd:HOST:PORT")
        })?;
        check_address(&format!("{flag} dns:"), name)?;
        tokio::spawn(self.clone().look_up(source.to_owned(), name.to_owned()));
        Ok(())
    }

    async fn look_up(self: Arc<Self>, source: String, name: String) {
        let listed = Source::Listed(source.clone());
        let mut failed = false;
        loop {
            match Resolver::OfOperator.look_up(name.clone()).await {
                Ok(found) => {
                    failed = false;
                    let addresses: BTreeSet<String> =
                        found.iter().map(ToString::to_string).collect();
                    self.want(&listed, &addresses);
                }
                // What was found stays: a name server that is down has not ended any node.
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(source, %error, "the name can't be looked up");
                    }
                }
            }
            tokio::time::sleep(LOOK_UP).await;
        }
    }
}
