//! The state of plugins: `wasi:keyvalue`, in buckets that a plugin's manifest names.
//!
//! ```toml
//! [keyvalue]
//! buckets = ["default"]
//! ```
//!
//! The keys of a plugin belong to this plugin alone, in whichever store the node has: memory, a
//! file, or a server that all nodes share. Every call ends within `keyvalue_timeout`, with an
//! answer or with an error value, so a slow or missing store delays only the caller. The bounds are
//! `keyvalue_key_bytes`, `keyvalue_value_bytes`, `keyvalue_bytes` and the constants of `limits.rs`.

mod bucket_id;
mod change;
mod disk;
mod failure;
mod health;
mod memory;
mod redis;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use self::disk::Disk;
use self::health::Health;
use self::memory::Memory;
use self::redis::Redis;
use crate::config::KeyvalueConfig;

pub(crate) use self::bucket_id::BucketId;
pub(crate) use self::change::{Change, ChangeOutcome};
pub(crate) use self::failure::StoreFailure;

/// The store where the node's plugins keep their state.
#[derive(Clone)]
pub(crate) struct Keyvalue {
    store: Arc<Store>,
    health: Arc<Health>,
}

enum Store {
    Memory(Memory),
    Disk(Disk),
    Redis(Redis),
}

/// The possible values of `keyvalue.store`, for error messages.
const STORES: &str =
    "it is `memory`, `file:PATH`, `redis://HOST:PORT` or `rediss://HOST:PORT` (over TLS)";

impl Keyvalue {
    /// Opens the store that is configured. A file that cannot be used is an error, but a server
    /// that cannot be reached may come back later.
    ///
    /// # Errors
    ///
    /// Returns an error when the configuration is wrong, or when the file cannot be used.
    pub(crate) async fn open(config: &KeyvalueConfig) -> anyhow::Result<Keyvalue> {
        anyhow::ensure!(
            config.authorities.as_os_str().is_empty() || config.store.starts_with("rediss:"),
            "keyvalue.authorities is for a server over TLS: write keyvalue.store = \
             \"rediss://HOST:PORT\", or leave it out"
        );
        let health = Arc::<Health>::default();
        let store = match config.store.split_once(':') {
            None if config.store == "memory" => Store::Memory(Memory::default()),
            Some(("file", path)) if !path.is_empty() => {
                Store::Disk(Disk::open(path.into(), health.clone()).await?)
            }
            Some(("redis" | "rediss", _)) => Store::Redis(
                Redis::open(config, health.clone())
                    .await
                    // Not its value, which may have a password in it.
                    .context("keyvalue.store")?,
            ),
            // Its beginning only: the rest may have a password in it.
            Some((scheme, _)) => anyhow::bail!("keyvalue.store = \"{scheme}:…\": {STORES}"),
            None => anyhow::bail!("keyvalue.store = {:?}: {STORES}", config.store),
        };
        Ok(Keyvalue {
            store: Arc::new(store),
            health,
        })
    }

    /// The kind of the store, as `keyvalue.store` names it.
    pub(crate) fn kind(&self) -> &'static str {
        match &*self.store {
            Store::Memory(_) => "memory",
            Store::Disk(_) => "file",
            Store::Redis(_) => "redis",
        }
    }

    /// The reason why the store does not accept calls or changes, or `None` if it works.
    pub(crate) fn failure(&self) -> Option<String> {
        self.health.failure()
    }

    /// The values of these keys, in the order of the keys.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails, or does not answer within `wait`.
    pub(crate) async fn get(
        &self,
        bucket_id: &BucketId,
        keys: &[String],
        wait: Duration,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreFailure> {
        let found = async {
            match &*self.store {
                Store::Memory(memory) => Ok(memory.get(bucket_id, keys)),
                Store::Disk(disk) => disk.get(bucket_id, keys).await,
                Store::Redis(redis) => redis.get(bucket_id, keys).await,
            }
        };
        self.within(wait, found).await
    }

    /// Whether the bucket has this key.
    ///
    /// # Errors
    ///
    /// Returns an error when the store fails, or does not answer within `wait`.
    pub(crate) async fn exists(
        &self,
        bucket_id: &BucketId,
        key: &str,
        wait: Duration,
    ) -> Result<bool, StoreFailure> {
        let found = async {
            match &*self.store {
                Store::Memory(memory) => Ok(memory.exists(bucket_id, key)),
                Store::Disk(disk) => disk.exists(bucket_id, key).await,
                Store::Redis(redis) => redis.exists(bucket_id, key).await,
            }
        };
        self.within(wait, found).await
    }

    /// A page of the bucket's keys, and the cursor of the next page.
    ///
    /// # Errors
    ///
    /// Returns an error when the cursor is not valid. Also returns an error when the store fails,
    /// or does not answer within `wait`.
    pub(crate) async fn keys(
        &self,
        bucket_id: &BucketId,
        cursor: Option<String>,
        wait: Duration,
    ) -> Result<(Vec<String>, Option<String>), StoreFailure> {
        let found = async {
            match &*self.store {
                Store::Memory(memory) => Ok(memory.keys(bucket_id, cursor.as_deref())),
                Store::Disk(disk) => disk.keys(bucket_id, cursor).await,
                Store::Redis(redis) => redis.keys(bucket_id, cursor.as_deref()).await,
            }
        };
        self.within(wait, found).await
    }

    /// Changes a bucket. The plugin may have at most `bytes` bytes in all, if the store counts
    /// them.
    ///
    /// # Errors
    ///
    /// Returns an error when the store refuses the change. Also returns an error when the store
    /// fails, or does not answer within `wait`.
    pub(crate) async fn change(
        &self,
        bucket_id: &BucketId,
        change: Change,
        bytes: u64,
        wait: Duration,
    ) -> Result<ChangeOutcome, StoreFailure> {
        let changed = async {
            match &*self.store {
                Store::Memory(memory) => memory.change(bucket_id, change, bytes),
                Store::Disk(disk) => disk.change(bucket_id, change, bytes).await,
                Store::Redis(redis) => redis.change(bucket_id, change).await,
            }
        };
        self.within(wait, changed).await
    }

    /// Copies the whole state, as it is now, into a file without a name.
    ///
    /// # Errors
    ///
    /// The store is no file, or it cannot be copied.
    pub(crate) async fn backup(&self) -> Result<File, StoreFailure> {
        self.disk()?.backup().await
    }

    /// An empty file without a name, for a copy of the state that comes.
    ///
    /// # Errors
    ///
    /// The store is no file, or its folder cannot be written.
    pub(crate) async fn file_for_copy(&self) -> Result<File, StoreFailure> {
        self.disk()?.new_file().await
    }

    /// Replaces the whole state of all plugins by that of a copy, all at once. Returns the number of
    /// its entries.
    ///
    /// # Errors
    ///
    /// The store is no file, the copy is not good, or the store fails. Then nothing is replaced.
    pub(crate) async fn restore(&self, copy: File) -> Result<u64, StoreFailure> {
        self.disk()?.restore(copy).await
    }

    fn disk(&self) -> Result<&Disk, StoreFailure> {
        match &*self.store {
            Store::Disk(disk) => Ok(disk),
            Store::Memory(_) | Store::Redis(_) => Err(StoreFailure::Refused(format!(
                "the state is in the store `{}`: only a file is copied here (keyvalue.store)",
                self.kind()
            ))),
        }
    }

    async fn within<T>(
        &self,
        wait: Duration,
        work: impl Future<Output = Result<T, StoreFailure>>,
    ) -> Result<T, StoreFailure> {
        let done = tokio::time::timeout(wait, work).await;
        done.unwrap_or_else(|_| {
            if let Store::Redis(redis) = &*self.store {
                redis.was_too_slow();
            }
            Err(StoreFailure::Failed(format!(
                "no answer within {wait:?} (keyvalue_timeout)"
            )))
        })
    }
}

/// The default store is in memory and empty.
impl Default for Keyvalue {
    fn default() -> Keyvalue {
        Keyvalue {
            store: Arc::new(Store::Memory(Memory::default())),
            health: Arc::default(),
        }
    }
}
