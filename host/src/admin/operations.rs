//! The operations of the API: one implementation for each function of `proto/jackfield/api/v1`, for
//! every protocol, and the table of all functions.

use std::collections::BTreeMap;

use super::api::{Api, Of};
use super::audit::AuditRecord;
use super::problem::{Problem, Reason};
use super::replay::Replay;
use super::tokens::{ApiCaller, TokenScope};
use super::wire::{self, operation::Operation, outcome::Outcome};
use crate::close_code::CloseCode;
use crate::delivery::{Delivery, Target};
use crate::guest;
use crate::message::{Frame, Message};
use crate::registry::{Ending, Kind};
use crate::router::{self, Gathered, Router};

/// The number of items on a page if the request gives no number.
pub(super) const PAGE: u32 = 100;

/// The most operations in one batch. A larger batch fails with LIMIT_EXCEEDED.
const BATCH: usize = 1_000;

/// The table of functions, each with its request, its answer and the scope that it needs. The gRPC
/// service, batches and HTTP are made from this table: `operations!(define)` expands to `define! {
/// … }` with the rows.
macro_rules! operations {
    ($define:ident) => {
        $define! {
            send_to_all SendToAll(SendToAllRequest) -> Reach(Reach): Send;
            send_to_client SendToClient(SendToClientRequest) -> Done(Done): Send;
            send_to_uid SendToUid(SendToUidRequest) -> Reach(Reach): Send;
            send_to_group SendToGroup(SendToGroupRequest) -> Reach(Reach): Send;
            bind_uid BindUid(BindUidRequest) -> Done(Done): Manage;
            unbind_uid UnbindUid(UnbindUidRequest) -> Unbound(Unbound): Manage;
            is_uid_online IsUidOnline(UidRequest) -> Online(Online): Read;
            get_uid_by_client_id GetUidByClientId(ClientRequest) -> Uid(OptionalUid): Read;
            get_client_ids_by_uid GetClientIdsByUid(UidPageRequest) -> Page(Page): Read;
            get_all_uids GetAllUids(PageRequest) -> Page(Page): Read;
            join_group JoinGroup(GroupChangeRequest) -> Done(Done): Manage;
            leave_group LeaveGroup(GroupChangeRequest) -> Done(Done): Manage;
            ungroup Ungroup(GroupRequest) -> Count(Count): Manage;
            get_client_count_by_group GetClientCountByGroup(GroupRequest) -> Count(Count): Read;
            get_client_ids_by_group GetClientIdsByGroup(GroupPageRequest) -> Page(Page): Read;
            get_uids_by_group GetUidsByGroup(GroupPageRequest) -> Page(Page): Read;
            get_uid_count_by_group GetUidCountByGroup(GroupRequest) -> Count(Count): Read;
            get_all_groups GetAllGroups(PageRequest) -> Page(Page): Read;
            is_online IsOnline(ClientRequest) -> Online(Online): Read;
            get_all_client_count GetAllClientCount(PluginRequest) -> Count(Count): Read;
            close_client CloseClient(CloseClientRequest) -> Done(Done): Manage;
            close_uid CloseUid(CloseUidRequest) -> Count(Count): Manage;
            close_group CloseGroup(CloseGroupRequest) -> Count(Count): Manage;
            get_info GetInfo(ClientRequest) -> Info(Info): Read;
            set_info SetInfo(SetInfoRequest) -> Done(Done): Manage;
            update_info UpdateInfo(UpdateInfoRequest) -> Info(Info): Manage;
            call Call(CallRequest) -> Called(Called): Send;
            get_all_client_ids GetAllClientIds(ClientsRequest) -> Page(Page): Read;
            get_client GetClient(ClientRequest) -> Client(Client): Read;
            get_timers GetTimers(PageRequest) -> Timers(Timers): Read;
            get_builds GetBuilds(PluginRequest) -> Builds(Builds): Read;
            rollback Rollback(RollbackRequest) -> RolledBack(RolledBack): Operate;
            get_canary GetCanary(PluginRequest) -> Canary(Canary): Read;
            set_canary SetCanary(SetCanaryRequest) -> Done(Done): Operate;
            promote_canary PromoteCanary(CanaryRequest) -> Done(Done): Operate;
            withdraw_canary WithdrawCanary(CanaryRequest) -> Done(Done): Operate;
        }
    };
}
pub(super) use operations;

/// Runs the call of a function, and logs it if its scope is `Manage` or `Operate`.
macro_rules! audited {
    (Manage, $($call:tt)*) => { audited!(@logged $($call)*) };
    (Operate, $($call:tt)*) => { audited!(@logged $($call)*) };
    (@logged $caller:expr, $function:ident, $request:expr, $call:expr) => {{
        let function = stringify!($function);
        let record = AuditRecord::new($caller, function, &$request.plugin, &$request);
        let outcome = $call;
        record.end(&outcome);
        outcome
    }};
    ($scope:ident, $caller:expr, $function:ident, $request:expr, $call:expr) => {
        $call
    };
}
pub(super) use audited;

macro_rules! dispatch {
    ($($function:ident $operation:ident($request:ident) -> $outcome:ident($answer:ident): $scope:ident;)*) => {
        /// The scope that each function needs.
        pub(super) const SCOPES: &[(&str, TokenScope)] = &[$((stringify!($function), TokenScope::$scope),)*];

        impl Api {
            /// Runs one operation of the API.
            pub(super) async fn operate(&self, caller: &ApiCaller, operation: Operation) -> Result<Outcome, Problem> {
                match operation {
                    $(Operation::$operation(request) => {
                        let outcome = audited!($scope, caller, $function, request, async {
                            let plugin = self.plugin(caller, TokenScope::$scope, &request.plugin)?;
                            let of = Of { caller, plugin: &plugin };
                            self.$function(of, request).await
                        }.await);
                        Ok(Outcome::$outcome(outcome?))
                    })*
                }
            }
        }
    };
}

operations!(dispatch);

impl Api {
    /// Runs the operations of a batch in order, even if earlier ones fail.
    pub(super) async fn batch(
        &self,
        caller: &ApiCaller,
        batch: wire::BatchRequest,
    ) -> Result<wire::BatchResponse, Problem> {
        let count = batch.operations.len();
        if count > BATCH {
            let message = format!("{count} operations, more than {BATCH} (a batch's most)");
            return Err(Problem::new(Reason::LimitExceeded, message));
        }
        let mut outcomes = Vec::with_capacity(count);
        for wire::Operation { operation } in batch.operations {
            let outcome = match operation {
                Some(operation) => self.operate(caller, operation).await,
                None => Err(Problem::invalid("the operation names no function")),
            };
            let outcome = outcome.unwrap_or_else(|problem| Outcome::Error(problem.into()));
            outcomes.push(wire::Outcome {
                outcome: Some(outcome),
            });
        }
        Ok(wire::BatchResponse { outcomes })
    }

    // Sends.

    pub(super) async fn send_to_all(
        &self,
        of: Of<'_>,
        request: wire::SendToAllRequest,
    ) -> Result<wire::Reach, Problem> {
        let key = &request.idempotency_key;
        once(&self.reaches, of.caller, key, &request, || {
            let _sender = of.sender();
            let (router, exclude) = (of.router(), router::excluded(&request.exclude)?);
            let frame = frame(router, request.message.as_ref())?;
            Ok(deliver(router, Target::All, &exclude, frame))
        })
    }

    pub(super) async fn send_to_client(
        &self,
        of: Of<'_>,
        request: wire::SendToClientRequest,
    ) -> Result<wire::Done, Problem> {
        let key = &request.idempotency_key;
        once(&self.dones, of.caller, key, &request, || {
            let _sender = of.sender();
            let router = of.router();
            let frame = frame(router, request.message.as_ref())?;
            router.send_to(router::client_id(&request.client)?, frame)?;
            Ok(wire::Done {})
        })
    }

    pub(super) async fn send_to_uid(
        &self,
        of: Of<'_>,
        request: wire::SendToUidRequest,
    ) -> Result<wire::Reach, Problem> {
        let (router, uids) = (of.router(), &request.uids);
        let key = &request.idempotency_key;
        once(&self.reaches, of.caller, key, &request, || {
            let _sender = of.sender();
            at_least_one("uids", uids)?;
            router.check_names("uids", uids)?;
            let frame = frame(router, request.message.as_ref())?;
            let unknown_uids: Vec<String> = uids
                .iter()
                .filter(|uid| !router.is_uid_online(uid))
                .cloned()
                .collect();
            if unknown_uids.len() == uids.len() {
                return Err(nobody_has(&unknown_uids));
            }
            Ok(wire::Reach {
                unknown_uids,
                ..deliver(router, Target::Uids(uids), &[], frame)
            })
        })
    }

    pub(super) async fn send_to_group(
        &self,
        of: Of<'_>,
        request: wire::SendToGroupRequest,
    ) -> Result<wire::Reach, Problem> {
        let (router, groups) = (of.router(), &request.groups);
        let key = &request.idempotency_key;
        once(&self.reaches, of.caller, key, &request, || {
            let _sender = of.sender();
            at_least_one("groups", groups)?;
            router.check_names("groups", groups)?;
            let exclude = router::excluded(&request.exclude)?;
            let frame = frame(router, request.message.as_ref())?;
            Ok(deliver(router, Target::Groups(groups), &exclude, frame))
        })
    }

    // Uids.

    pub(super) async fn bind_uid(
        &self,
        of: Of<'_>,
        request: wire::BindUidRequest,
    ) -> Result<wire::Done, Problem> {
        let id = router::client_id(&request.client)?;
        of.router().check_name("uid", &request.uid)?;
        of.router().bind_uid(id, &request.uid).await?;
        Ok(wire::Done {})
    }

    pub(super) async fn unbind_uid(
        &self,
        of: Of<'_>,
        request: wire::UnbindUidRequest,
    ) -> Result<wire::Unbound, Problem> {
        let id = router::client_id(&request.client)?;
        if let Some(uid) = &request.uid {
            of.router().check_name("uid", uid)?;
        }
        let unbound = of.router().unbind_uid(id, request.uid.as_deref());
        Ok(wire::Unbound {
            unbound: unbound.await?,
        })
    }

    pub(super) async fn is_uid_online(
        &self,
        of: Of<'_>,
        request: wire::UidRequest,
    ) -> Result<wire::Online, Problem> {
        of.router().check_name("uid", &request.uid)?;
        let online = of.router().is_uid_online(&request.uid);
        Ok(wire::Online { online })
    }

    pub(super) async fn get_uid_by_client_id(
        &self,
        of: Of<'_>,
        request: wire::ClientRequest,
    ) -> Result<wire::OptionalUid, Problem> {
        let id = router::client_id(&request.client)?;
        let uid = of.router().uid(id).await?;
        Ok(wire::OptionalUid { uid })
    }

    pub(super) async fn get_client_ids_by_uid(
        &self,
        of: Of<'_>,
        request: wire::UidPageRequest,
    ) -> Result<wire::Page, Problem> {
        let (router, uid) = (of.router(), &request.uid);
        router.check_name("uid", uid)?;
        let limit = router::page_limit(request.limit.unwrap_or(PAGE))?;
        if !router.is_uid_online(uid) {
            return Err(nobody_has(std::slice::from_ref(uid)));
        }
        let page = router.clients(Kind::Uid, uid, request.cursor.as_deref(), limit);
        Ok(page.await?.into())
    }

    pub(super) async fn get_all_uids(
        &self,
        of: Of<'_>,
        request: wire::PageRequest,
    ) -> Result<wire::Page, Problem> {
        names(of, Kind::Uid, &request)
    }

    // Groups.

    pub(super) async fn join_group(
        &self,
        of: Of<'_>,
        request: wire::GroupChangeRequest,
    ) -> Result<wire::Done, Problem> {
        let id = router::client_id(&request.client)?;
        of.router().check_name("group", &request.group)?;
        of.router().join_group(id, &request.group).await?;
        Ok(wire::Done {})
    }

    pub(super) async fn leave_group(
        &self,
        of: Of<'_>,
        request: wire::GroupChangeRequest,
    ) -> Result<wire::Done, Problem> {
        let id = router::client_id(&request.client)?;
        of.router().check_name("group", &request.group)?;
        of.router().leave_group(id, &request.group).await?;
        Ok(wire::Done {})
    }

    pub(super) async fn ungroup(
        &self,
        of: Of<'_>,
        request: wire::GroupRequest,
    ) -> Result<wire::Count, Problem> {
        of.router().check_name("group", &request.group)?;
        Ok(of.router().ungroup(&request.group).await.into())
    }

    pub(super) async fn get_client_count_by_group(
        &self,
        of: Of<'_>,
        request: wire::GroupRequest,
    ) -> Result<wire::Count, Problem> {
        of.router().check_name("group", &request.group)?;
        Ok(of.router().group_count(&request.group).into())
    }

    pub(super) async fn get_client_ids_by_group(
        &self,
        of: Of<'_>,
        request: wire::GroupPageRequest,
    ) -> Result<wire::Page, Problem> {
        let (router, group) = (of.router(), &request.group);
        router.check_name("group", group)?;
        let limit = router::page_limit(request.limit.unwrap_or(PAGE))?;
        let page = router.clients(Kind::Group, group, request.cursor.as_deref(), limit);
        Ok(page.await?.into())
    }

    pub(super) async fn get_uids_by_group(
        &self,
        of: Of<'_>,
        request: wire::GroupPageRequest,
    ) -> Result<wire::Page, Problem> {
        let (router, group) = (of.router(), &request.group);
        router.check_name("group", group)?;
        let limit = router::page_limit(request.limit.unwrap_or(PAGE))?;
        let page = router.group_uids(group, request.cursor.as_deref(), limit);
        Ok(page.await?.into())
    }

    pub(super) async fn get_uid_count_by_group(
        &self,
        of: Of<'_>,
        request: wire::GroupRequest,
    ) -> Result<wire::Count, Problem> {
        of.router().check_name("group", &request.group)?;
        Ok(of.router().group_uid_count(&request.group).await.into())
    }

    pub(super) async fn get_all_groups(
        &self,
        of: Of<'_>,
        request: wire::PageRequest,
    ) -> Result<wire::Page, Problem> {
        names(of, Kind::Group, &request)
    }

    // Clients.

    pub(super) async fn is_online(
        &self,
        of: Of<'_>,
        request: wire::ClientRequest,
    ) -> Result<wire::Online, Problem> {
        let id = router::client_id(&request.client)?;
        let online = of.router().is_online(id).await?;
        Ok(wire::Online { online })
    }

    pub(super) async fn get_all_client_count(
        &self,
        of: Of<'_>,
        _: wire::PluginRequest,
    ) -> Result<wire::Count, Problem> {
        Ok(of.router().client_count().into())
    }

    pub(super) async fn close_client(
        &self,
        of: Of<'_>,
        request: wire::CloseClientRequest,
    ) -> Result<wire::Done, Problem> {
        let (router, id) = (of.router(), router::client_id(&request.client)?);
        let last = request.last_message.as_ref();
        let ending = ending(router, request.code, request.reason, last)?;
        router.close_client(id, &ending).await?;
        Ok(wire::Done {})
    }

    pub(super) async fn close_uid(
        &self,
        of: Of<'_>,
        request: wire::CloseUidRequest,
    ) -> Result<wire::Count, Problem> {
        let (router, uid) = (of.router(), &request.uid);
        router.check_name("uid", uid)?;
        let last = request.last_message.as_ref();
        let ending = ending(router, request.code, request.reason, last)?;
        if !router.is_uid_online(uid) {
            return Err(nobody_has(std::slice::from_ref(uid)));
        }
        Ok(router.close_all(Kind::Uid, uid, &ending).await.into())
    }

    pub(super) async fn close_group(
        &self,
        of: Of<'_>,
        request: wire::CloseGroupRequest,
    ) -> Result<wire::Count, Problem> {
        let (router, group) = (of.router(), &request.group);
        router.check_name("group", group)?;
        let last = request.last_message.as_ref();
        let ending = ending(router, request.code, request.reason, last)?;
        Ok(router.close_all(Kind::Group, group, &ending).await.into())
    }

    // Info.

    pub(super) async fn get_info(
        &self,
        of: Of<'_>,
        request: wire::ClientRequest,
    ) -> Result<wire::Info, Problem> {
        let info = of.router().info(router::client_id(&request.client)?);
        Ok(info.await?.into())
    }

    pub(super) async fn set_info(
        &self,
        of: Of<'_>,
        request: wire::SetInfoRequest,
    ) -> Result<wire::Done, Problem> {
        let id = router::client_id(&request.client)?;
        let info = request.info.into_iter().collect();
        of.router().set_info(id, info).await?;
        Ok(wire::Done {})
    }

    pub(super) async fn update_info(
        &self,
        of: Of<'_>,
        request: wire::UpdateInfoRequest,
    ) -> Result<wire::Info, Problem> {
        let id = router::client_id(&request.client)?;
        if let Some(key) = request
            .delete
            .iter()
            .find(|key| request.set.contains_key(*key))
        {
            let message = format!("the key {key:?} is to be set and to be deleted");
            return Err(Problem::invalid(message));
        }
        let set = request
            .set
            .into_iter()
            .map(|(key, value)| (key, Some(value)));
        let deleted = request.delete.into_iter().map(|key| (key, None));
        let changes = set.chain(deleted).collect();
        Ok(of.router().update_info(id, changes).await?.into())
    }

    // Plugins.

    pub(super) async fn call(
        &self,
        of: Of<'_>,
        request: wire::CallRequest,
    ) -> Result<wire::Called, Problem> {
        let by = guest::Caller::Api(&of.caller.name);
        let answer = of.plugin.on_call(by, &request.method, &request.payload);
        Ok(wire::Called {
            payload: answer.await?.into(),
        })
    }
}

fn names(of: Of<'_>, kind: Kind, request: &wire::PageRequest) -> Result<wire::Page, Problem> {
    let limit = router::page_limit(request.limit.unwrap_or(PAGE))?;
    let names = of.router().names(kind, request.cursor.as_deref(), limit);
    Ok(names?.into())
}

/// Runs `work`, unless this caller has already done it under this idempotency key.
fn once<T: Clone>(
    replay: &Replay<T>,
    caller: &ApiCaller,
    key: &str,
    request: &impl prost::Message,
    work: impl FnOnce() -> Result<T, Problem>,
) -> Result<T, Problem> {
    if key.is_empty() {
        return work();
    }
    replay.once(&caller.name, key, &request.encode_to_vec(), work)
}

fn deliver(
    router: &Router,
    to: Target<'_>,
    exclude: &[crate::id::ClientId],
    frame: Frame,
) -> wire::Reach {
    let reached = router.deliver(&Delivery::new(to, exclude, frame));
    wire::Reach {
        clients: reached.clients,
        dropped: reached.dropped,
        missing: texts(&reached.missing),
        unknown_uids: Vec::new(),
    }
}

fn frame(router: &Router, message: Option<&wire::Message>) -> Result<Frame, Problem> {
    use wire::message::Kind::{Binary, Text};
    let message = match message.and_then(|message| message.kind.as_ref()) {
        Some(Text(text)) => Message::Text(text),
        Some(Binary(bytes)) => Message::Binary(bytes),
        None => {
            return Err(Problem::invalid(
                "there is no message: its text, or its binary",
            ));
        }
    };
    Ok(router.frame(message)?)
}

fn ending(
    router: &Router,
    code: Option<u32>,
    reason: String,
    last_message: Option<&wire::Message>,
) -> Result<Ending, Problem> {
    // One that has more than 16 bits is no more allowed than 0.
    let given = |code| CloseCode::from(u16::try_from(code).unwrap_or(0));
    let code = code.map_or(CloseCode::Normal, given);
    let last = last_message.map(|message| frame(router, Some(message)));
    Ok(router::ending(code, reason, last.transpose()?)?)
}

fn at_least_one(what: &str, names: &[String]) -> Result<(), Problem> {
    match names {
        [] => Err(Problem::invalid(format!("there are no {what}"))),
        _ => Ok(()),
    }
}

fn nobody_has(uids: &[String]) -> Problem {
    const SHOWN: usize = 10;
    let shown: Vec<String> = uids
        .iter()
        .take(SHOWN)
        .map(|uid| format!("{uid:?}"))
        .collect();
    let others = if uids.len() > SHOWN { " or others" } else { "" };
    let message = format!("nobody has the uid {}{others}", shown.join(" or "));
    Problem::new(Reason::NotFound, message)
}

fn texts(nodes: &[crate::id::Incarnation]) -> Vec<String> {
    nodes.iter().map(ToString::to_string).collect()
}

impl From<Gathered<router::Page>> for wire::Page {
    fn from(page: Gathered<router::Page>) -> wire::Page {
        wire::Page {
            items: page.value.items,
            next: page.value.next,
            missing: texts(&page.missing),
        }
    }
}

impl From<Gathered<u64>> for wire::Count {
    fn from(count: Gathered<u64>) -> wire::Count {
        wire::Count {
            value: count.value,
            missing: texts(&count.missing),
        }
    }
}

impl From<BTreeMap<String, String>> for wire::Info {
    fn from(info: BTreeMap<String, String>) -> wire::Info {
        wire::Info {
            info: info.into_iter().collect(),
        }
    }
}
