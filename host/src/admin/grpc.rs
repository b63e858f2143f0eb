//! The API over gRPC, together with the standard services for health and reflection.

use std::sync::Arc;

use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::api::{Api, Of};
use super::audit::AuditRecord;
use super::open_stream::AnswerStream;
use super::operations::{audited, operations};
use super::tokens::{ApiCaller, TokenScope};
use super::wire::api_server::ApiServer;
use super::{health, schema, wire};
use crate::limits::CALL_BYTES_MAX;
use crate::live_trace::TraceStep;

/// The most bytes of a call's request in addition to the method's name and the payload.
const CALL_HEAD_BYTES: usize = 4 << 10;

/// The API as a service of tonic. `operations` contains its functions.
pub(super) struct Service(Arc<Api>);

impl Service {
    /// The authenticated caller of a request.
    fn caller<T>(&self, request: &Request<T>) -> Result<Arc<ApiCaller>, Status> {
        Ok(self.0.caller(request.extensions())?)
    }
}

macro_rules! serve {
    ($($function:ident $operation:ident($request:ident) -> $outcome:ident($answer:ident): $scope:ident;)*) => {
        #[tonic::async_trait]
        impl wire::api_server::Api for Service {
            $(async fn $function(
                &self,
                request: Request<wire::$request>,
            ) -> Result<Response<wire::$answer>, Status> {
                let caller = self.caller(&request)?;
                let request = request.into_inner();
                let outcome = audited!($scope, &caller, $function, request, async {
                    let plugin = self.0.plugin(&caller, TokenScope::$scope, &request.plugin)?;
                    let of = Of { caller: &caller, plugin: &plugin };
                    self.0.$function(of, request).await
                }.await);
                Ok(Response::new(outcome?))
            })*

            async fn batch(
                &self,
                request: Request<wire::BatchRequest>,
            ) -> Result<Response<wire::BatchResponse>, Status> {
                let caller = self.caller(&request)?;
                Ok(Response::new(self.0.batch(&caller, request.into_inner()).await?))
            }

            async fn drain(
                &self,
                request: Request<wire::DrainRequest>,
            ) -> Result<Response<wire::Done>, Status> {
                let caller = self.caller(&request)?;
                Ok(Response::new(self.0.drain(&caller, &request.into_inner())?))
            }

            type TraceStream = AnswerStream<TraceStep>;

            async fn trace(
                &self,
                request: Request<wire::TraceRequest>,
            ) -> Result<Response<Self::TraceStream>, Status> {
                let caller = self.caller(&request)?;
                Ok(Response::new(self.0.trace(caller, request.into_inner()).await?))
            }

            type LogsStream = AnswerStream<wire::LogRecord>;

            async fn logs(
                &self,
                request: Request<wire::LogsRequest>,
            ) -> Result<Response<Self::LogsStream>, Status> {
                let caller = self.caller(&request)?;
                Ok(Response::new(self.0.logs(caller, request.into_inner())?))
            }

            type WatchStream = AnswerStream<wire::Event>;

            async fn watch(
                &self,
                request: Request<wire::WatchRequest>,
            ) -> Result<Response<Self::WatchStream>, Status> {
                let caller = self.caller(&request)?;
                Ok(Response::new(self.0.watch(caller, request.into_inner())?))
            }
        }
    };
}

operations!(serve);

/// The routes of all gRPC services.
pub(super) fn routes(api: Arc<Api>) -> axum::Router {
    // One bound for all functions: the largest call is no larger than a batch may be.
    let call_bytes = CALL_BYTES_MAX + CALL_HEAD_BYTES;
    let largest = api.view.registry().limits().request_bytes().max(call_bytes);
    let health = health::server::<ApiServer<Service>>(api.view.clone());
    let service = ApiServer::new(Service(api)).max_decoding_message_size(largest);
    let mut routes = Routes::new(service).add_service(health);
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
