//! What a plugin may ask of whom: what its manifest allows, and how much of it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::manifest::AllowedHosts;

/// The requests that a plugin may make.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(super) allowed: AllowedHosts,
    pub(super) requests: Arc<Semaphore>,
    /// A request that was denied has been logged.
    has_logged_denial: AtomicBool,
}

/// A request has a place among its plugin's, and one among all of the node. A lookup that hangs
/// keeps both.
pub(super) type RequestPermit = Arc<(OwnedSemaphorePermit, OwnedSemaphorePermit)>;

impl Grant {
    /// To these hosts, so many `requests` at once.
    pub(crate) fn new(allowed: AllowedHosts, requests: usize) -> Grant {
        Grant {
            allowed,
            requests: Arc::new(Semaphore::new(requests)),
            has_logged_denial: AtomicBool::new(false),
        }
    }

    /// Whether this is the first denial, which is logged.
    pub(super) fn is_first_denial(&self) -> bool {
        !self.has_logged_denial.swap(true, Ordering::Relaxed)
    }
}
