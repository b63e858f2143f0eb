//! Several functions in one request.

use anyhow::Result;
use jackfield_tests::{Node, text};
use serde_json::json;

use super::BOTH;

#[tokio::test]
async fn each_has_an_outcome_of_its_own_and_they_come_in_order() -> Result<()> {
    let node = Node::start_alone("console").await?;
    for protocol in BOTH {
        let mut ada = node.console(&[]).await?;
        let api = node.calls(protocol)?;
        let id = ada.id().to_owned();
        let done = api
            .batch(json!([
                { "join_group": { "plugin": "console", "client": id, "group": "g" } },
                { "send_to_group": { "plugin": "console", "groups": ["g"], "message": { "text": "1" } } },
                { "send_to_uid": { "plugin": "console", "uids": ["eve"], "message": { "text": "m" } } },
                { "get_client_count_by_group": { "plugin": "console", "group": "g" } },
                { "send_to_client": { "plugin": "console", "client": id, "message": { "text": "2" } } },
                {},
            ]))
            .await?
            .map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
        let outcomes = done["outcomes"].as_array().expect("outcomes").clone();
        assert_eq!(outcomes.len(), 6);
        assert_eq!(outcomes[0], json!({ "done": {} }));
        assert_eq!(outcomes[1]["reach"]["clients"], 1);
        assert_eq!(outcomes[2]["error"]["reason"], "NOT_FOUND");
        assert_eq!(outcomes[3]["count"]["value"], 1);
        assert_eq!(outcomes[4], json!({ "done": {} }));
        assert_eq!(outcomes[5]["error"]["reason"], "INVALID_ARGUMENT");
        assert_eq!(ada.next().await?, text("1"));
        assert_eq!(ada.next().await?, text("2"));
        ada.leave().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_has_a_bound() -> Result<()> {
    let node = Node::start_alone("console").await?;
    for protocol in BOTH {
        let api = node.calls(protocol)?;
        let operation = json!({ "get_all_client_count": { "plugin": "console" } });
        let many = vec![operation.clone(); 1_000];
        let done = api.batch(json!(many)).await?.expect("as many as may be");
        assert_eq!(done["outcomes"].as_array().map(Vec::len), Some(1_000));
        let refusal = api.batch(json!(vec![operation; 1_001])).await?;
        assert_eq!(refusal.expect_err("one too many").reason, "LIMIT_EXCEEDED");
    }
    Ok(())
}
