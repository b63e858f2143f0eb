//! The collector that gets the spans, as it is configured.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::authorities::Authorities;
use crate::config::TracingConfig;

/// How long one request to the collector may take, with its retries.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The collector that gets the spans, and what the node sends to it.
#[derive(Debug)]
pub struct Collector {
    endpoint: Endpoint,
    headers: MetadataMap,
    pub(super) service_name: String,
    pub(super) sample_ratio: f64,
    pub(super) follow_clients: bool,
}

impl Collector {
    /// Reads what is configured; none: the node sends no spans.
    ///
    /// # Errors
    ///
    /// Returns an error when a value cannot be used, or a file cannot be read.
    pub fn read(config: &TracingConfig) -> anyhow::Result<Option<Collector>> {
        let ratio = config.sample_ratio;
        anyhow::ensure!(
            (0.0..=1.0).contains(&ratio),
            "tracing.sample_ratio: {ratio} is no share: write a number from 0 to 1"
        );
        if config.endpoint.is_empty() {
            return Ok(None);
        }
        let authorities = Authorities::read("tracing.authorities", &config.authorities)?;
        Ok(Some(Collector {
            endpoint: endpoint(&config.endpoint, authorities)?,
            headers: headers(&config.headers_file)?,
            service_name: config.service_name.clone(),
            sample_ratio: ratio,
            follow_clients: config.follow_clients,
        }))
    }

    /// The client for the collector, which connects when the first spans are sent.
    pub(super) fn exporter(self, resource: &Resource) -> anyhow::Result<SpanExporter> {
        let mut exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(self.endpoint.connect_lazy())
            .with_metadata(self.headers)
            .with_timeout(TIMEOUT)
            .build()?;
        exporter.set_resource(resource);
        Ok(exporter)
    }
}

fn endpoint(address: &str, authorities: Option<Authorities>) -> anyhow::Result<Endpoint> {
    let wrong = || {
        format!(
            "tracing.endpoint: {address:?} is no address of a collector: write it like \
             http://127.0.0.1:4317, or https://HOST:PORT for TLS"
        )
    };
    let endpoint = Endpoint::from_shared(address.to_owned()).with_context(wrong)?;
    let endpoint = endpoint.timeout(TIMEOUT).connect_timeout(TIMEOUT);
    match endpoint.uri().scheme_str() {
        Some("http") => Ok(endpoint),
        Some("https") => {
            let mut tls = ClientTlsConfig::new().with_webpki_roots();
            if let Some(authorities) = authorities {
                tls = tls.ca_certificate(Certificate::from_pem(authorities.pem));
            }
            endpoint.tls_config(tls).with_context(wrong)
        }
        _ => Err(anyhow::Error::msg(wrong())),
    }
}

/// Reads the headers of the file, one on each line.
fn headers(file: &Path) -> anyhow::Result<MetadataMap> {
    let mut headers = MetadataMap::new();
    if file.as_os_str().is_empty() {
        return Ok(headers);
    }
    let named = || format!("tracing.headers_file: {}", file.display());
    let text =
        std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", named()))?;
    let lines = text.lines().map(str::trim).enumerate();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        // Without the line itself, which may be a secret.
        let wrong = || format!("{}, line {}: write NAME: VALUE", named(), number + 1);
        let (name, value) = line.split_once(':').with_context(wrong)?;
        let name = name.trim().to_ascii_lowercase();
        let name: AsciiMetadataKey = name.parse().with_context(wrong)?;
        let mut value: AsciiMetadataValue = value.trim().parse().with_context(wrong)?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}
