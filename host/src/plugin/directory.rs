//! The plugins of a node by name, through which one plugin calls another.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::RwLock;

use super::handle::Plugin;
use crate::guest::{CallError, Callees, Caller, Calling};

/// The plugins of a node, by name.
#[derive(Default)]
pub(super) struct Directory(RwLock<BTreeMap<String, Arc<Plugin>>>);

impl Directory {
    /// Removes the plugins that only other nodes have had, and of which nothing is left.
    pub(super) fn forget_strangers(&self) {
        let mut plugins = self.0.write();
        // Somebody may just be about to let a client in. While the lock is held, nobody new can.
        plugins.retain(|_, plugin| Arc::strong_count(plugin) > 1 || !plugin.is_forgotten());
    }
}

impl Deref for Directory {
    type Target = RwLock<BTreeMap<String, Arc<Plugin>>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Callees for Directory {
    fn call<'a>(
        &'a self,
        plugin: &'a str,
        caller: Caller<'a>,
        method: &'a str,
        payload: &'a [u8],
    ) -> Calling<'a> {
        let callee = self.0.read().get(plugin).cloned();
        Box::pin(async move {
            match callee {
                Some(callee) => callee.on_call(caller, method, payload).await,
                None => Err(CallError::Absent),
            }
        })
    }
}
