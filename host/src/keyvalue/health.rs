//! The health of a store: whether it accepts calls and changes. The store reports its health here,
//! and operators can see it.

use parking_lot::Mutex;

/// The health of a store, as the store itself reports it.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<String>>);

impl Health {
    /// Reports that the store does not work, for the reason `why`.
    pub(super) fn fails(&self, why: String) {
        *self.0.lock() = Some(why);
    }

    /// Reports that the store works.
    pub(super) fn works(&self) {
        *self.0.lock() = None;
    }

    /// The reason why the store does not work, or `None` if it works.
    pub(super) fn failure(&self) -> Option<String> {
        self.0.lock().clone()
    }
}
