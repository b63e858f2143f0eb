//! Errors of gRPC, in words for the log.

/// A transport's error, with what caused it: by itself it does not say.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// Says why the other side refuses, also where it gives no words for it.
pub(super) fn refusal(status: &tonic::Status) -> &str {
    let is_another_service = status.code() == tonic::Code::Unimplemented;
    // So tonic says that the answer is none of gRPC.
    match is_another_service || status.message().starts_with("protocol error") {
        true => "what answers there is neither a node's mesh port nor a register",
        false => status.message(),
    }
}

/// Says why a register or an etcd cannot be dialled.
pub(super) fn unreachable(error: tonic::transport::Error) -> tonic::Status {
    tonic::Status::unavailable(format!("it cannot be connected to: {}", causes(&error)))
}
