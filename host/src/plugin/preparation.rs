//! A build that a node prepares for a deployment: it starts beside the one that runs, and waits for
//! the decision of the node that was asked for the deployment.
//!
//! Whoever waits looks again and again. If nobody has looked for `LEASE`, the other node has ended,
//! and the build is dropped.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::generation::Digest;
use crate::mesh::deployment::{Deployment, DeploymentState, Phase};

/// How long a build waits for a decision after somebody has looked.
const LEASE: Duration = Duration::from_secs(10);

/// A build that is prepared.
pub(super) struct Preparation {
    /// The number of the attempt.
    pub(super) id: u64,
    pub(super) deployment: Deployment,
    /// The digest of the build with its settings and keys, once its files are read.
    pub(super) digest: OnceLock<Digest>,
    /// Cancelled when the build may take over.
    pub(super) may_run: CancellationToken,
    /// Cancelled when the build is dropped.
    pub(super) aborted: CancellationToken,
    progress: watch::Sender<PreparationPhase>,
    is_over: AtomicBool,
    looked: Mutex<Instant>,
}

/// How far a preparation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PreparationPhase {
    /// The build is being got, or loaded.
    Preparing,
    /// The build has started, and waits.
    Ready,
    /// The build has taken over, as the generation of this number.
    Running(u64),
    /// The build cannot run, or is not to.
    Failed(String),
}

impl PreparationPhase {
    /// Whether the preparation has ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(
            self,
            PreparationPhase::Running(_) | PreparationPhase::Failed(_)
        )
    }
}

impl Preparation {
    pub(super) fn new(id: u64, deployment: Deployment) -> Preparation {
        Preparation {
            id,
            deployment,
            digest: OnceLock::new(),
            may_run: CancellationToken::new(),
            aborted: CancellationToken::new(),
            progress: watch::Sender::new(PreparationPhase::Preparing),
            is_over: AtomicBool::new(false),
            looked: Mutex::new(Instant::now()),
        }
    }

    /// Records that nothing more is done about it.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether nothing more is done about it. A build on trial runs, and it is not over.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Returns how far it is.
    pub(super) fn progress(&self) -> PreparationPhase {
        self.progress.borrow().clone()
    }

    /// Goes on. What has failed does not go on.
    pub(super) fn advance(&self, progress: PreparationPhase) {
        self.progress.send_if_modified(|now| {
            let goes_on = !matches!(now, PreparationPhase::Failed(_));
            if goes_on {
                *now = progress;
            }
            goes_on
        });
    }

    /// Waits until it is there.
    pub(super) async fn reach(&self, is_there: impl FnMut(&PreparationPhase) -> bool) {
        // The sender is in `self`.
        let _ = self.progress.subscribe().wait_for(is_there).await;
    }

    /// Records that the other node has looked.
    pub(super) fn look(&self) {
        *self.looked.lock() = Instant::now();
    }

    /// Waits until the build is to be dropped: that is decided, or nobody has looked for a while.
    pub(super) async fn is_dropped(&self) {
        loop {
            let until = *self.looked.lock() + LEASE;
            tokio::select! {
                () = self.aborted.cancelled() => return,
                () = tokio::time::sleep_until(until) => {}
            }
            if self.looked.lock().elapsed() >= LEASE {
                return;
            }
        }
    }
}

impl From<PreparationPhase> for DeploymentState {
    fn from(progress: PreparationPhase) -> DeploymentState {
        let (phase, failure, generation) = match progress {
            PreparationPhase::Preparing => (Phase::Preparing, String::new(), 0),
            PreparationPhase::Ready => (Phase::Ready, String::new(), 0),
            PreparationPhase::Running(generation) => (Phase::Running, String::new(), generation),
            PreparationPhase::Failed(why) => (Phase::Failed, why, 0),
        };
        DeploymentState {
            phase: phase.into(),
            failure,
            generation,
            canary: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preparation() -> Preparation {
        Preparation::new(1, Deployment::default())
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_dropped_when_nobody_has_looked_for_a_while() {
        let preparation = preparation();
        let began = Instant::now();
        let looks = async {
            for _ in 0..5 {
                tokio::time::sleep(LEASE * 3 / 4).await;
                preparation.look();
            }
        };
        tokio::join!(looks, preparation.is_dropped());
        assert_eq!(
            began.elapsed().as_secs(),
            (LEASE * 15 / 4 + LEASE).as_secs()
        );
        preparation.look();
        preparation.aborted.cancel();
        let before = Instant::now();
        preparation.is_dropped().await;
        assert!(before.elapsed() < Duration::from_millis(10));
    }

    #[test]
    fn what_has_failed_does_not_go_on() {
        let preparation = preparation();
        preparation.advance(PreparationPhase::Ready);
        let failed = PreparationPhase::Failed("the disk is full".to_owned());
        preparation.advance(failed.clone());
        preparation.advance(PreparationPhase::Running(3));
        assert_eq!(preparation.progress(), failed);
    }
}
