//! Signals: which end a process, which one lets it read its configuration again (`configuration.rs`), and that one which was ignored when it began stays ignored, as
//! `nohup` asks for.

use anyhow::Result;
use jackfield_tests::{Node, Register};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

#[tokio::test]
async fn an_ignored_hangup_or_interrupt_ends_nothing_and_sigterm_drains() -> Result<()> {
    for (script, signal) in [
        ("trap '' HUP", Signal::HUP),
        ("trap '' INT QUIT", Signal::INT),
    ] {
        let node = Node::builder().plugin("echo").alone().after_script(script);
        let node = node.start().await?;
        let mut client = node.client("/echo").await?;
        for _ in 0..3 {
            node.signal(signal)?;
        }
        // By the time that it has answered this one, it has seen those.
        node.counters().await?;
        client.say("still there?").await?;
        assert_eq!(client.next_text().await?, "still there?");
        node.client("/echo").await?;
        assert!(node.log().so_far(|line| line.says("draining")).is_empty());

        node.signal(Signal::TERM)?;
        assert_eq!(client.end().await?.code(), 1012);
        assert!(node.wait().await?.status.success());
    }
    Ok(())
}

#[tokio::test]
async fn nohup_keeps_a_node_alive() -> Result<()> {
    let node = Node::builder().plugin("echo").alone();
    let node = node.after_script("set -- nohup \"$0\" \"$@\"; exec \"$@\"");
    let node = node.start().await?;
    node.signal(Signal::HUP)?;
    node.counters().await?;
    node.client("/echo").await?;
    assert!(node.stop().await?.status.success());
    Ok(())
}

#[tokio::test]
async fn the_end_of_its_terminal_ends_a_node_but_not_one_of_nohup() -> Result<()> {
    for nohup in ["", "nohup "] {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&terminal)?;
        unlockpt(&terminal)?;
        let name = ptsname(&terminal, Vec::new())?.into_string()?;
        // The node leads the terminal's session: it hears of its end.
        let script = format!("exec setsid --ctty {nohup}\"$0\" \"$@\" <{name}");
        let node = Node::builder().plugin("echo").alone().after_script(&script);
        let node = node.start().await?;
        let mut client = node.client("/echo").await?;
        drop(terminal);
        if nohup.is_empty() {
            assert_eq!(client.end().await?.code(), 1012);
            assert!(node.wait().await?.status.success());
        } else {
            node.counters().await?;
            client.say("still there?").await?;
            assert_eq!(client.next_text().await?, "still there?");
            assert!(node.stop().await?.status.success());
        }
    }
    Ok(())
}

#[tokio::test]
async fn other_signals_stay_ignored_too() -> Result<()> {
    let node = Node::builder().plugin("echo").alone();
    let node = node.after_script("trap '' TERM USR1").start().await?;
    node.signal(Signal::USR1)?;
    node.signal(Signal::TERM)?;
    node.client("/echo").await?;
    node.signal(Signal::INT)?;
    let stopped = node.wait().await?;
    assert!(stopped.status.success(), "it was drained once");
    let counters = stopped
        .log
        .so_far(|line| line.message() == "counters")
        .len();
    assert_eq!(counters, 1, "at its end, and not when it was asked");
    Ok(())
}

#[tokio::test]
async fn a_register_is_no_different() -> Result<()> {
    let register = Register::start_after_script("trap '' HUP").await?;
    register.signal(Signal::HUP)?;
    let node = Node::builder().alone().registered_at(&[&register]);
    let _node = node.start().await?;
    let joined = register.log();
    joined.nth(1, |line| line.says("a node has joined")).await?;
    register.signal(Signal::TERM)?;
    assert!(register.wait().await?.success());

    let register = Register::start().await?;
    register.signal(Signal::HUP)?;
    assert!(register.wait().await?.success());
    Ok(())
}
