//! HTTP to an authority.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Limited;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::authorities::client_config;

/// The most time until an answer of the authority begins.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer, in bytes.
const ANSWER_BYTES: usize = 1 << 20;

/// A client of HTTPS servers.
#[derive(Clone)]
pub(super) struct AcmeHttp(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl AcmeHttp {
    /// A client that trusts the authorities that browsers trust, and those of a file.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be read, or contains no usable certificate.
    pub(super) fn new(authorities: &Path) -> anyhow::Result<AcmeHttp> {
        let config = client_config("tls.acme.authorities", authorities)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .build();
        Ok(AcmeHttp(
            Client::builder(TokioExecutor::new()).build(connector),
        ))
    }
}

impl HttpClient for AcmeHttp {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let answering = self.0.request(request);
        Box::pin(async move {
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, answering).await;
            let answer = answer.map_err(|late| Error::Other(late.into()))?;
            let answer = answer.map_err(|error| Error::Other(error.into()))?;
            let kind = answer.headers().get(CONTENT_TYPE);
            let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            let is_json = kind.contains("json");
            if answer.status().is_server_error() && !is_json {
                // Its body is a page for people, and says nothing to a program.
                let why = format!("the authority answers {}", answer.status());
                return Err(Error::Other(why.into()));
            }
            Ok(answer.map(|body| Limited::new(body, ANSWER_BYTES)).into())
        })
    }
}
