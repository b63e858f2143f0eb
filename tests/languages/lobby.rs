//! The lobby, which each template is.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use jackfield_tests::sections::random_section;
use jackfield_tests::{binary, text};

crate::in_each_language!("lobby", rust, ts, js, python, go, c);

async fn works(component: PathBuf) -> Result<()> {
    let node = crate::node(&component, "lobby", "")?.start().await?;
    for path in ["/lobby", "/lobby?name="] {
        let refused = node.refusal(path).await?;
        ensure!(refused.status == 400, "{path}: {refused:?}");
        ensure!(refused.body.trim() == "say ?name=", "{path}: {refused:?}");
    }
    let mut ada = node.client("/lobby?name=ada").await?;
    let mut bob = node.client("/lobby?name=bob").await?;
    ada.say(text("hello")).await?;
    ensure!(bob.next().await? == text("ada: hello"));
    // What is no text is for nobody, and whoever speaks does not hear it.
    bob.say(binary(b"hello")).await?;
    bob.say(text("é ✓")).await?;
    ensure!(ada.next().await? == text("bob: é ✓"));

    // A new build takes over, and nobody notices.
    let mut next = std::fs::read(&component)?;
    next.extend(random_section(16));
    node.folder().put_bytes("lobby", &next)?;
    node.generation_loaded("lobby", 2).await?;
    ada.say(text("still here")).await?;
    ensure!(bob.next().await? == text("ada: still here"));

    // Instances make no random numbers twice and keep nothing: a thousand messages all arrive.
    for number in 0..1_000 {
        ada.say(text(&number.to_string())).await?;
        ensure!(bob.next().await? == text(&format!("ada: {number}")));
    }
    ada.leave().await?;
    ensure!(bob.next().await? == text("ada has left"));
    let stopped = node.stop().await?;
    for trap in [
        "traps_panic",
        "traps_other",
        "traps_unreachable",
        "traps_memory",
    ] {
        ensure!(stopped.counters.get(trap)? == 0, "{trap}");
    }
    // An instance that is replaced after each event would be slow and say nothing.
    ensure!(stopped.counters.get("instances_recycled")? < 10);
    Ok(())
}
