//! The schema of the API from `proto/jackfield/api/v1`. JSON is read and written with this schema,
//! and the description of the HTTP API is made from it.

use std::sync::LazyLock;

use bytes::Bytes;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, MessageDescriptor,
    SerializeOptions, ServiceDescriptor,
};
use serde_json::Value;
use serde_path_to_error::Track;

use super::problem::{Problem, Reason};
use super::wire::{self, operation::Operation, outcome::Outcome};
use crate::live_trace::TraceStep;

/// The compiled `.proto` file with its comments, kept current by `tests/generated`.
pub(super) const DESCRIPTORS: &[u8] = include_bytes!("../../generated/api.bin");

/// The descriptors of the API's service and messages.
pub(super) struct Schema {
    pub(super) service: ServiceDescriptor,
    operation: MessageDescriptor,
    outcome: MessageDescriptor,
    batch: MessageDescriptor,
    batch_response: MessageDescriptor,
    event: MessageDescriptor,
    log_record: MessageDescriptor,
    trace_step: MessageDescriptor,
}

/// The only schema of the API, read from a constant of the binary.
#[expect(
    clippy::expect_used,
    reason = "a constant of the binary, read by a test"
)]
pub(super) static SCHEMA: LazyLock<Schema> =
    LazyLock::new(|| Schema::read().expect("the API's compiled schema"));

impl Schema {
    fn read() -> Option<Schema> {
        let pool = DescriptorPool::decode(DESCRIPTORS).ok()?;
        let message = |name: &str| pool.get_message_by_name(&format!("jackfield.api.v1.{name}"));
        Some(Schema {
            service: pool.get_service_by_name("jackfield.api.v1.Api")?,
            operation: message("Operation")?,
            outcome: message("Outcome")?,
            batch: message("BatchRequest")?,
            batch_response: message("BatchResponse")?,
            event: message("Event")?,
            log_record: message("LogRecord")?,
            trace_step: pool.get_message_by_name("jackfield.trace.v1.TraceStep")?,
        })
    }

    /// The operation with this name, in snake_case. Each operation is a field of the message
    /// `Operation`.
    pub(super) fn operation(&self, name: &str) -> Option<FieldDescriptor> {
        self.operation.get_field_by_name(name)
    }

    /// Reads an operation from its request in JSON.
    pub(super) fn read_operation(&self, name: &str, request: Value) -> Result<Operation, Problem> {
        let whole = Value::Object([(name.to_owned(), request)].into_iter().collect());
        let operation: wire::Operation = read(&self.operation, whole)?;
        operation
            .operation
            .ok_or_else(|| Problem::invalid("the request is null"))
    }

    /// Writes the answer of an operation as JSON.
    pub(super) fn write_outcome(&self, outcome: Outcome) -> Result<Value, Problem> {
        let outcome = Some(outcome);
        let whole = write(&self.outcome, &wire::Outcome { outcome })?;
        match whole {
            Value::Object(fields) => fields.into_iter().next().map(|(_, answer)| answer),
            _ => None,
        }
        .ok_or_else(|| failed("an answer without a name"))
    }

    pub(super) fn read_batch(&self, batch: Value) -> Result<wire::BatchRequest, Problem> {
        read(&self.batch, batch)
    }

    pub(super) fn write_batch(&self, batch: &wire::BatchResponse) -> Result<Value, Problem> {
        write(&self.batch_response, batch)
    }

    pub(super) fn write_trace_step(&self, step: &TraceStep) -> Result<Value, Problem> {
        write(&self.trace_step, step)
    }

    /// Reads a step that `write_trace_step` has written. Fields of a newer schema are passed over.
    pub(super) fn read_trace_step(&self, json: Value) -> anyhow::Result<TraceStep> {
        let options = DeserializeOptions::new().deny_unknown_fields(false);
        let descriptor = self.trace_step.clone();
        let message = DynamicMessage::deserialize_with_options(descriptor, json, &options)?;
        Ok(message.transcode_to()?)
    }

    pub(super) fn write_log_record(&self, record: &wire::LogRecord) -> Result<Value, Problem> {
        write(&self.log_record, record)
    }

    pub(super) fn write_event(&self, event: &wire::Event) -> Result<Value, Problem> {
        write(&self.event, event)
    }
}

fn read<T: prost::Message + Default>(
    descriptor: &MessageDescriptor,
    json: Value,
) -> Result<T, Problem> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let mut track = Track::new();
    let json = serde_path_to_error::Deserializer::new(json, &mut track);
    let read = DynamicMessage::deserialize_with_options(descriptor.clone(), json, &options);
    let message = read.map_err(|error| match track.path().to_string().as_str() {
        "." => Problem::invalid(format!("the request: {error}")),
        path => Problem::invalid(format!("the request, at {path}: {error}")),
    })?;
    message
        .transcode_to()
        .map_err(|error| failed(&format!("a request of another schema: {error}")))
}

/// Writes a message as JSON. Fields with their default values are written too.
fn write(descriptor: &MessageDescriptor, message: &impl prost::Message) -> Result<Value, Problem> {
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .skip_default_fields(false);
    let bytes = Bytes::from(message.encode_to_vec());
    DynamicMessage::decode(descriptor.clone(), bytes)
        .map_err(|error| error.to_string())
        .and_then(|message| {
            let written = message.serialize_with_options(serde_json::value::Serializer, &options);
            written.map_err(|error| error.to_string())
        })
        .map_err(|error| failed(&format!("an answer of another schema: {error}")))
}

fn failed(message: &str) -> Problem {
    tracing::error!("the API failed: {message}");
    Problem::new(
        Reason::Failed,
        "the node failed at this call; its log says more",
    )
}

#[cfg(test)]
mod tests {
    use super::super::operations::SCOPES;
    use super::*;
    use crate::fuzzing::fuzz;

    #[test]
    fn each_operation_is_a_function_of_the_service_with_a_scope() {
        let schema = &*SCHEMA;
        let functions: Vec<_> = schema.service.methods().collect();
        let operations = schema.operation.fields();
        let others = ["Batch", "Watch", "Logs", "Trace", "Drain"].len();
        assert_eq!(functions.len(), operations.len() + others);
        assert_eq!(SCOPES.len(), operations.len());
        for operation in operations {
            let name: String = operation.name().replace('_', "");
            let function = functions
                .iter()
                .find(|function| function.name().to_lowercase() == name)
                .expect("a function of that name");
            let request = operation.kind();
            assert_eq!(request.as_message(), Some(&function.input()));
            let scope = SCOPES.iter().find(|(name, _)| *name == operation.name());
            assert!(scope.is_some(), "{}", operation.name());
        }
    }

    #[test]
    fn whatever_comes_is_an_operation_or_the_caller_s_mistake() {
        let mut good = 0;
        fuzz("api-bodies", 20_000, |bytes| {
            let Ok(Value::Object(body)) = serde_json::from_slice(bytes) else {
                return;
            };
            for (name, request) in body {
                if SCHEMA.operation(&name).is_none() {
                    continue;
                }
                match SCHEMA.read_operation(&name, request) {
                    Ok(operation) => {
                        good += 1;
                        let operation = Some(operation);
                        let whole = wire::Operation { operation };
                        let written = write(&SCHEMA.operation, &whole).expect("JSON");
                        let again = SCHEMA.read_operation(&name, written[&name].clone());
                        assert_eq!(again.ok(), whole.operation);
                    }
                    Err(problem) => {
                        assert_eq!(problem.reason, Reason::InvalidArgument);
                        assert!(problem.message.starts_with("the request"));
                    }
                }
            }
        });
        assert!(good > 500, "{good}");
    }
}
