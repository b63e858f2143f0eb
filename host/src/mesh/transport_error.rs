//! Errors of gRPC, as texts for the log.

/// The text of an error together with its causes, which the error alone does not show.
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

/// The reason why the other side refuses. There is a text even if the other side gives none.
pub(super) fn refusal(status: &tonic::Status) -> &str {
    let is_another_service = status.code() == tonic::Code::Unimplemented;
    // So tonic says that the answer is none of gRPC.
    match is_another_service || status.message().starts_with("protocol error") {
        true => "what answers there is neither a node's mesh port nor a register",
        false => status.message(),
    }
}

/// The error for a register or an etcd that cannot be dialled.
pub(super) fn unreachable(error: tonic::transport::Error) -> tonic::Status {
    tonic::Status::unavailable(format!("it cannot be connected to: {}", causes(&error)))
}
