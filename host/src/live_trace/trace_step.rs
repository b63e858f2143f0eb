//! The steps of live traces, as nodes and the API say them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::id::Incarnation;

pub use self::generated::trace_step::Step;
pub use self::generated::{
    TraceClosed, TraceConnecting, TraceEvent, TraceFound, TracePair, TraceReceived, TraceSent,
    TraceStep,
};

/// The types of `proto/jackfield/trace/v1`, generated in advance; `tests/generated` checks that they
/// are current.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    include!("../../generated/jackfield.trace.v1.rs");
}

impl TraceStep {
    /// What happens now on a node, to a client or, if the text is empty, to the trace itself.
    pub(crate) fn now(node: Incarnation, client: String, step: Step) -> TraceStep {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let at_us = since.unwrap_or_default().as_micros();
        TraceStep {
            at_us: u64::try_from(at_us).unwrap_or(u64::MAX),
            node: node.to_string(),
            client,
            step: Some(step),
        }
    }
}
