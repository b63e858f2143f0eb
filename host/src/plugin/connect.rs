//! The handshake of a client: the manifest's checks, the answer of `on-connect`, and what follows
//! from both.

use std::sync::Arc;

use super::answer::{Accepted, Answer, Decision, Failure};
use super::canary_member::{CanaryClients, CanaryMember};
use super::handle::{Choose, Plugin};
use crate::access::{Access, Denied, Granted, Handshake};
use crate::guest::{Acceptance, ConnectRefusal, EventClient, GuestFunction};
use crate::id::ClientId;
use crate::mesh::Reason;
use crate::registry::{self, Client};
use crate::router::{Router, RouterError};

impl Plugin {
    /// Asks the generation that is for a client on this node whether the client may come in. Also
    /// returns the number of the generation, if its `on-connect` was asked.
    pub(super) async fn decide(
        &self,
        client: EventClient<&Arc<Client>>,
        handshake: &Handshake,
        member: &CanaryMember,
        clients: &CanaryClients,
    ) -> Result<(Decision, Option<u64>), Failure> {
        let (mut lease, granted) = loop {
            let slot = self.slot();
            let stable = slot.generation().ok_or(Failure::Absent)?;
            let granted = match self.check_access(&stable.access, handshake) {
                Ok(granted) => granted,
                Err(answer) => return Ok((Decision::TurnedAway(answer), None)),
            };
            let uid = granted.uid.as_deref();
            member.set_place(client.id(), uid);
            let canary = slot.canary().filter(|canary| {
                let canary = canary.serving_canary();
                let uid = || uid.map(str::to_owned);
                canary.is_some_and(|canary| member.is_in(&canary, client.id(), uid, clients))
            });
            // The canary has a manifest of its own.
            let (generation, granted) = match canary {
                None => (stable.clone(), granted),
                Some(canary) => match self.check_access(&canary.access, handshake) {
                    Ok(granted) => (canary.clone(), granted),
                    Err(answer) => return Ok((Decision::TurnedAway(answer), None)),
                },
            };
            drop(slot);
            let choose: Choose<'_> = &|slot| {
                // Who is asked goes by its own manifest, and not by one that was just replaced.
                slot.all()
                    .find(|held| Arc::ptr_eq(held, &generation))
                    .or(slot.generation())
            };
            let lease = self.lease(choose).await?;
            if Arc::ptr_eq(&lease.generation, &generation) {
                break (lease, granted);
            }
        };
        let uid = granted.uid.as_deref();
        let generation = Some(lease.generation.number);
        let parameters = lease.generation.routes.parameters(&handshake.path);
        let with_findings = handshake.with_findings(granted.claims.as_deref(), parameters);
        let shown = with_findings.as_ref().unwrap_or(handshake);
        match lease.instance.on_connect(client, shown, uid).await {
            Ok(Ok(mut acceptance)) => {
                let access = &lease.generation.access;
                if acceptance.subprotocol.is_none() {
                    acceptance.subprotocol = access.subprotocol(&handshake.subprotocols);
                }
                Ok((Decision::Accepted(acceptance, granted), generation))
            }
            Ok(Err(ConnectRefusal { status, reason })) => {
                let is_refusal = (400..=599).contains(&status);
                let status = if is_refusal { status } else { 403 };
                let answer = Answer::Refused { status, reason };
                Ok((Decision::TurnedAway(answer), generation))
            }
            Err(trapped) => {
                Err(lease.client_event_trapped(GuestFunction::Connect, client.id(), &trapped))
            }
        }
    }

    /// Checks the handshake of a client that comes back against the manifest. The plugin is not asked
    /// again. Nothing is returned if the plugin does not run on this node, and nothing was checked.
    ///
    /// # Errors
    ///
    /// The answer to a client that may not come in.
    pub(crate) fn check_again(&self, handshake: &Handshake) -> Result<Option<Granted>, Answer> {
        let slot = self.slot();
        let generation = slot.generation();
        let checked = generation.map(|stable| self.check_access(&stable.access, handshake));
        checked.transpose()
    }

    /// Checks a handshake against the manifest, before the plugin is asked.
    fn check_access(&self, access: &Access, handshake: &Handshake) -> Result<Granted, Answer> {
        let refused = |status, reason: &str| Answer::Refused {
            status,
            reason: format!("{reason}\n"),
        };
        let granted = access.check(handshake).map_err(|denied| match denied {
            Denied::Origin => {
                let reason = match handshake.header("origin").next() {
                    None => "only pages may connect, and they say their Origin",
                    Some(_) => "pages of this origin may not connect",
                };
                let reason = reason.to_owned();
                Answer::OriginDenied { reason }
            }
            Denied::Incomplete(what) => refused(400, &what),
            Denied::Token(rejected) => {
                let (plugin, address) = (self.name(), &handshake.remote_address);
                tracing::info!(plugin, address, "a token was rejected: {}", rejected.why());
                let reason = rejected.reason().to_owned();
                Answer::Unauthorized { reason }
            }
        })?;
        if let Some(uid) = &granted.uid {
            self.router
                .check_name("uid", uid)
                .map_err(|error| refused(400, &error.to_string()))?;
        }
        Ok(granted)
    }

    /// Lets a client in, with what `on-connect` of a `generation` here, or at another node, has
    /// answered.
    pub(super) async fn admit(
        &self,
        client: &Client,
        mut acceptance: Acceptance,
        handshake: &Handshake,
        granted: Granted,
        generation: Option<u64>,
    ) -> Answer {
        // The plugin's word counts, be it an answer or a call: it knows more of who that is.
        if acceptance.uid.is_none() && self.namespace().uid(client.id()) == Ok(None) {
            acceptance.uid.clone_from(&granted.uid);
        }
        let subprotocol = acceptance.subprotocol.take();
        if let Some(chosen) = &subprotocol
            && !handshake.subprotocols.contains(chosen)
        {
            let error = format!("on-connect chose the subprotocol {chosen:?}, not one offered");
            // What it cannot be bound to or join may be the fault of others, but not this.
            let slot = self.slot();
            let mut all = slot.all();
            if let Some(asked) = all.find(|held| Some(held.number) == generation) {
                asked.event_failed();
            }
            return self.cannot_have(client, &error);
        }
        let Err(refused) = apply(&self.router, client.id(), acceptance).await else {
            return Answer::Accepted(Accepted {
                subprotocol,
                until: granted.until,
                shown_uid: granted.uid,
            });
        };
        let status = match &refused {
            RouterError::Here(registry::Refused::Taken(_))
            | RouterError::There {
                reason: Reason::Taken,
                ..
            } => 409,
            // A name that nobody can have, empty or too long, is mostly one that the client gave.
            RouterError::Invalid(_) => 400,
            _ => return self.cannot_have(client, &refused.to_string()),
        };
        Answer::Refused {
            status,
            reason: refused.to_string(),
        }
    }

    /// Refuses a client because the answer of `on-connect` is wrong. The mistake is the plugin's,
    /// so the client gets no details.
    fn cannot_have(&self, client: &Client, error: &str) -> Answer {
        tracing::error!(
            plugin = self.name(),
            client = %client.id(),
            error, "on-connect's answer is wrong");
        Answer::Refused {
            status: 500,
            reason: "the server failed".to_owned(),
        }
    }
}

/// Applies what `on-connect` lets a client in with. The rules are those of the calls that do the
/// same. The uid comes last, since a binding with `kick-old` can't be taken back.
async fn apply(router: &Router, id: ClientId, acceptance: Acceptance) -> Result<(), RouterError> {
    let names = acceptance.groups.iter().map(|group| ("group", group));
    for (what, name) in names.chain(acceptance.uid.iter().map(|uid| ("uid", uid))) {
        router.check_name(what, name)?;
    }
    match apply_checked(router, id, acceptance).await {
        // Closed meanwhile, by on-connect itself or by another client's event: it is let in to
        // be told so.
        Err(RouterError::Here(registry::Refused::NotFound(_))) => Ok(()),
        applied => applied,
    }
}

async fn apply_checked(
    router: &Router,
    id: ClientId,
    acceptance: Acceptance,
) -> Result<(), RouterError> {
    for group in &acceptance.groups {
        router.join_group(id, group).await?;
    }
    if !acceptance.info.is_empty() {
        router.set_info(id, acceptance.info).await?;
    }
    match &acceptance.uid {
        Some(uid) => router.bind_uid(id, uid).await,
        None => Ok(()),
    }
}
