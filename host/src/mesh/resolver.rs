//! The resolver of the names at which nodes and registers are dialled: few of them at once.
//!
//! A lookup keeps a thread for as long as the system's resolver takes, even if nobody waits for it
//! any more. Thousands of names that nobody answers for must not take all threads of the process.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tower::Service;

/// The most names that are looked up at once, of each kind. Further names wait.
const LOOKUPS: usize = 8;

/// How long one lookup may take, with its wait for the others.
const TIMEOUT: Duration = Duration::from_secs(5);

static OPERATORS: Semaphore = Semaphore::const_new(LOOKUPS);
static NODES: Semaphore = Semaphore::const_new(LOOKUPS);

/// A resolver, by the kind of names that it looks up. Names of one kind do not wait for those of
/// the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resolver {
    /// The names that the operator has given: registers, and names in DNS for all nodes.
    OfOperator,
    /// The names of nodes, which registers and the nodes themselves have told.
    OfNodes,
}

impl Resolver {
    /// The addresses of `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// The name has no address, or the lookup took too long.
    pub(super) async fn look_up(self, address: String) -> io::Result<Vec<SocketAddr>> {
        let lookups = match self {
            Resolver::OfOperator => &OPERATORS,
            Resolver::OfNodes => &NODES,
        };
        let found = async {
            let permit = lookups.acquire().await;
            let looked_up = tokio::task::spawn_blocking(move || {
                // A lookup that hangs keeps its permit with its thread.
                let _permit = permit;
                address.to_socket_addrs().map(Iterator::collect)
            });
            looked_up.await.map_err(io::Error::other)?
        };
        let found = tokio::time::timeout(TIMEOUT, found).await;
        found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// A connector that looks up names with this resolver.
    pub(super) fn connector(self) -> HttpConnector<Resolver> {
        let mut connector = HttpConnector::new_with_resolver(self);
        // TLS is done on top of it.
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = *self;
        Box::pin(async move {
            // The connector puts the right port in.
            let found = resolver.look_up(format!("{}:0", name.as_str())).await?;
            Ok(found.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_found_and_a_name_of_nobody_is_not() {
        let found = Resolver::OfOperator.look_up("[::1]:7000".to_owned()).await;
        assert_eq!(
            found.expect("an address"),
            ["[::1]:7000".parse().expect("an address")]
        );
        let nobody = Resolver::OfNodes.look_up("nobody.invalid:7000".to_owned());
        nobody.await.expect_err("RFC 6761: nobody has it");
    }

    #[tokio::test]
    async fn names_of_one_kind_wait_for_each_other_and_for_no_others() {
        let all = u32::try_from(LOOKUPS).expect("few");
        let all = NODES.acquire_many(all).await.expect("open");
        let found = Resolver::OfOperator.look_up("127.0.0.1:1".to_owned()).await;
        assert_eq!(found.expect("an address").len(), 1);
        let waiting = Resolver::OfNodes.look_up("127.0.0.1:1".to_owned());
        let mut waiting = std::pin::pin!(waiting);
        let soon = tokio::time::timeout(Duration::from_millis(50), waiting.as_mut());
        soon.await.expect_err("there is no permit");
        drop(all);
        assert_eq!(waiting.await.expect("an address").len(), 1);
    }
}
