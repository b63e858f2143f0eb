//! gRPC's own: health, and reflection for clients that have no schema.

use anyhow::{Context as _, Result};
use jackfield_tests::{Node, Protocol, within};
use rustix::process::Signal;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const SERVICE: &str = "jackfield.api.v1.Api";

#[tokio::test]
async fn a_node_that_serves_says_so_and_shows_its_schema() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let address = node.calls(Protocol::Grpc)?.address();
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?;

    let mut health = HealthClient::new(channel.clone());
    // The empty name stands for the whole server.
    for service in [SERVICE, ""] {
        let service = service.to_owned();
        let check = health.check(HealthCheckRequest { service });
        let status = within("its health", check).await?.into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }
    let unknown = || HealthCheckRequest {
        service: "unknown".to_owned(),
    };
    let refused = health.check(unknown()).await.map(drop);
    assert_eq!(refused.map_err(|status| status.code()), Err(Code::NotFound));
    let mut watched = within("a watch", health.watch(unknown()))
        .await?
        .into_inner();
    let first = within("its first message", watched.message()).await?;
    let first = first.context("the stream has ended")?.status();
    assert_eq!(first, ServingStatus::ServiceUnknown);

    let mut reflection = ServerReflectionClient::new(channel);
    let asked = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol(SERVICE.to_owned()),
    ];
    let asked = asked.map(|request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    });
    let asking = reflection.server_reflection_info(tokio_stream::iter(asked));
    let mut answers = within("reflection", asking).await?.into_inner();
    let listed = within("the services", answers.message())
        .await?
        .context("none")?;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed.message_response else {
        anyhow::bail!("{listed:?}")
    };
    let names: Vec<_> = listed
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in [SERVICE, "grpc.health.v1.Health"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
    let file = within("the schema", answers.message())
        .await?
        .context("none")?;
    let Some(MessageResponse::FileDescriptorResponse(file)) = file.message_response else {
        anyhow::bail!("{file:?}")
    };
    assert!(!file.file_descriptor_proto.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_watch_of_the_health_says_when_the_node_drains() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let address = node.calls(Protocol::Grpc)?.address();
    let channel = Endpoint::from_shared(format!("http://{address}"))?;
    let mut health = HealthClient::new(channel.connect().await?);
    let watched = health.watch(HealthCheckRequest::default());
    let mut watched = within("a watch", watched).await?.into_inner();
    let mut next = async || {
        let message = within("a status", watched.message()).await?;
        anyhow::Ok(message.context("the stream has ended")?.status())
    };
    assert_eq!(next().await?, ServingStatus::Serving);
    // An event under way keeps the drain from its end.
    let mut ada = node.console(&[]).await?;
    node.put_to_sleep(&mut ada, 3_000).await?;
    node.signal(Signal::TERM)?;
    assert_eq!(next().await?, ServingStatus::NotServing);
    // The stream ends with its node.
    assert!(within("the end", watched.message()).await?.is_none());
    Ok(())
}
