//! Sockets that systemd has opened and hands over (`sd_listen_fds(3)`): their number is in
//! `LISTEN_FDS`, and their names are in `LISTEN_FDNAMES`.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use anyhow::{Context as _, ensure};
use listenfd::ListenFd;
use parking_lot::Mutex;

/// The name of sockets that have none, as systemd gives it.
const UNNAMED: &str = "unknown";

/// A socket that systemd has opened.
#[derive(Debug)]
pub(super) enum SystemdSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The sockets that were handed over and that nobody has taken yet. They are taken from the
/// environment once, since a file must not have two owners.
static HANDED_OVER: Mutex<Option<ListenFd>> = Mutex::new(None);

/// Takes the sockets of this name.
///
/// # Errors
///
/// Returns an error when systemd has handed over no socket of this name, or one that is no listening
/// stream socket.
pub(super) fn sockets(name: &str) -> anyhow::Result<Vec<SystemdSocket>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut handed_over = HANDED_OVER.lock();
    let handed_over = handed_over.get_or_insert_with(ListenFd::from_env);
    let mut sockets = Vec::new();
    for (index, found) in names_of(&names, handed_over.len()).into_iter().enumerate() {
        if found == name {
            let named = || format!("the socket {index} of systemd, {name:?}");
            sockets.extend(take(handed_over, index).with_context(named)?);
        }
    }
    ensure!(
        !sockets.is_empty(),
        "systemd hands over no socket with the name {name:?} (LISTEN_FDNAMES={names:?}), or another \
         address has it already: set FileDescriptorName= in the .socket unit, and start the node \
         through it"
    );
    Ok(sockets)
}

fn names_of(names: &str, count: usize) -> Vec<&str> {
    let given = names.split(':').filter(|_| !names.is_empty());
    given
        .chain(std::iter::repeat(UNNAMED))
        .take(count)
        .collect()
}

fn take(handed_over: &mut ListenFd, index: usize) -> std::io::Result<Option<SystemdSocket>> {
    let socket = match handed_over.take_tcp_listener(index) {
        Ok(listener) => listener.map(SystemdSocket::Tcp),
        Err(_) => handed_over
            .take_unix_listener(index)?
            .map(SystemdSocket::Unix),
    };
    match &socket {
        Some(SystemdSocket::Tcp(listener)) => listener.set_nonblocking(true)?,
        Some(SystemdSocket::Unix(listener)) => listener.set_nonblocking(true)?,
        None => {}
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_the_names_that_systemd_gives() {
        assert_eq!(names_of("web:tls:web", 3), ["web", "tls", "web"]);
        assert_eq!(names_of("", 2), ["unknown", "unknown"]);
        assert_eq!(names_of("web", 2), ["web", "unknown"]);
        assert_eq!(names_of("web:tls", 1), ["web"]);
        assert!(names_of("", 0).is_empty());
    }
}
