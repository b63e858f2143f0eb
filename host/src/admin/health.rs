//! The standard health service of gRPC (`grpc.health.v1`): the same answer as `/ready` gives over
//! HTTP. The format is described at <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use tokio_stream::wrappers::WatchStream;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::view::{Stage, View};

/// The health of the node, and of the one service that it serves under the name `service`.
struct NodeHealth {
    view: Arc<View>,
    service: &'static str,
}

/// The health service of a node whose API is the service `S`.
pub(super) fn server<S: NamedService>(view: Arc<View>) -> HealthServer<impl Health> {
    let service = S::NAME;
    HealthServer::new(NodeHealth { view, service })
}

impl NodeHealth {
    /// Whether a probe may ask for this name. The empty name stands for the whole server.
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || service == self.service
    }
}

#[tonic::async_trait]
impl Health for NodeHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.knows(&service) {
            true => Ok(Response::new(response(status(self.view.stage())))),
            false => Err(Status::not_found(format!("no service {service:?} is here"))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let statuses = match self.knows(&request.into_inner().service) {
            true => WatchStream::new(self.view.stages()).map(status).boxed(),
            // The stream stays open, as the standard wants it.
            false => stream::iter([ServingStatus::ServiceUnknown])
                .chain(stream::pending())
                .boxed(),
        };
        // The end of the node does not wait for whoever watches it.
        let ended = self.view.ended().cancelled_owned();
        let answers = statuses.map(|status| Ok(response(status)));
        Ok(Response::new(Box::pin(answers.take_until(ended))))
    }
}

fn status(stage: Stage) -> ServingStatus {
    match stage {
        Stage::Ready => ServingStatus::Serving,
        Stage::Starting | Stage::Draining => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
