//! The description of the HTTP API in OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.1.html>),
//! made from the same schema as the API.

mod deployments;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use prost_reflect::{FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};

use super::operations::SCOPES;
use super::problem::Reason;
use super::schema::SCHEMA;
use super::tokens::TokenScope;

/// The complete OpenAPI document as JSON. The document is made once, and reading it needs no token.
pub(super) static JSON: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    let functions: Vec<MethodDescriptor> = SCHEMA.service.methods().collect();
    let function_of = |name: &str| {
        let name = name.replace('_', "");
        let mut all = functions.iter();
        all.find(|function| function.name().to_lowercase() == name)
    };
    for (name, scope) in SCOPES {
        if let Some(function) = function_of(name) {
            let path = format!("/v1/plugins/{{plugin}}/{}", name.replace('_', "-"));
            paths.insert(path, operation(function, name, *scope, &mut schemas));
        }
    }
    if let Some(function) = function_of("batch") {
        paths.insert("/v1/batch".to_owned(), batch(function, &mut schemas));
    }
    if let Some(function) = function_of("watch") {
        let data = "Server-sent events; `data` is an Event.";
        let events = stream(function, TokenScope::Read, data, &mut schemas);
        paths.insert("/v1/events".to_owned(), events);
    }
    if let Some(function) = function_of("trace") {
        let data = "Server-sent events; `data` is a TraceStep.";
        let mut trace = stream(function, TokenScope::Read, data, &mut schemas);
        trace["get"]["parameters"] = json!([
            in_path("plugin"),
            in_query(
                "client",
                "string",
                "A client id; or name a uid, or a share.",
            ),
            in_query(
                "uid",
                "string",
                "All clients of this uid, also those that come later.",
            ),
            in_query(
                "percent",
                "number",
                "This share of the clients that connect from now on, above 0 and up to 100.",
            ),
            in_query(
                "recording",
                "boolean",
                "Whether the steps have all that a replay needs; needs the scope `inspect`, too.",
            ),
            in_query(
                "payloads",
                "boolean",
                "Whether the steps have the payloads of messages; needs the scope `inspect`, too.",
            ),
        ]);
        let path = "/v1/plugins/{plugin}/trace";
        paths.insert(path.to_owned(), trace);
    }
    if let Some(function) = function_of("logs") {
        let data = "Server-sent events; `data` is a LogRecord.";
        let mut logs = stream(function, TokenScope::Inspect, data, &mut schemas);
        if let Some(parameters) = logs["get"]["parameters"].as_array_mut() {
            parameters.push(json!({
                "name": "level", "in": "query",
                "description": "The least level; without it, all that is logged.",
                "schema": { "type": "string", "enum": ["error", "warn", "info", "debug", "trace"] },
            }));
        }
        paths.insert("/v1/logs".to_owned(), logs);
    }
    if let Some(function) = function_of("call") {
        let path = "/v1/plugins/{plugin}/call/{method}";
        paths.insert(path.to_owned(), call(function));
    }
    if let Some(function) = function_of("drain") {
        paths.insert("/v1/drain".to_owned(), drain(function, &mut schemas));
    }
    paths.insert("/v1/nodes".to_owned(), nodes());
    paths.insert("/v1/state".to_owned(), state());
    paths.insert("/v1/deployments".to_owned(), deployments::list());
    paths.insert(
        "/v1/plugins/{plugin}/deployment".to_owned(),
        deployments::of_plugin(in_path("plugin")),
    );
    paths.insert("/metrics".to_owned(), metrics());
    let operations = paths.values_mut().filter_map(Value::as_object_mut);
    for (_, operation) in operations.flatten() {
        if let Some(description) = operation.get("description").and_then(Value::as_str) {
            operation["summary"] = summary(description).into();
        }
    }
    let file = SCHEMA.service.parent_file();
    let mut components = schemas.0;
    components.insert("Problem".to_owned(), problem());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Jackfield",
            "version": env!("CARGO_PKG_VERSION"),
            "description": comment(&file, &[12]),
        },
        "tags": [
            { "name": "send", "description": "What the scope `send` allows." },
            { "name": "manage", "description": "What the scope `manage` allows." },
            { "name": "read", "description": "What the scope `read` allows." },
            { "name": "inspect", "description": "What the scope `inspect` allows." },
            { "name": "operate", "description": "What the scope `operate` allows." },
            { "name": "batch", "description": "Each operation needs its own scope." },
        ],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "responses": { "Problem": {
                "description": "It had no effect.",
                "content": { "application/problem+json": { "schema": reference("Problem") } },
            } },
        },
        // Where the node has tokens.
        "security": [{ "token": [] }, {}],
    })
}

fn operation(
    function: &MethodDescriptor,
    name: &str,
    scope: TokenScope,
    schemas: &mut Schemas,
) -> Value {
    let (request, answer) = (function.input(), function.output());
    schemas.add_body(&request);
    schemas.add(&answer);
    let described = |id: String| {
        json!({
            "operationId": id,
            "tags": [scope.as_str()],
            "description": comment(&function.parent_file(), function.path()),
            "responses": responses(&answer),
        })
    };
    let mut post = described(name.to_owned());
    post["requestBody"] = json!({
        "required": true,
        "content": { "application/json": {
            "schema": reference(&body_name(&request)),
            "example": example(&request, &["plugin"]),
        } },
    });
    let mut methods = json!({
        "parameters": [{
            "name": "plugin", "in": "path", "required": true,
            "description": "The plugin's name.",
            "schema": { "type": "string" },
        }],
        "post": post,
    });
    if request.get_field_by_name("idempotency_key").is_some() {
        methods["post"]["parameters"] = json!([{
            "name": "Idempotency-Key", "in": "header",
            "description": "As `idempotency_key`.",
            "schema": { "type": "string", "maxLength": 128 },
        }]);
    }
    if scope == TokenScope::Read {
        let mut get = described(format!("{name}_by_get"));
        let fields = request.fields().filter(|field| field.name() != "plugin");
        get["parameters"] = fields
            .map(|field| {
                json!({
                    "name": field.name(),
                    "in": "query",
                    "description": comment(&field.parent_file(), field.path()),
                    "schema": schema_of(&field),
                })
            })
            .collect();
        methods["get"] = get;
    }
    methods
}

/// A parameter that is a part of the path.
fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}

fn in_query(name: &str, kind: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "query", "description": description, "schema": { "type": kind },
    })
}

/// Describes the path of a call whose payload is the body of the request.
fn call(function: &MethodDescriptor) -> Value {
    let payload = json!({ "application/octet-stream": { "schema": {} } });
    json!({
        "parameters": [in_path("plugin"), in_path("method")],
        "post": {
            "operationId": "call_method",
            "tags": ["send"],
            "description": comment(&function.parent_file(), function.path()),
            // The payload may be anything; these can be written in a form.
            "requestBody": { "content": {
                "application/json": { "schema": {}, "example": {} },
                "application/octet-stream": { "schema": {} },
                "text/plain": { "schema": { "type": "string" } },
            } },
            "responses": {
                "200": { "description": "What the plugin answered.", "content": payload },
                "default": { "$ref": "#/components/responses/Problem" },
            },
        },
    })
}

fn batch(function: &MethodDescriptor, schemas: &mut Schemas) -> Value {
    schemas.add(&function.input());
    schemas.add(&function.output());
    json!({ "post": {
        "operationId": "batch",
        "tags": ["batch"],
        "description": comment(&function.parent_file(), function.path()),
        "requestBody": {
            "required": true,
            "content": { "application/json": {
                "schema": reference(function.input().name()),
                "example": example(&function.input(), &[]),
            } },
        },
        "responses": responses(&function.output()),
    } })
}

fn stream(
    function: &MethodDescriptor,
    scope: TokenScope,
    data: &str,
    schemas: &mut Schemas,
) -> Value {
    schemas.add(&function.output());
    json!({ "get": {
        "operationId": function.name().to_ascii_lowercase(),
        "tags": [scope.as_str()],
        "description": comment(&function.parent_file(), function.path()),
        "parameters": [{
            "name": "plugin", "in": "query",
            "description": "Only this plugin's; may be there several times.",
            "schema": { "type": "array", "items": { "type": "string" } },
        }],
        "responses": {
            "200": {
                "description": data,
                "content": { "text/event-stream": { "schema": { "type": "string" } } },
            },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    } })
}

fn drain(function: &MethodDescriptor, schemas: &mut Schemas) -> Value {
    schemas.add(&function.output());
    json!({ "post": {
        "operationId": "drain",
        "tags": ["operate"],
        "description": comment(&function.parent_file(), function.path()),
        "responses": responses(&function.output()),
    } })
}

fn nodes() -> Value {
    json!({ "get": {
        "operationId": "nodes",
        "tags": ["read"],
        "description": "What this node knows of itself and of the others.",
        "responses": {
            "200": {
                "description": "Done.",
                "content": { "application/json": { "schema": { "type": "object" } } },
            },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    } })
}

fn state() -> Value {
    let copy = json!({ "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } });
    let problem = json!({ "$ref": "#/components/responses/Problem" });
    json!({
        "get": {
            "operationId": "backup-state",
            "tags": ["operate"],
            "description": "Scope `operate`, of a token for all plugins. A copy of the state of all \
                plugins on this node, if it is in a file.",
            "responses": {
                "200": { "description": "The copy.", "content": copy },
                "default": problem,
            },
        },
        "put": {
            "operationId": "restore-state",
            "tags": ["operate"],
            "description": "Scope `operate`, of a token for all plugins. Replaces the state of all \
                plugins on this node by that of a copy, all at once.",
            "requestBody": { "required": true, "content": copy },
            "responses": {
                "200": {
                    "description": "Done.",
                    "content": { "application/json": { "schema": {
                        "type": "object",
                        "properties": { "entries": { "type": "integer" } },
                    } } },
                },
                "default": problem,
            },
        },
    })
}

fn metrics() -> Value {
    let text = json!({ "schema": { "type": "string" } });
    json!({ "get": {
        "operationId": "metrics",
        "tags": ["read"],
        "description": "The metrics of this node, for Prometheus. The header accept chooses one of \
            the formats.",
        "responses": {
            "200": {
                "description": "Done.",
                "content": { "text/plain": text, "application/openmetrics-text": text },
            },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    } })
}

fn responses(answer: &MessageDescriptor) -> Value {
    json!({
        "200": {
            "description": "Done.",
            "content": { "application/json": { "schema": reference(answer.name()) } },
        },
        "default": { "$ref": "#/components/responses/Problem" },
    })
}

fn problem() -> Value {
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    json!({
        "type": "object",
        "description": "A problem document (RFC 9457).",
        "required": ["type", "title", "status", "detail", "reason"],
        "properties": {
            "type": { "type": "string", "format": "uri" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "A sentence for a person." },
            "reason": { "type": "string", "enum": reasons },
        },
    })
}

/// The schemas of all messages that the document refers to, by name.
#[derive(Default)]
struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Adds the schema of a message, and the schemas of the messages inside it.
    fn add(&mut self, message: &MessageDescriptor) {
        self.add_as(message.name().to_owned(), message, |_| true);
    }

    /// Adds the schema of a request whose plugin is named by the path.
    fn add_body(&mut self, request: &MessageDescriptor) {
        self.add_as(body_name(request), request, |field| {
            field.name() != "plugin"
        });
    }

    fn add_as(
        &mut self,
        name: String,
        message: &MessageDescriptor,
        has: impl Fn(&FieldDescriptor) -> bool,
    ) {
        if self.0.contains_key(&name) {
            return;
        }
        self.0.insert(name.clone(), Value::Null);
        let mut properties = Map::new();
        for field in message.fields().filter(has) {
            if let Kind::Message(of) = field.kind()
                && !field.is_map()
            {
                self.add(&of);
            }
            let mut schema = schema_of(&field);
            let said = comment(&field.parent_file(), field.path());
            if !said.is_empty() {
                schema["description"] = said.into();
            }
            properties.insert(field.name().to_owned(), schema);
        }
        let mut schema = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
        });
        let said = comment(&message.parent_file(), message.path());
        if !said.is_empty() {
            schema["description"] = said.into();
        }
        let alternatives = message.fields().filter(|field| {
            field
                .containing_oneof()
                .is_some_and(|oneof| !oneof.is_synthetic())
        });
        // One of them, and nothing else.
        if alternatives.count() == properties_in(&schema) {
            schema["maxProperties"] = 1.into();
        }
        self.0.insert(name, schema);
    }
}

/// The name of a request's schema if the path names the plugin.
fn body_name(request: &MessageDescriptor) -> String {
    request.name().replace("Request", "Body")
}

fn properties_in(schema: &Value) -> usize {
    // A message without fields has no alternatives either, and none is no more than one.
    schema["properties"].as_object().map_or(0, Map::len)
}

fn schema_of(field: &FieldDescriptor) -> Value {
    let one = match field.kind() {
        Kind::Message(_) if field.is_map() => {
            return json!({ "type": "object", "additionalProperties": { "type": "string" } });
        }
        Kind::Message(message) => reference(message.name()),
        Kind::Bytes => json!({ "type": "string", "format": "byte", "contentEncoding": "base64" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Uint32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        Kind::Uint64 => json!({ "type": "integer", "minimum": 0 }),
        _ => json!({ "type": "string" }),
    };
    match field.is_list() {
        true => json!({ "type": "array", "items": one }),
        false => one,
    }
}

/// The fields that an example request leaves out, in addition to the `optional` ones.
const LEFT_OUT: [&str; 5] = [
    "delete",
    "exclude",
    "idempotency_key",
    "last_message",
    "reason",
];

/// An example of a request, without the fields in `without`. An example made from the schema alone
/// would contain all fields, even an exclusion or a key that nobody wants.
fn example(message: &MessageDescriptor, without: &[&str]) -> Value {
    let mut fields = message.fields().filter(|field| {
        let oneof = field.containing_oneof();
        let is_optional = oneof.is_some_and(|oneof| oneof.is_synthetic());
        let is_left_out = |names: &[&str]| names.contains(&field.name());
        !is_optional && !is_left_out(&LEFT_OUT) && !is_left_out(without)
    });
    let is_one_of_several = message.oneofs().any(|oneof| !oneof.is_synthetic());
    let shown: Vec<FieldDescriptor> = match is_one_of_several {
        true => fields.next().into_iter().collect(),
        false => fields.collect(),
    };
    let shown = shown.iter().map(|field| {
        let one = example_of(field);
        let value = if field.is_list() { json!([one]) } else { one };
        (field.name().to_owned(), value)
    });
    shown.collect::<Map<_, _>>().into()
}

fn example_of(field: &FieldDescriptor) -> Value {
    match (field.kind(), field.name()) {
        (Kind::Message(_), _) if field.is_map() => json!({ "key": "value" }),
        (Kind::Message(message), _) => example(&message, &[]),
        (Kind::Bytes, _) => json!("aGVsbG8="),
        (_, "plugin") => json!("chat"),
        (_, "client") => json!("3d6jqjmaf0jvj0000000ng3q5x"),
        (_, "uid" | "uids") => json!("ada"),
        (_, "group" | "groups") => json!("lobby"),
        (_, "method") => json!("echo"),
        _ => json!("hello"),
    }
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// The second sentence of a description, which is shown beside the path. The first sentence is
/// about scopes.
fn summary(description: &str) -> String {
    let words: Vec<&str> = description.split_whitespace().collect();
    let line = words.join(" ");
    let sentence = line.split(". ").nth(1).unwrap_or(&line);
    sentence.trim_end_matches('.').to_owned()
}

/// The comment above an element of the `.proto` file.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let proto = file.file_descriptor_proto();
    let info = proto.source_code_info.as_ref();
    let mut locations = info.iter().flat_map(|info| &info.location);
    let Some(location) = locations.find(|location| location.path == path) else {
        return String::new();
    };
    let above = location.leading_detached_comments.iter();
    let text: Vec<&str> = above
        .map(String::as_str)
        .chain(location.leading_comments.as_deref())
        .collect();
    let lines = text.join("\n");
    let lines = lines
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}
