//! The audit: a log line for each call that changes something, with its caller and its outcome.

use super::problem::Problem;
use super::tokens::ApiCaller;
use super::wire;

/// The target of the lines, for `--log`. Operators use this name in their configurations.
const TARGET: &str = "jackfield::audit";

/// The longest name in a line, in bytes. A request may have names of any length.
const NAME_BYTES: usize = 256;

/// A request that changes something.
pub(super) trait AuditedRequest {
    /// The client, the uid and the group that the request names, as far as it names any.
    fn names(&self) -> [Option<&str>; 3] {
        [None; 3]
    }
}

/// The record of one call. When it is dropped, its line is logged: a caller who hangs up in the
/// middle of a call leaves a line, too.
pub(super) struct AuditRecord {
    caller: String,
    function: &'static str,
    plugin: String,
    names: [Option<String>; 3],
    outcome: &'static str,
}

impl AuditRecord {
    /// Notes what a request is about, before it is carried out.
    pub(super) fn new(
        caller: &ApiCaller,
        function: &'static str,
        plugin: &str,
        request: &impl AuditedRequest,
    ) -> AuditRecord {
        let short = |name: &str| name[..name.floor_char_boundary(NAME_BYTES)].to_owned();
        AuditRecord {
            caller: caller.name.clone(),
            function,
            plugin: short(plugin),
            names: request.names().map(|name| name.map(short)),
            outcome: "the caller hung up",
        }
    }

    /// Notes how the call ended, and logs the line.
    pub(super) fn end<T>(mut self, outcome: &Result<T, Problem>) {
        self.outcome = match outcome {
            Ok(_) => "ok",
            Err(problem) => problem.reason.as_str(),
        };
    }
}

impl Drop for AuditRecord {
    fn drop(&mut self) {
        let [client, uid, group] = &self.names;
        tracing::info!(
            target: TARGET,
            caller = self.caller,
            function = self.function,
            plugin = self.plugin,
            client,
            uid,
            group,
            outcome = self.outcome,
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

impl AuditedRequest for wire::RollbackRequest {}
impl AuditedRequest for wire::CanaryRequest {}
impl AuditedRequest for wire::SetCanaryRequest {}
impl AuditedRequest for wire::DrainRequest {}
