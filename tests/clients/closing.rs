//! Clients that leave just when the node closes them.

use anyhow::Result;
use futures_util::future::join_all;
use jackfield_tests::{End, Node};
use serde_json::json;

/// Each side has sent its close frame, and neither may wait for another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_while_it_is_closed_is_not_waited_for() -> Result<()> {
    const ROUNDS: usize = 20;
    const AT_ONCE: usize = 50;
    let node = Node::builder()
        .plugin("console")
        .alone()
        .arguments(&["--workers", "2"])
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    for _ in 0..ROUNDS {
        let mut leaving = Vec::new();
        for _ in 0..AT_ONCE {
            leaving.push(node.console(&[("group", "all")]).await?);
        }
        let all = leaving
            .iter_mut()
            .map(|client| client.client().leave_with(4000, "bye"));
        let close = json!({ "do": "close-group", "group": "all" });
        let (closed, left) = tokio::join!(ada.ok(close), join_all(all));
        closed?;
        for end in left {
            assert!(matches!(end?, End::Closed { .. }));
        }
    }
    assert_eq!(node.counters().await?.get("close_timed_out")?, 0);
    Ok(())
}
