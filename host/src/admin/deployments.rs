//! Deployments, over HTTP alone: a component may be larger than any message.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{FromRequest as _, RawQuery, Request, State};
use axum::response::{IntoResponse as _, Response};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::api::Api;
use super::audit::{AuditRecord, AuditedRequest};
use super::extract::{Path, parameters};
use super::listener::Authenticated;
use super::problem::{Problem, Reason};
use super::tokens::TokenScope;
use crate::limits::{COMPONENT_BYTES, MANIFEST_BYTES, NAME_BYTES_MAX};
use crate::plugin::{DeployError, DeployOrder, Deployed, ReceivedBuild};
use crate::rollout::{Rollout, WrittenRollout};

/// How long the next bytes of a build may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest time for which a node runs a build before the next one does.
const ROLLING_MAX: Duration = Duration::from_secs(3600);

/// A request to deploy a plugin, or to withdraw what was deployed.
struct DeployRequest;

impl AuditedRequest for DeployRequest {}

/// Deploys the component and the manifest in the body of the request.
pub(super) async fn deploy(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    Path(plugin): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let record = AuditRecord::new(&caller, "deploy", &plugin, &DeployRequest);
    let received = async {
        caller.check(TokenScope::Operate, &plugin)?;
        let mut order = DeployOrder {
            plugin: plugin.clone(),
            origin: String::new(),
            by: caller.name.clone(),
            rolling: None,
            canary: None,
        };
        let kept = read_query(query.as_deref(), &mut order)?;
        let plugins = api.plugins()?;
        let permit = api.deploys.clone().try_acquire_owned().map_err(|_| {
            let message = "other deployments are under way: try again later";
            Problem::new(Reason::Overloaded, message)
        })?;
        if let Some(digits) = kept {
            let digits = Some(&*digits).filter(|digits| !digits.is_empty());
            let (build, digest) = plugins.receive_kept(&plugin, digits).await?;
            order.origin = format!("the kept build {}", HEXLOWER.encode(&digest));
            return Ok((plugins, permit, order, build));
        }
        let build = plugins.receive_build(&plugin)?;
        let form = Multipart::from_request(request, &()).await;
        let form = form.map_err(|error| {
            let why = format!("{error}: send the part `component`, and `manifest` if there is one");
            Problem::new(Reason::WrongFormat, why)
        })?;
        let manifest = receive(form, &build).await?;
        let manifest = String::from_utf8_lossy(&manifest);
        let reached = match caller.may_see_all() {
            true => BTreeSet::new(),
            // Other plugins' secrets may be among what the node can read.
            false => plugins.new_reach(&plugin, &manifest).await,
        };
        if !reached.is_empty() {
            let reached: Vec<_> = reached.into_iter().collect();
            let message = format!(
                "the token {:?} is for some plugins only, and the manifest reaches what the one before \
                 does not ({}): deploy it with a token for all plugins",
                caller.name,
                reached.join(", ")
            );
            return Err(Problem::new(Reason::Denied, message));
        }
        Ok((plugins, permit, order, build))
    };
    let (plugins, permit, order, build) = match received.await {
        Ok(received) => received,
        Err(problem) => {
            let problem = Err(problem);
            record.end(&problem);
            return problem;
        }
    };
    // From here on it is done, also if the caller hangs up.
    let deploying = tokio::spawn(async move {
        let deployed = plugins.deploy(order, build).await;
        drop(permit);
        let deployed = deployed.map_err(Problem::from);
        record.end(&deployed);
        deployed
    });
    let interrupted = |_| Problem::new(Reason::Failed, "the deployment was interrupted");
    let deployed = deploying.await.map_err(interrupted)??;
    Ok(Json(described(&plugin, &deployed)).into_response())
}

/// Withdraws the deployment of a plugin.
pub(super) async fn withdraw(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
    Path(plugin): Path<String>,
) -> Result<Response, Problem> {
    let record = AuditRecord::new(&caller, "undeploy", &plugin, &DeployRequest);
    let withdrawn = async {
        caller.check(TokenScope::Operate, &plugin)?;
        let withdrawn = api.plugins()?.withdraw(&plugin, &caller.name).await;
        withdrawn.map_err(Problem::from)
    };
    let withdrawn = withdrawn.await;
    record.end(&withdrawn);
    Ok(Json(json!({ "plugin": plugin, "version": withdrawn? })).into_response())
}

/// Lists what is deployed.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Authenticated(caller): Authenticated,
) -> Result<Response, Problem> {
    caller.check_scope(TokenScope::Read)?;
    let all = api.plugins()?.deployments().into_iter();
    let seen = all.filter(|deployment| caller.may_see(&deployment.plugin));
    let deployments: Vec<Value> = seen
        .map(|deployment| {
            json!({
                "plugin": deployment.plugin,
                "version": deployment.version,
                "digest": HEXLOWER.encode(&deployment.digest),
                "component_bytes": deployment.component_bytes,
                "everywhere": deployment.everywhere,
                "origin": deployment.origin,
                "by": deployment.by,
                "at_ms": deployment.at_ms,
                // The share of the clients, if it is not for all.
                "canary_percent": deployment.rollout.as_ref().map(|rollout| rollout.percent),
                "stable_digest": deployment.stable().map(|stable| HEXLOWER.encode(&stable.digest)),
            })
        })
        .collect();
    Ok(Json(json!({ "deployments": deployments })).into_response())
}

/// Reads how a build is deployed. If it is one that the node keeps, its first digits are returned; if
/// they are empty, it is the one that ran before.
fn read_query(query: Option<&str>, order: &mut DeployOrder) -> Result<Option<String>, Problem> {
    let (mut kept, mut rollout, mut is_canary) = (None, WrittenRollout::default(), false);
    for (name, value) in parameters(query)? {
        is_canary |= !matches!(&*name, "build" | "origin" | "rolling_ms");
        let number = || value.parse::<f64>().ok().filter(|number| *number >= 0.0);
        match &*name {
            "build" => kept = Some(value.into_owned()),
            "origin" if value.len() <= NAME_BYTES_MAX => order.origin = value.into_owned(),
            "rolling_ms" => {
                let settle = value.parse().map(Duration::from_millis);
                let settle = settle.ok().filter(|settle| *settle <= ROLLING_MAX);
                order.rolling = Some(settle.ok_or_else(|| {
                    let most = ROLLING_MAX.as_millis();
                    Problem::invalid(format!("rolling_ms is a number from 0 to {most}"))
                })?);
            }
            "canary_percent" if number().is_some() => {
                rollout.percent = number().unwrap_or_default()
            }
            "canary_uid" => rollout.uids.push(value.into_owned()),
            "promote_after_ms" if value.parse::<u64>().is_ok() => {
                rollout.promote_after = value.parse().ok().map(Duration::from_millis);
            }
            "max_p99_ratio" if number().is_some() => rollout.max_p99_ratio = number(),
            _ => {
                return Err(Problem::invalid(format!(
                    "{name:?} is no parameter with this value: build, origin, rolling_ms, \
                     canary_percent, canary_uid, promote_after_ms and max_p99_ratio are"
                )));
            }
        }
    }
    let canary = is_canary.then(|| Rollout::check(rollout)).transpose();
    order.canary = canary.map_err(|wrong| {
        let why = format!("the canary is not one that can be: {wrong}");
        Problem::invalid(why)
    })?;
    Ok(kept)
}

/// Reads the parts of a form, and returns the manifest. Where one cannot be taken, the rest is read all
/// the same: whoever still sends does not hear why.
async fn receive(mut form: Multipart, build: &ReceivedBuild) -> Result<Vec<u8>, Problem> {
    let mut taken = Ok(());
    let (mut component, mut manifest) = (0, Vec::new());
    while let Some(field) = next(form.next_field()).await? {
        let name = field.name().unwrap_or_default().to_owned();
        let part = match &*name {
            "component" => receive_component(field, build)
                .await
                .map(|bytes| component = bytes),
            "manifest" => receive_manifest(field).await.map(|text| manifest = text),
            _ => {
                let why = format!("{name:?} is no part: component and manifest are");
                Err(Problem::invalid(why))
            }
        };
        taken = taken.and(part);
    }
    taken?;
    if component == 0 {
        return Err(Problem::invalid("the part `component` is missing or empty"));
    }
    let written = build.write_manifest(&manifest);
    written.map_err(DeployError::from)?;
    Ok(manifest)
}

async fn receive_component(mut field: Field<'_>, build: &ReceivedBuild) -> Result<u64, Problem> {
    let file = tokio::fs::File::create(build.component()).await;
    let mut file = file.map_err(DeployError::from)?;
    let (mut bytes, mut written) = (0, Ok(()));
    while let Some(chunk) = next(field.chunk()).await? {
        bytes += chunk.len() as u64;
        if written.is_ok() && bytes <= COMPONENT_BYTES {
            written = file.write_all(&chunk).await;
        }
    }
    written.map_err(DeployError::from)?;
    file.flush().await.map_err(DeployError::from)?;
    match bytes {
        bytes if bytes > COMPONENT_BYTES => {
            let why = format!("the component has more than {COMPONENT_BYTES} bytes");
            Err(Problem::new(Reason::TooLarge, why))
        }
        bytes => Ok(bytes),
    }
}

async fn receive_manifest(mut field: Field<'_>) -> Result<Vec<u8>, Problem> {
    let mut text = Vec::new();
    let mut bytes = 0;
    while let Some(chunk) = next(field.chunk()).await? {
        bytes += chunk.len() as u64;
        if bytes <= MANIFEST_BYTES {
            text.extend_from_slice(&chunk);
        }
    }
    match bytes {
        bytes if bytes > MANIFEST_BYTES => {
            let why = format!("the manifest has more than {MANIFEST_BYTES} bytes");
            Err(Problem::new(Reason::TooLarge, why))
        }
        _ => Ok(text),
    }
}

/// Waits for the next part of a form.
async fn next<T>(
    next: impl Future<Output = Result<T, axum::extract::multipart::MultipartError>>,
) -> Result<T, Problem> {
    let next = tokio::time::timeout(PATIENCE, next).await;
    let next =
        next.map_err(|_| Problem::invalid(format!("nothing of the form came for {PATIENCE:?}")))?;
    next.map_err(|error| Problem::invalid(format!("the form did not come whole: {error}")))
}

fn described(plugin: &str, deployed: &Deployed) -> Value {
    let nodes = deployed.nodes.iter().map(|node| {
        json!({
            "node": node.node.to_string(),
            "mesh": node.mesh,
            "generation": node.generation.as_ref().ok(),
            "failure": node.generation.as_ref().err(),
        })
    });
    json!({
        "plugin": plugin,
        "version": deployed.version,
        "digest": HEXLOWER.encode(&deployed.digest),
        "nodes": nodes.collect::<Vec<_>>(),
    })
}

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Problem {
        let reason = match &error {
            DeployError::NotDeployed(_) | DeployError::Unknown(_) => Reason::NotFound,
            DeployError::Gateway | DeployError::Invalid(_) | DeployError::Refused(_) => {
                Reason::InvalidArgument
            }
            DeployError::NotHere(_) => Reason::Unreachable,
            DeployError::Write(_) => Reason::Failed,
        };
        Problem::new(reason, error.to_string())
    }
}
