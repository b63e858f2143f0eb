//! The audit: a log line for each call that changes something, with its caller and its outcome.

use super::problem::Problem;
use super::tokens::ApiCaller;
use super::wire;

/// The target of the lines, for `--log`. Operators use this name in their configurations.
const TARGET: &str = "jackfield::audit";

/// The longest name in a line, in bytes. A request may have names of any length.
const NAME_BYTES: usize = 256;

/// A request that changes something for a client, a uid or a group.
pub(super) trait AuditedRequest {
    /// The client, the uid and the group that the request names.
    fn names(&self) -> [Option<&str>; 3];
}

/// The names of a request, as they stand in its line.
pub(super) struct AuditRecord {
    plugin: String,
    names: [Option<String>; 3],
}

impl AuditRecord {
    /// Notes what a request is about, before it is carried out.
    pub(super) fn new(plugin: &str, request: &impl AuditedRequest) -> AuditRecord {
        let short = |name: &str| name[..name.floor_char_boundary(NAME_BYTES)].to_owned();
        AuditRecord {
            plugin: short(plugin),
            names: request.names().map(|name| name.map(short)),
        }
    }

    /// Logs the line with the outcome of the call.
    pub(super) fn log<T>(self, caller: &ApiCaller, function: &str, outcome: &Result<T, Problem>) {
        let outcome = match outcome {
            Ok(_) => "ok",
            Err(problem) => problem.reason.as_str(),
        };
        let AuditRecord {
            plugin,
            names: [client, uid, group],
        } = self;
        tracing::info!(
            target: TARGET,
            caller = caller.name,
            function,
            plugin,
            client,
            uid,
            group,
            outcome,
            "a call of the API that changes something"
        );
    }
}

/// Implements `AuditedRequest` for requests with these fields.
macro_rules! audited_requests {
    ($($request:ident { $($kind:ident $(: $option:ident)?),* })*) => {
        $(impl AuditedRequest for wire::$request {
            fn names(&self) -> [Option<&str>; 3] {
                let mut names = AuditNames::default();
                $(names.$kind = audited_requests!(@name self.$kind $(, $option)?);)*
                [names.client, names.uid, names.group]
            }
        })*
    };
    (@name $field:expr) => { Some(&*$field) };
    (@name $field:expr, optional) => { $field.as_deref() };
}

/// The names of a request by their kinds.
#[derive(Default)]
struct AuditNames<'a> {
    client: Option<&'a str>,
    uid: Option<&'a str>,
    group: Option<&'a str>,
}

audited_requests! {
    BindUidRequest { client, uid }
    UnbindUidRequest { client, uid: optional }
    GroupChangeRequest { client, group }
    GroupRequest { group }
    CloseClientRequest { client }
    CloseUidRequest { uid }
    CloseGroupRequest { group }
    SetInfoRequest { client }
    UpdateInfoRequest { client }
}
