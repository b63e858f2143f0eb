//! A network that can fail: a TCP proxy before an address, which loses connections or
//! packets when it is told to.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A proxy. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: Arc<watch::Sender<Network>>,
    task: AbortHandle,
}

/// How the network is.
#[derive(Clone, Debug, Default)]
struct Network {
    /// Where connections lead, each to the next one.
    targets: Vec<SocketAddr>,
    /// No connection can be made.
    is_cut: bool,
    /// Connections of a number below this one have been cut.
    first: u64,
    /// Nothing comes through. It waits, as what TCP sends again.
    is_stalled: bool,
    /// Connections below this number are lost: nothing ever comes through, and nobody is told.
    stranded: u64,
    /// The last connection's number.
    last: u64,
}

impl Proxy {
    /// One that leads nowhere yet: who connects waits.
    pub async fn start() -> anyhow::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let network = Arc::new(watch::Sender::new(Network::default()));
        let task = tokio::spawn(serve(listener, network.clone())).abort_handle();
        Ok(Proxy {
            address,
            network,
            task,
        })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From here on it leads there.
    pub fn lead_to(&self, target: SocketAddr) {
        self.lead_by_turns(&[target]);
    }

    /// From here on each connection leads to the next one of these.
    pub fn lead_by_turns(&self, targets: &[SocketAddr]) {
        self.network
            .send_modify(|network| network.targets = targets.to_vec());
    }

    /// All connections end, and no new ones come about.
    pub fn cut(&self) {
        self.network.send_modify(|network| {
            network.is_cut = true;
            network.first = u64::MAX;
        });
    }

    /// All connections end; new ones come about.
    pub fn cut_for_a_moment(&self) {
        self.cut();
        self.restore();
    }

    /// Connections stay, new ones come about, and nothing comes through any of them.
    pub fn stall(&self) {
        self.network
            .send_modify(|network| network.is_stalled = true);
    }

    /// Nothing ever comes through the connections that there are, nor is their end told; new
    /// ones are well.
    pub fn strand(&self) {
        self.network
            .send_modify(|network| network.stranded = network.last + 1);
    }

    /// All is well; what has waited comes through.
    pub fn restore(&self) {
        self.network.send_modify(|network| {
            network.is_cut = false;
            network.is_stalled = false;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn serve(listener: TcpListener, network: Arc<watch::Sender<Network>>) {
    let mut number = 0;
    while let Ok((from, _)) = listener.accept().await {
        number += 1;
        network.send_modify(|network| {
            network.last = number;
            if !network.is_cut {
                // What was cut stays cut, and this one is not.
                network.first = network.first.min(number);
            }
        });
        let connection = Connection {
            number,
            network: network.clone(),
        };
        tokio::spawn(async move {
            let mut changes = connection.network.subscribe();
            tokio::select! {
                _ = connection.run(from) => {}
                _ = changes.wait_for(|network| network.first > number) => {}
            }
        });
    }
}

struct Connection {
    number: u64,
    network: Arc<watch::Sender<Network>>,
}

impl Connection {
    async fn run(&self, from: TcpStream) -> std::io::Result<()> {
        let mut changes = self.network.subscribe();
        let turn = usize::try_from(self.number).unwrap_or_default();
        let led = changes.wait_for(|network| !network.targets.is_empty());
        let Ok(target) = led
            .await
            .map(|network| network.targets[turn % network.targets.len()])
        else {
            return Ok(());
        };
        let to = TcpStream::connect(target).await?;
        from.set_nodelay(true)?;
        to.set_nodelay(true)?;
        let (from_there, from_back) = from.into_split();
        let (to_back, to_there) = to.into_split();
        // An end one way is told that way, and the other may go on.
        tokio::try_join!(
            self.pass(from_there, to_there),
            self.pass(to_back, from_back),
        )?;
        Ok(())
    }

    async fn pass(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> std::io::Result<()> {
        let mut changes = self.network.subscribe();
        let mut buffer = vec![0; 16 << 10];
        loop {
            // A reset does not come through either.
            let read = from.read(&mut buffer).await;
            let passes =
                changes.wait_for(|network| !network.is_stalled && network.stranded <= self.number);
            if passes.await.map(drop).is_err() {
                return Ok(());
            }
            let length = read?;
            if length == 0 {
                return to.shutdown().await;
            }
            to.write_all(&buffer[..length]).await?;
        }
    }
}
