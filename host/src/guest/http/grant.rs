//! The requests that a plugin may make: which hosts its manifest allows, and how many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::manifest::AllowedHosts;

/// The hosts that a plugin may send requests to, and the permits for its requests.
#[derive(Debug)]
pub(crate) struct HttpGrant {
    pub(super) allowed: AllowedHosts,
    pub(super) requests: Arc<Semaphore>,
    /// Whether a denied request has been logged before.
    has_logged_denial: AtomicBool,
}

/// The two permits of a request: one of its plugin and one of the node. A lookup that hangs keeps
/// both.
pub(super) type RequestPermit = Arc<(OwnedSemaphorePermit, OwnedSemaphorePermit)>;

impl HttpGrant {
    /// Allows requests to the hosts `allowed`, with at most `requests` of them at once.
    pub(crate) fn new(allowed: AllowedHosts, requests: usize) -> HttpGrant {
        HttpGrant {
            allowed,
            requests: Arc::new(Semaphore::new(requests)),
            has_logged_denial: AtomicBool::new(false),
        }
    }

    /// Whether this is the first denied request; only the first is logged.
    pub(super) fn is_first_denial(&self) -> bool {
        !self.has_logged_denial.swap(true, Ordering::Relaxed)
    }
}
