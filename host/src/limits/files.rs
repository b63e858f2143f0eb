//! How the files that the process may have open are shared out: each connection is one.
//!
//! Whoever uses up its share finds no more, and takes none of the others': clients are the many,
//! and while they fill the node, its probes answer, its links hold and its plugins reload.

use rustix::process::{Resource, getrlimit};

/// How many files the process may have open now.
pub fn open_files() -> usize {
    let files = getrlimit(Resource::Nofile).current;
    files
        .and_then(|files| files.try_into().ok())
        .unwrap_or(usize::MAX)
}

/// The node has these open by itself: the runtime's, its ports, its log, plugins that are read,
/// the cache, a key-value store, names that are looked up.
const OWN: usize = 64;

/// So many connections of clients are there only to hear that there is no room.
pub const REFUSALS: usize = 16;

/// Each share is a number of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileShares {
    /// Clients' connections, and the pages that they read.
    pub clients: usize,
    /// The API's connections.
    pub api: usize,
    /// Other nodes' connections.
    pub mesh: usize,
    /// Plugins' requests.
    pub requests: usize,
}

impl FileShares {
    /// Shares out so many open files. The others have theirs first, as long as a quarter is left
    /// for clients.
    pub fn of(files: usize) -> FileShares {
        // No limit at all is more than any semaphore takes.
        let files = files.min(u32::MAX as usize);
        let share = |most| (files / 16).clamp(16, most);
        let (api, mesh, requests) = (share(4096), share(4096), share(2048));
        let others = OWN + REFUSALS + api + mesh + requests;
        FileShares {
            clients: files.saturating_sub(others).max(files / 4),
            api,
            mesh,
            requests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_what_the_others_leave_and_a_quarter_at_least() {
        for files in [
            0,
            16,
            64,
            128,
            200,
            256,
            1024,
            4096,
            65_536,
            1 << 20,
            usize::MAX,
        ] {
            let files = files.min(u32::MAX as usize);
            let FileShares {
                clients,
                api,
                mesh,
                requests,
            } = FileShares::of(files);
            let others = OWN + REFUSALS + api + mesh + requests;
            assert!(clients >= files / 4, "{files}");
            if files >= 256 {
                assert_eq!(clients + others, files);
            }
        }
        assert_eq!(FileShares::of(256).clients, 128);
        assert_eq!(FileShares::of(1 << 20).clients, (1 << 20) - 10_320);
    }
}
