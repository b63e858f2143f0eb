//! `wasi:http`.

use crate::bindings::http::wasi::http::outgoing_handler::handle;
use crate::bindings::http::wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    Scheme, http_error_code,
};
use crate::bindings::http::wasi::io::streams::StreamError;
use crate::http::{Error, Request, Response};

/// What one call writes, as the contract of streams has it.
const WRITE_BYTES: usize = 4096;

/// What one call reads.
const READ_BYTES: u64 = 64 << 10;

pub(crate) fn send(request: Request) -> Result<Response, Error> {
    let (scheme, authority, path) = split(&request.url)?;
    let headers = Fields::from_list(&request.headers);
    let headers = headers.map_err(|error| wrong(format!("a header is wrong: {error:?}")))?;
    let outgoing = OutgoingRequest::new(headers);
    let wrong_part = |what: &'static str| move |()| wrong(format!("the {what} is wrong"));
    outgoing
        .set_method(&method(&request.method))
        .map_err(wrong_part("method"))?;
    outgoing
        .set_scheme(Some(&scheme))
        .map_err(wrong_part("scheme"))?;
    outgoing
        .set_authority(Some(authority))
        .map_err(wrong_part("host"))?;
    outgoing
        .set_path_with_query(Some(&path))
        .map_err(wrong_part("path"))?;
    let body = outgoing.body().map_err(wrong_part("body"))?;
    let answer = handle(outgoing, None).map_err(|code| failed(&code))?;
    // Who wants no more of it, a server or the node, says why by the answer.
    let written = write(body, &request.body);
    answer.subscribe().block();
    match answer.get() {
        Some(Ok(answer)) => read(answer.map_err(|code| failed(&code))?),
        Some(Err(())) | None => {
            written?;
            Err(wrong("there is no answer".to_owned()))
        }
    }
}

fn write(body: OutgoingBody, bytes: &[u8]) -> Result<(), Error> {
    let broken = |error: StreamError| wrong(format!("the request broke off: {error:?}"));
    if !bytes.is_empty() {
        let stream = body.write().map_err(|()| wrong("no body".to_owned()))?;
        for part in bytes.chunks(WRITE_BYTES) {
            stream.blocking_write_and_flush(part).map_err(broken)?;
        }
    }
    OutgoingBody::finish(body, None).map_err(|code| failed(&code))
}

fn read(answer: IncomingResponse) -> Result<Response, Error> {
    let mut response = Response {
        status: answer.status(),
        headers: answer.headers().entries(),
        body: Vec::new(),
    };
    let body: IncomingBody = answer
        .consume()
        .map_err(|()| wrong("the answer has no body".to_owned()))?;
    let stream = body
        .stream()
        .map_err(|()| wrong("the answer has no body".to_owned()))?;
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(bytes) => response.body.extend(bytes),
            Err(StreamError::Closed) => return Ok(response),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(match http_error_code(&error) {
                    Some(code) => failed(&code),
                    // Its first line says what; the rest is where in the node.
                    None => wrong(first_line(&error.to_debug_string())),
                });
            }
        }
    }
}

/// A URL's scheme, its authority, and its path with the query.
fn split(url: &str) -> Result<(Scheme, &str, String), Error> {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        (!authority.is_empty()).then_some((scheme, authority, path))
    });
    parts.ok_or_else(|| wrong(format!("{url:?} is no URL: write https://HOST/PATH")))
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        "TRACE" => Method::Trace,
        "CONNECT" => Method::Connect,
        other => Method::Other(other.to_owned()),
    }
}

fn failed(code: &ErrorCode) -> Error {
    match code {
        ErrorCode::InternalError(Some(why)) => wrong(why.clone()),
        code => wrong(format!("{code:?}")),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn wrong(message: String) -> Error {
    Error { message }
}
