//! A collector of spans (OTLP over gRPC), on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::{CertificateFile, within};

/// A running collector. It ends when it is dropped.
pub struct Collector {
    address: SocketAddr,
    received: watch::Receiver<Vec<CollectedSpan>>,
    serving: JoinHandle<()>,
}

/// A span, as the collector has got it.
#[derive(Clone, Debug)]
pub struct CollectedSpan {
    /// The name.
    pub name: String,
    /// The trace, in hexadecimal digits.
    pub trace: String,
    /// The span's own id.
    pub id: String,
    /// The id of the span that it is in; empty: none.
    pub parent: String,
    /// The traces that the span is linked to.
    pub links: Vec<String>,
    /// The kind, as OTLP numbers it.
    pub kind: i32,
    /// How long it lasted.
    pub duration: Duration,
    /// Why it has failed, if it has.
    pub failure: Option<String>,
    /// The attribute `service.instance.id` of the node.
    pub node: String,
    /// The header `authorization` of the request that it came with.
    pub authorization: String,
    attributes: Vec<(String, String)>,
}

impl CollectedSpan {
    /// An attribute, as text; empty: there is none.
    pub fn get(&self, key: &str) -> &str {
        let found = self.attributes.iter().find(|(name, _)| name == key);
        found.map_or("", |(_, value)| value)
    }
}

impl Collector {
    /// Starts one without TLS.
    pub async fn start() -> anyhow::Result<Collector> {
        Collector::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts one without TLS at this address.
    pub async fn start_at(address: SocketAddr) -> anyhow::Result<Collector> {
        Collector::serve(Server::builder(), address).await
    }

    /// Starts one with TLS and this certificate.
    pub async fn start_with_tls(own: &CertificateFile) -> anyhow::Result<Collector> {
        let certificate = std::fs::read(&own.certificate)?;
        let own = Identity::from_pem(certificate, std::fs::read(&own.key)?);
        let tls = ServerTlsConfig::new().identity(own);
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Collector::serve(Server::builder().tls_config(tls)?, any_port).await
    }

    async fn serve(mut server: Server, address: SocketAddr) -> anyhow::Result<Collector> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (sender, received) = watch::channel(Vec::new());
        let service = server.add_service(TraceServiceServer::new(Receiver(sender)));
        let serving = tokio::spawn(async move {
            let _ = service
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await;
        });
        Ok(Collector {
            address,
            received,
            serving,
        })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The section `[tracing]` of a node that sends its spans here.
    pub fn config(&self, more: &str) -> String {
        format!(
            "[tracing]\nendpoint = \"http://{}\"\n{more}\n",
            self.address
        )
    }

    /// The spans that have come so far.
    pub fn so_far(&self) -> Vec<CollectedSpan> {
        self.received.borrow().clone()
    }

    /// Waits until the spans that have come are enough.
    pub async fn wait_for(
        &self,
        what: &str,
        is_enough: impl Fn(&[CollectedSpan]) -> bool,
    ) -> anyhow::Result<Vec<CollectedSpan>> {
        let mut received = self.received.clone();
        let waiting = within(what, received.wait_for(|spans| is_enough(spans)));
        let found = waiting.await.map(|spans| spans.clone());
        found.with_context(|| format!("there are {:#?}", self.so_far()))
    }

    /// Waits for a span with this name.
    pub async fn span(&self, name: &str) -> anyhow::Result<CollectedSpan> {
        let is_it = |span: &&CollectedSpan| span.name == name;
        let spans = self.wait_for(name, |spans| spans.iter().any(|span| is_it(&span)));
        let spans = spans.await?;
        spans.iter().find(is_it).cloned().context("it was there")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Receiver(watch::Sender<Vec<CollectedSpan>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.and_then(|value| value.to_str().ok());
        let authorization = authorization.unwrap_or_default().to_owned();
        let mut collected = Vec::new();
        for of_node in request.into_inner().resource_spans {
            let resource = of_node.resource.unwrap_or_default();
            let resource = texts(&resource.attributes);
            let node = resource
                .iter()
                .find(|(key, _)| key == "service.instance.id");
            let node = node.map(|(_, node)| node.clone()).unwrap_or_default();
            let spans = of_node
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            collected.extend(spans.map(|span| collect(span, &node, &authorization)));
        }
        self.0.send_modify(|spans| spans.append(&mut collected));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn collect(span: Span, node: &str, authorization: &str) -> CollectedSpan {
    let status = span.status.unwrap_or_default();
    CollectedSpan {
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
        kind: span.kind,
        duration: Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano),
        failure: (status.code == 2).then_some(status.message),
        node: node.to_owned(),
        authorization: authorization.to_owned(),
        attributes: texts(&span.attributes),
    }
}

fn texts(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue]) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let attributes = attributes.iter().filter_map(|attribute| {
        let value = attribute.value.as_ref()?.value.as_ref()?;
        Some((attribute.key.clone(), text(value)))
    });
    attributes.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
