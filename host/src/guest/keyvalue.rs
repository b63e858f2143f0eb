//! The host's side of `wasi:keyvalue`: it checks what a guest passes, and calls the store.
//!
//! A call traps only for a handle that does not exist; any other mistake of a guest is an error
//! value.

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::ResourceTable;

use self::generated::wasi::keyvalue::atomics::{self, CasError};
use self::generated::wasi::keyvalue::batch;
use self::generated::wasi::keyvalue::store::{self, Error, KeyResponse};
use super::context::Context;
use crate::keyvalue::{BucketId, Change, ChangeOutcome, StoreFailure};
use crate::limits::{KEYVALUE_CAS_HANDLES, KEYVALUE_KEYS_A_CALL};

/// The interfaces of `wasi:keyvalue` that a component may import. The version of a draft must match
/// exactly.
pub(super) const INTERFACES: [&str; 3] = [
    "wasi:keyvalue/store@0.2.0-draft2",
    "wasi:keyvalue/atomics@0.2.0-draft2",
    "wasi:keyvalue/batch@0.2.0-draft2",
];

/// The bindings generated from `wit/wasi/keyvalue`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit/wasi/keyvalue",
        world: "imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::Bucket,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
    });
}

/// A bucket that a guest has opened.
#[allow(unreachable_pub, reason = "bindgen exports it again")]
pub struct Bucket(BucketId);

/// A value that a guest has read, and wants to replace if nobody has changed it since.
#[allow(unreachable_pub, reason = "bindgen exports it again")]
pub struct Cas {
    bucket_id: BucketId,
    key: String,
    seen: Option<Vec<u8>>,
}

type StoreAnswer<T> = wasmtime::Result<Result<T, Error>>;

/// A guest's view of its plugin's buckets.
pub(super) struct KeyvalueView<'a> {
    pub(super) context: &'a Context,
    pub(super) table: &'a mut ResourceTable,
    pub(super) cas_handles: &'a mut CasHandles,
}

/// The number of an instance's `cas` handles; each of them holds a value.
#[derive(Debug, Default)]
pub(super) struct CasHandles(usize);

/// Tells the linker which type a view borrows.
struct HasKeyvalue;

impl HasData for HasKeyvalue {
    type Data<'a> = KeyvalueView<'a>;
}

/// Serves `wasi:keyvalue` to the guests of this linker.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> KeyvalueView<'_>,
) -> wasmtime::Result<()> {
    generated::Imports::add_to_linker::<T, HasKeyvalue>(linker, view)
}

impl store::Host for KeyvalueView<'_> {
    async fn open(&mut self, identifier: String) -> StoreAnswer<Resource<Bucket>> {
        let granted = self.context.buckets.as_ref();
        if !granted.is_some_and(|granted| granted.has(&identifier)) {
            let refused = StoreFailure::Refused(format!(
                "no bucket {identifier:?} is granted: name it under keyvalue.buckets in {}.toml",
                self.context.plugin()
            ));
            return Ok(Err(self.count_failure(refused)));
        }
        let bucket = Bucket(BucketId {
            plugin: self.context.plugin().to_owned(),
            bucket: identifier,
        });
        Ok(push(self.table, bucket))
    }
}

impl store::HostBucket for KeyvalueView<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> StoreAnswer<Option<Vec<u8>>> {
        let bucket_id = self.bucket_id(&bucket)?;
        let found = self.get_values(&bucket_id, vec![key]).await;
        Ok(found.map(|mut found| found.pop().and_then(|(_, value)| value)))
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> StoreAnswer<()> {
        let bucket_id = self.bucket_id(&bucket)?;
        let changed = self
            .change(&bucket_id, Change::Set(vec![(key, value)]))
            .await;
        Ok(changed.map(drop))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> StoreAnswer<()> {
        let bucket_id = self.bucket_id(&bucket)?;
        let changed = self.change(&bucket_id, Change::Delete(vec![key])).await;
        Ok(changed.map(drop))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> StoreAnswer<bool> {
        let bucket_id = self.bucket_id(&bucket)?;
        let wait = self.context.limits.keyvalue_timeout;
        let found = match self.check_key(&key) {
            Ok(()) => {
                self.context
                    .services
                    .keyvalue
                    .exists(&bucket_id, &key, wait)
                    .await
            }
            Err(refused) => Err(refused),
        };
        Ok(found.map_err(|failure| self.count_failure(failure)))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<String>,
    ) -> StoreAnswer<KeyResponse> {
        let bucket_id = self.bucket_id(&bucket)?;
        let wait = self.context.limits.keyvalue_timeout;
        let page = self
            .context
            .services
            .keyvalue
            .keys(&bucket_id, cursor, wait)
            .await;
        let page = page.map(|(keys, cursor)| KeyResponse { keys, cursor });
        Ok(page.map_err(|failure| self.count_failure(failure)))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for KeyvalueView<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> StoreAnswer<i64> {
        let bucket_id = self.bucket_id(&bucket)?;
        let changed = self.change(&bucket_id, Change::Increment(key, delta)).await;
        Ok(match changed {
            Ok(ChangeOutcome::Number(number)) => Ok(number),
            Ok(_) => Err(Error::Other("no number came".to_owned())),
            Err(error) => Err(error),
        })
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        let Cas {
            bucket_id,
            key,
            seen,
        } = self.table.delete(cas)?;
        self.cas_handles.0 -= 1;
        let change = Change::Swap {
            key: key.clone(),
            expected: seen,
            value,
        };
        Ok(match self.change(&bucket_id, change).await {
            Ok(ChangeOutcome::Differs(seen)) => {
                let again = self.push_cas(Cas {
                    bucket_id,
                    key,
                    seen,
                });
                Err(again.map_or_else(CasError::StoreError, CasError::CasFailed))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(CasError::StoreError(error)),
        })
    }
}

impl atomics::HostCas for KeyvalueView<'_> {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> StoreAnswer<Resource<Cas>> {
        let bucket_id = self.bucket_id(&bucket)?;
        let found = self.get_values(&bucket_id, vec![key.clone()]).await;
        Ok(found.and_then(|mut found| {
            let seen = found.pop().and_then(|(_, value)| value);
            self.push_cas(Cas {
                bucket_id,
                key,
                seen,
            })
        }))
    }

    async fn current(&mut self, cas: Resource<Cas>) -> StoreAnswer<Option<Vec<u8>>> {
        Ok(Ok(self.table.get(&cas)?.seen.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        self.cas_handles.0 -= 1;
        Ok(())
    }
}

impl batch::Host for KeyvalueView<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> StoreAnswer<Vec<Option<(String, Vec<u8>)>>> {
        let bucket_id = self.bucket_id(&bucket)?;
        let found = self.get_values(&bucket_id, keys).await;
        let pair = |(key, value): (String, Option<Vec<u8>>)| value.map(|value| (key, value));
        Ok(found.map(|found| found.into_iter().map(pair).collect()))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        key_values: Vec<(String, Vec<u8>)>,
    ) -> StoreAnswer<()> {
        let bucket_id = self.bucket_id(&bucket)?;
        let changed = self.change(&bucket_id, Change::Set(key_values)).await;
        Ok(changed.map(drop))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> StoreAnswer<()> {
        let bucket_id = self.bucket_id(&bucket)?;
        let changed = self.change(&bucket_id, Change::Delete(keys)).await;
        Ok(changed.map(drop))
    }
}

impl KeyvalueView<'_> {
    fn bucket_id(&mut self, bucket: &Resource<Bucket>) -> wasmtime::Result<BucketId> {
        Ok(self.table.get(bucket)?.0.clone())
    }

    fn push_cas(&mut self, cas: Cas) -> Result<Resource<Cas>, Error> {
        // Each holds a value, in the node's memory and not in the guest's.
        if self.cas_handles.0 >= KEYVALUE_CAS_HANDLES {
            let refused = StoreFailure::Refused(format!(
                "an instance may have {KEYVALUE_CAS_HANDLES} cas handles: drop those that are \
                 done with"
            ));
            return Err(self.count_failure(refused));
        }
        let pushed = push(self.table, cas);
        self.cas_handles.0 += usize::from(pushed.is_ok());
        pushed
    }

    async fn get_values(
        &mut self,
        bucket_id: &BucketId,
        keys: Vec<String>,
    ) -> Result<Vec<(String, Option<Vec<u8>>)>, Error> {
        let wait = self.context.limits.keyvalue_timeout;
        let values = match self.check_keys(&keys) {
            Ok(()) => {
                self.context
                    .services
                    .keyvalue
                    .get(bucket_id, &keys, wait)
                    .await
            }
            Err(refused) => Err(refused),
        };
        let values = values.map_err(|failure| self.count_failure(failure))?;
        Ok(keys.into_iter().zip(values).collect())
    }

    async fn change(
        &mut self,
        bucket_id: &BucketId,
        change: Change,
    ) -> Result<ChangeOutcome, Error> {
        let limits = &self.context.limits;
        let (bytes, wait) = (limits.keyvalue_bytes, limits.keyvalue_timeout);
        let changed = match self.check_change(&change) {
            Ok(()) => {
                let changed = self
                    .context
                    .services
                    .keyvalue
                    .change(bucket_id, change, bytes, wait);
                changed.await
            }
            Err(refused) => Err(refused),
        };
        changed.map_err(|failure| self.count_failure(failure))
    }

    /// Counts a failure, and returns the error for the guest.
    fn count_failure(&self, failure: StoreFailure) -> Error {
        let counters = &self.context.identity.counters;
        match &failure {
            StoreFailure::Refused(_) => counters.keyvalue_refused.add_one(),
            StoreFailure::Failed(_) => counters.keyvalue_failed.add_one(),
        }
        Error::Other(failure.to_string())
    }

    fn check_change(&self, change: &Change) -> Result<(), StoreFailure> {
        match change {
            Change::Set(values) => {
                self.check_count(values.len())?;
                for (key, value) in values {
                    self.check_key(key)?;
                    self.check_value(value)?;
                }
            }
            Change::Delete(keys) => self.check_keys(keys)?,
            Change::Increment(key, _) => self.check_key(key)?,
            Change::Swap { key, value, .. } => {
                self.check_key(key)?;
                self.check_value(value)?;
            }
        }
        Ok(())
    }

    fn check_keys(&self, keys: &[String]) -> Result<(), StoreFailure> {
        self.check_count(keys.len())?;
        keys.iter().try_for_each(|key| self.check_key(key))
    }

    fn check_count(&self, count: usize) -> Result<(), StoreFailure> {
        if count <= KEYVALUE_KEYS_A_CALL {
            return Ok(());
        }
        Err(StoreFailure::Refused(format!(
            "{count} keys are more than the {KEYVALUE_KEYS_A_CALL} of one call"
        )))
    }

    fn check_key(&self, key: &str) -> Result<(), StoreFailure> {
        let limit = self.context.limits.keyvalue_key_bytes;
        let why = match key.len() {
            0 => "a key is empty".to_owned(),
            bytes if bytes > limit => {
                format!("a key has {bytes} bytes, more than {limit} (keyvalue_key_bytes)")
            }
            _ => return Ok(()),
        };
        Err(StoreFailure::Refused(why))
    }

    fn check_value(&self, value: &[u8]) -> Result<(), StoreFailure> {
        let (bytes, limit) = (value.len(), self.context.limits.keyvalue_value_bytes);
        if bytes <= limit {
            return Ok(());
        }
        Err(StoreFailure::Refused(format!(
            "a value has {bytes} bytes, more than {limit} (keyvalue_value_bytes)"
        )))
    }
}

/// Adds an entry to the table. A guest that never drops its handles gets an error when the table is
/// full.
fn push<T: Send + 'static>(table: &mut ResourceTable, entry: T) -> Result<Resource<T>, Error> {
    let full = |_| Error::Other("the instance has too many handles: drop some".to_owned());
    table.push(entry).map_err(full)
}
