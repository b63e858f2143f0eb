//! The wire to a real node.

use anyhow::{Context as _, Result};
use jackfield_sdk::testing::UidPolicy;
use jackfield_tests::{Client, Console, End, Node, query, refusal_status};
use serde_json::Value;

use crate::wire::Wire;

pub(crate) struct RealNode(Node);

impl RealNode {
    pub(crate) async fn start(policy: UidPolicy) -> Result<RealNode> {
        let policy = match policy {
            UidPolicy::Many => "many",
            UidPolicy::KickOld => "kick-old",
            UidPolicy::RejectNew => "reject-new",
        };
        let manifest = format!("[policies]\nuid = '{policy}'");
        Ok(RealNode(
            Node::builder()
                .plugin("console")
                .manifest("console", &manifest)
                .plugin_from("other", "console")
                .manifest("other", "[calls]\nallow = ['console']")
                .start()
                .await?,
        ))
    }
}

impl Wire for RealNode {
    type Client = Console;

    async fn connect(&mut self, pairs: &[(String, String)]) -> Result<Result<Console, u16>> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        // A client that offers a subprotocol wants an answer to it.
        let offers = pairs.iter().any(|(name, _)| *name == "subprotocol");
        let offered = [("sec-websocket-protocol", "v1")];
        let offered = &offered[..usize::from(offers)];
        let path = format!("/console{}", query(&pairs));
        match Client::connect(self.0.address(), &path, offered).await {
            Ok(client) => Ok(Ok(Console::greet(client).await?)),
            Err(error) => Ok(Err(refusal_status(&error).context(error)?)),
        }
    }

    fn id(&self, client: &Console) -> String {
        client.id().to_owned()
    }

    async fn ask(&mut self, client: &mut Console, request: Value) -> Result<Result<Value, End>> {
        let id = client.start(request).await?;
        client.answer_or_end(id).await
    }

    async fn until_heard(&mut self, client: &mut Console, _: u64) -> Result<String> {
        Ok(client.next().await?.to_text()?.to_owned())
    }

    async fn take_heard(&mut self, client: &mut Console) -> Result<Vec<String>> {
        let heard = client.take_kept().into_iter();
        Ok(heard
            .map(|message| match message.to_text() {
                Ok(text) if message.is_text() => text.to_owned(),
                _ => format!("{:?}", message.into_data().to_vec()),
            })
            .collect())
    }

    async fn leave(&mut self, mut client: Console, code: u16, reason: &str) -> Result<()> {
        client.leave_with(code, reason).await.map(drop)
    }

    async fn vanish(&mut self, client: Console) -> Result<()> {
        client.vanish()
    }
}
