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
