//! The lobby as the tutorials leave it (`docs/tutorials`).

use std::path::PathBuf;

use anyhow::{Result, ensure};
use jackfield_tests::{End, Protocol, text};

crate::in_each_language!("tutorial", rust, ts, python, go, c);

async fn works(component: PathBuf) -> Result<()> {
    let manifest = include_str!("tutorial.toml");
    let node = crate::node(&component, "tutorial", manifest)?
        .start()
        .await?;
    let refused = node.refusal("/tutorial").await?;
    ensure!(refused.status == 400, "{refused:?}");
    let mut ada = node.client("/tutorial?name=ada").await?;
    ensure!(ada.next().await? == text("welcome, ada: visit 1"));
    let mut again = node.client("/tutorial?name=ada").await?;
    ensure!(again.next().await? == text("welcome, ada: visit 2"));
    again.say(text("hello")).await?;
    ensure!(ada.next().await? == text("ada: hello"));
    again.leave().await?;
    ensure!(ada.next().await? == text("ada has left"));

    let api = node.calls(Protocol::Http)?;
    let close = "/v1/plugins/tutorial/call/close";
    let refused = api.http("POST", close, &[], "soon").await?;
    ensure!(refused.status == 400, "{refused:?}");
    let told = api.http("POST", close, &[], "1").await?;
    ensure!((told.status, &*told.body) == (200, "1"), "{told:?}");
    ensure!(ada.next().await? == text("the lobby closes in 1 s"));
    ensure!(ada.end().await? == End::closed(4000, "the lobby is closed"));
    Ok(())
}
