//! A node that faces the internet: TLS, proxies in front of it, and the ways in which its ports are
//! opened.

mod acme;
mod handover;
mod listeners;
mod proxies;
mod tls;

use anyhow::Result;
use jackfield_tests::{Client, Transport, text};
use serde_json::Value;

/// What a client of `console` is told of its own handshake, when it comes in over a connection.
async fn handshake(
    stream: impl Transport + 'static,
    headers: &[(&str, &str)],
) -> Result<(Client, Value)> {
    let mut client = Client::over(stream, "/console?handshake=1", headers).await?;
    let mut connected: Value = serde_json::from_str(&client.next_text().await?)?;
    Ok((client, connected["handshake"].take()))
}

/// The value of a header of a handshake, if it has one.
fn header<'a>(handshake: &'a Value, name: &str) -> Option<&'a str> {
    let headers = handshake["headers"].as_array()?;
    let found = headers.iter().find(|header| header[0] == name)?;
    found[1].as_str()
}

/// A client of `echo` gets what it says.
async fn echoes(client: &mut Client) -> Result<()> {
    client.say(text("hello")).await?;
    assert_eq!(client.next_text().await?, "hello");
    Ok(())
}
