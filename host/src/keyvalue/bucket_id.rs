//! The identity of a bucket among the buckets of all plugins.

/// One bucket of one plugin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BucketId {
    pub(crate) plugin: String,
    pub(crate) bucket: String,
}
