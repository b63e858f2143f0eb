//! Whether a store takes calls and changes: the store says so here, and operators see it.

use parking_lot::Mutex;

/// The state of a store, from its own point of view.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<String>>);

impl Health {
    /// The store does not do what it is for, and `why` is the reason.
    pub(super) fn fails(&self, why: String) {
        *self.0.lock() = Some(why);
    }

    /// The store does what it is for.
    pub(super) fn works(&self) {
        *self.0.lock() = None;
    }

    /// Why the store does not do what it is for, if it does not.
    pub(super) fn failure(&self) -> Option<String> {
        self.0.lock().clone()
    }
}
