//! The distribution of the open files of the process. Each connection is one open file.
//!
//! A group that has used up its share gets no more files, and takes none from the others. The
//! clients are the largest group. Even when they fill the node, its probes answer, its links stay
//! open, and its plugins reload.

use rustix::process::{Resource, getrlimit};

/// The number of files that the process may have open now.
pub fn open_files() -> usize {
    let files = getrlimit(Resource::Nofile).current;
    files
        .and_then(|files| files.try_into().ok())
        .unwrap_or(usize::MAX)
}

/// The open files of the node itself: the runtime, the ports, the log, plugins that are read, the
/// cache, a key-value store, and names that are looked up.
const OWN: usize = 64;

/// The number of client connections that are accepted only to tell the client that the node is
/// full.
pub const REFUSALS: usize = 16;

/// The shares of the open files, each as a number of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileShares {
    /// The share for clients' connections, and for the pages that they read.
    pub clients: usize,
    /// The share for the API's connections.
    pub api: usize,
    /// The share for connections of other nodes.
    pub mesh: usize,
    /// The share for HTTP requests of plugins.
    pub requests: usize,
}

impl FileShares {
    /// Distributes `files` open files. The other shares come first, as long as a quarter of the
    /// files is left for clients.
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
