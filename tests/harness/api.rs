//! A node's API, called over HTTP or over gRPC with the same requests and answers: JSON, as
//! the published schema maps it.

use std::net::SocketAddr;
use std::sync::LazyLock;

use anyhow::{Context as _, ensure};
use prost_reflect::prost::Message as _;
use prost_reflect::prost::bytes::BufMut as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::{Raw, Response, within};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let schemas = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    let schema = protox::compile(["jackfield/api/v1/api.proto"], [schemas]);
    DescriptorPool::from_file_descriptor_set(schema.expect("a schema")).expect("a schema")
});

/// How the API is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// JSON over HTTP/1.1.
    Http,
    /// Protobuf over HTTP/2.
    Grpc,
}

/// A node's API.
#[derive(Clone, Debug)]
pub struct Api {
    address: SocketAddr,
    protocol: Protocol,
    channel: Channel,
    token: Option<String>,
}

/// Why a call had no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error's reason.
    pub reason: String,
    /// Its sentence.
    pub message: String,
    /// The HTTP status, or gRPC's code.
    pub status: String,
}

/// What a call was answered.
pub type Answer = Result<Value, Refusal>;

impl Api {
    /// The API at an address.
    pub fn at(address: SocketAddr, protocol: Protocol) -> anyhow::Result<Api> {
        Ok(Api {
            address,
            protocol,
            channel: Endpoint::from_shared(format!("http://{address}"))?.connect_lazy(),
            token: None,
        })
    }

    /// The same, with a token.
    pub fn with_token(&self, token: &str) -> Api {
        Api {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is called.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Calls a function, in kebab-case, for a plugin's clients.
    pub async fn call(
        &self,
        plugin: &str,
        function: &str,
        request: Value,
    ) -> anyhow::Result<Answer> {
        match self.protocol {
            Protocol::Http => {
                let path = format!("/v1/plugins/{plugin}/{function}");
                self.post(&path, &request).await
            }
            Protocol::Grpc => {
                let mut request = request;
                request["plugin"] = json!(plugin);
                self.unary(function, request).await
            }
        }
    }

    /// Calls a function that must succeed.
    pub async fn ok(&self, plugin: &str, function: &str, request: Value) -> anyhow::Result<Value> {
        let answer = self.call(plugin, function, request.clone()).await?;
        answer.map_err(|refusal| anyhow::anyhow!("{function} {request}: {refusal:?}"))
    }

    /// Calls a function that must fail, and answers why.
    pub async fn refused(
        &self,
        plugin: &str,
        function: &str,
        request: Value,
    ) -> anyhow::Result<Refusal> {
        let answer = self.call(plugin, function, request.clone()).await?;
        let Err(refusal) = answer else {
            anyhow::bail!("{function} {request} answered {answer:?}")
        };
        Ok(refusal)
    }

    /// Calls several functions at once.
    pub async fn batch(&self, operations: Value) -> anyhow::Result<Answer> {
        let request = json!({ "operations": operations });
        match self.protocol {
            Protocol::Http => self.post("/v1/batch", &request).await,
            Protocol::Grpc => self.unary("batch", request).await,
        }
    }

    /// Sends an HTTP request with these headers.
    pub async fn http(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> anyhow::Result<Response> {
        let mut raw = Raw::connect(self.address).await?;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n",
            body.len()
        );
        if let Some(token) = &self.token {
            request.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        raw.write(format!("{request}\r\n{body}").as_bytes()).await?;
        raw.response().await
    }

    /// A connection to the port that begins with these bytes.
    pub async fn begin(&self, request: &str) -> anyhow::Result<Raw> {
        let mut raw = Raw::connect(self.address).await?;
        raw.write(request.as_bytes()).await?;
        Ok(raw)
    }

    /// What the port answers to these bytes, until it ends the connection.
    pub async fn exchange(&self, request: &str) -> anyhow::Result<String> {
        let raw = self.begin(request).await?;
        Ok(String::from_utf8(raw.rest().await?)?)
    }

    async fn post(&self, path: &str, request: &Value) -> anyhow::Result<Answer> {
        let json = [("content-type", "application/json")];
        let response = self.http("POST", path, &json, &request.to_string()).await?;
        answer(&response)
    }

    /// Watches what happens to these plugins; none: to all of them.
    pub async fn watch(&self, plugins: &[&str]) -> anyhow::Result<Events> {
        let query: Vec<_> = plugins.iter().map(|plugin| ("plugin", *plugin)).collect();
        let path = format!("/v1/events{}", crate::query(&query));
        self.stream("watch", json!({ "plugins": plugins }), &path)
            .await
    }

    /// Opens a stream: over gRPC by a function and its request, over HTTP by a path with its query.
    pub async fn stream(
        &self,
        function: &str,
        request: Value,
        path_and_query: &str,
    ) -> anyhow::Result<Events> {
        if self.protocol == Protocol::Grpc {
            let (mut client, method, request) = self.prepare(function, request).await?;
            let path = path(&method)?;
            let watching = client.server_streaming(request, path, Dynamic(method));
            let stream = within("the stream", watching).await?.into_inner();
            return Ok(Events::Grpc(Box::new(stream)));
        }
        let mut raw = Raw::connect(self.address).await?;
        let token = self.token.as_ref();
        let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        let authorization = authorization.unwrap_or_default();
        let request =
            format!("GET {path_and_query} HTTP/1.1\r\nhost: localhost\r\n{authorization}\r\n");
        raw.write(request.as_bytes()).await?;
        let response = raw.response().await?;
        ensure!(
            response.headers["content-type"] == "text/event-stream",
            "{response:?}"
        );
        Ok(Events::Http(raw))
    }

    /// Calls a function over gRPC with bytes that may be no request.
    pub async fn bytes(&self, function: &str, request: Vec<u8>) -> anyhow::Result<Answer> {
        let method = method(function)?;
        let path = path(&method)?;
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        within("the channel", client.ready()).await?;
        let codec = Sent(method);
        let answered = async { anyhow::Ok(client.unary(Request::new(request), path, codec).await) };
        Ok(match within("a gRPC answer", answered).await? {
            Ok(response) => Ok(to_json(response.get_ref())?),
            Err(status) => Err(Refusal {
                reason: String::new(),
                message: status.message().to_owned(),
                status: format!("{:?}", status.code()),
            }),
        })
    }

    async fn prepare(
        &self,
        function: &str,
        request: Value,
    ) -> anyhow::Result<(
        tonic::client::Grpc<Channel>,
        MethodDescriptor,
        Request<DynamicMessage>,
    )> {
        let method = method(function)?;
        let mut request = Request::new(DynamicMessage::deserialize(method.input(), request)?);
        if let Some(token) = &self.token {
            let value: MetadataValue<_> = format!("Bearer {token}").parse()?;
            request.metadata_mut().insert("authorization", value);
        }
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        within("the channel", client.ready()).await?;
        Ok((client, method, request))
    }

    async fn unary(&self, function: &str, request: Value) -> anyhow::Result<Answer> {
        let (mut client, method, request) = self.prepare(function, request).await?;
        let path = path(&method)?;
        let answered = async { anyhow::Ok(client.unary(request, path, Dynamic(method)).await) };
        Ok(match within("a gRPC answer", answered).await? {
            Ok(response) => Ok(to_json(response.get_ref())?),
            Err(status) => Err(refusal(&status)?),
        })
    }
}

/// What happens on a node, as it is told.
pub enum Events {
    /// As server-sent events.
    Http(Raw),
    /// As a stream of messages.
    Grpc(Box<tonic::Streaming<DynamicMessage>>),
}

impl Events {
    /// The next event; none: the stream has ended.
    pub async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        match self {
            Events::Http(raw) => loop {
                let line = raw.line().await?.context("the stream was cut")?;
                // Lines between are the chunks' lengths, of which the last is 0, and the events'
                // names.
                if line == "0" {
                    return Ok(None);
                }
                if let Some(data) = line.strip_prefix("data: ") {
                    return Ok(serde_json::from_str(data)?);
                }
            },
            Events::Grpc(stream) => {
                let event = within("an event", stream.message()).await?;
                event.map(|event| to_json(&event)).transpose()
            }
        }
    }
}

/// An HTTP answer, read: a problem document is a refusal.
pub fn answer(response: &Response) -> anyhow::Result<Answer> {
    let body: Value =
        serde_json::from_str(&response.body).with_context(|| format!("no JSON: {response:?}"))?;
    if response.status == 200 {
        return Ok(Ok(body));
    }
    ensure!(
        response.headers["content-type"] == "application/problem+json"
            && body["status"] == response.status
            && body["type"]
                .as_str()
                .is_some_and(|kind| kind.starts_with("urn:")),
        "no problem document: {response:?}"
    );
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    Ok(Err(Refusal {
        reason: text("reason"),
        message: text("detail"),
        status: response.status.to_string(),
    }))
}

fn refusal(status: &Status) -> anyhow::Result<Refusal> {
    let info = status.get_details_error_info();
    let info = info.with_context(|| format!("no ErrorInfo: {status:?}"))?;
    ensure!(info.domain == "jackfield", "{info:?}");
    Ok(Refusal {
        reason: info.reason,
        message: status.message().to_owned(),
        status: format!("{:?}", status.code()),
    })
}

fn method(function: &str) -> anyhow::Result<MethodDescriptor> {
    let service = POOL.get_service_by_name("jackfield.api.v1.Api");
    let name = function.replace('-', "");
    let mut methods = service
        .context("the service")?
        .methods()
        .collect::<Vec<_>>()
        .into_iter();
    methods
        .find(|method| method.name().to_lowercase() == name)
        .with_context(|| format!("no function {function}"))
}

fn path(method: &MethodDescriptor) -> anyhow::Result<PathAndQuery> {
    Ok(format!("/jackfield.api.v1.Api/{}", method.name()).parse()?)
}

fn to_json(message: &DynamicMessage) -> anyhow::Result<Value> {
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .skip_default_fields(false);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// Messages of a method that is known at run time only.
struct Dynamic(MethodDescriptor);

struct Encoding;

struct Decoding(MethodDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Encoding;
    type Decoder = Decoding;

    fn encoder(&mut self) -> Encoding {
        Encoding
    }

    fn decoder(&mut self) -> Decoding {
        Decoding(self.0.clone())
    }
}

/// Bytes that are sent as they are.
struct Sent(MethodDescriptor);

struct Bytes;

impl Codec for Sent {
    type Encode = Vec<u8>;
    type Decode = DynamicMessage;
    type Encoder = Bytes;
    type Decoder = Decoding;

    fn encoder(&mut self) -> Bytes {
        Bytes
    }

    fn decoder(&mut self) -> Decoding {
        Decoding(self.0.clone())
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Encoder for Encoding {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let encoded = item.encode(buffer);
        encoded.map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Decoding {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let decoded = DynamicMessage::decode(self.0.output(), buffer);
        let decoded = decoded.map_err(|error| Status::internal(error.to_string()));
        decoded.map(Some)
    }
}
