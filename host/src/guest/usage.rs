//! What all instances of a plugin use together, those of all its generations.

use std::sync::Arc;

use super::memory::MemoryUsage;
use super::processors::ProcessorUsage;

/// The processors and the memory that one plugin uses.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub(super) processor: Arc<ProcessorUsage>,
    pub(super) memory: MemoryUsage,
}

impl Usage {
    /// The memory that the instances of the plugin have, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.bytes()
    }
}
