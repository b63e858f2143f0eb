//! The API over gRPC: with the standard services for health and reflection beside it.

use std::sync::Arc;

use tonic::service::Routes;
use tonic::{Request, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::operations::Api;
use super::tokens::Caller;
use super::wire::api_server::ApiServer;
use super::{CALL_HEAD_BYTES, schema};
use crate::limits::CALL_BYTES_MAX;

/// The API, as tonic calls it: `operations` has its functions.
pub(super) struct Service(Arc<Api>);

impl Service {
    pub(super) fn api(&self) -> &Api {
        &self.0
    }

    /// Who asks.
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Result<Arc<Caller>, Status> {
        Ok(self.0.caller(request.extensions())?)
    }
}

/// What gRPC's probes are told: as `/ready`, false until the plugins are loaded, and once the
/// node drains.
pub(super) async fn set_health(health: &HealthReporter, is_ready: bool) {
    match is_ready {
        true => health.set_serving::<ApiServer<Service>>().await,
        false => health.set_not_serving::<ApiServer<Service>>().await,
    }
}

/// All services.
pub(super) fn routes(api: Arc<Api>) -> axum::Router {
    let health = HealthService::from_health_reporter(api.view.health().clone());
    // One bound for all functions: the largest call is no larger than a batch may be.
    let call_bytes = CALL_BYTES_MAX + CALL_HEAD_BYTES;
    let largest = api.view.registry().limits().request_bytes().max(call_bytes);
    let service = ApiServer::new(Service(api)).max_decoding_message_size(largest);
    let mut routes = Routes::new(service).add_service(HealthServer::new(health));
    let reflect = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(schema::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Older clients know the alpha only. Neither fails: the descriptors are our own.
    if let (Ok(v1), Ok(alpha)) = (reflect().build_v1(), reflect().build_v1alpha()) {
        routes = routes.add_service(v1).add_service(alpha);
    }
    routes.prepare().into_axum_router()
}
