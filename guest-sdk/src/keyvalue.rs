//! State of the plugin's own, in buckets that its manifest grants.
//!
//! ```toml
//! # chat.toml
//! [keyvalue]
//! buckets = ["default"]
//! ```
//!
//! It outlives events, instances and builds. Where it is, is the node's affair: in its memory,
//! in a file, or at a server that all nodes share. Each call may fail: the store may be full or
//! out of reach, and then the answer is an [`Error`], soon.
//!
//! ```
//! use jackfield_sdk::{keyvalue, testing::Host};
//!
//! let host = Host::new().buckets(&["default"]);
//! host.run(|| {
//!     let bucket = keyvalue::open("default")?;
//!     bucket.set("motto", "festina lente")?;
//!     assert_eq!(bucket.get("motto")?.as_deref(), Some(&b"festina lente"[..]));
//!     assert_eq!(bucket.increment("visits", 1)?, 1);
//!     Ok::<(), keyvalue::Error>(())
//! })?;
//! # Ok::<(), keyvalue::Error>(())
//! ```
//!
//! Limits with a node's defaults: keys have 1 to 256 bytes, values 64 KiB, all of a plugin's
//! together 64 MiB, and a call is about 100 keys.

use std::collections::BTreeSet;
use std::fmt;

use crate::host::keyvalue as host;

/// How often [`Bucket::update`] begins anew before it gives up.
const ATTEMPTS: usize = 100;

/// A bucket that has been opened.
#[derive(Debug)]
pub struct Bucket(host::Bucket);

/// A page of a bucket's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The keys, 1,000 at most or a few more.
    pub keys: Vec<String>,
    /// What to ask for the next page with; none: this is the last one.
    pub cursor: Option<String>,
}

/// Why a call has no answer. Where it says that the store failed, what was to be changed may
/// have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// For a log.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Opens a bucket. An error, if the manifest does not name it under `keyvalue.buckets`.
///
/// ```
/// use jackfield_sdk::{keyvalue, testing::Host};
///
/// let error = Host::new().run(|| keyvalue::open("default")).unwrap_err();
/// assert!(error.message.contains("keyvalue.buckets"));
/// ```
pub fn open(name: &str) -> Result<Bucket, Error> {
    host::open(name).map(Bucket)
}

impl Bucket {
    /// The value of this key, if there is one.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key)
    }

    /// Gives the key this value, in place of the one it had.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.0.set(key, value.as_ref())
    }

    /// Deletes the key. There may be none.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.0.delete(key)
    }

    /// Whether there is such a key.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.0.exists(key)
    }

    /// A page of keys, in an order that the store has; the first one without a cursor. What
    /// is there throughout comes; what others add or delete meanwhile may come or not, and at a
    /// server a key may come twice.
    pub fn page(&self, cursor: Option<&str>) -> Result<Keys, Error> {
        self.0.page(cursor)
    }

    /// All keys, page after page: of a large bucket, that takes its time.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// bucket.set("b", "")?;
    /// bucket.set("a", "")?;
    /// assert!(bucket.keys()?.iter().eq(["a", "b"]));
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    pub fn keys(&self) -> Result<BTreeSet<String>, Error> {
        let mut all = BTreeSet::new();
        let mut cursor = None;
        loop {
            let page = self.page(cursor.as_deref())?;
            all.extend(page.keys);
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Adds to the number of this key, in one step in the whole cluster, and answers what it is
    /// now. A key that is not there counts as 0; the value is the number in decimal.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        self.0.increment(key, delta)
    }

    /// Replaces the value of this key by what `change` makes of it, and answers that. Nobody
    /// else changes it in between: where somebody has, `change` is called again.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// let longer = |value: Option<Vec<u8>>| [value.unwrap_or_default(), b"!".into()].concat();
    /// bucket.update("shout", longer)?;
    /// assert_eq!(bucket.update("shout", longer)?, b"!!");
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// An error as well, if others were first a hundred times.
    pub fn update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        let mut cas = self.0.cas(key)?;
        for _ in 0..ATTEMPTS {
            let value = change(cas.current()?);
            match cas.swap(&value)? {
                None => return Ok(value),
                Some(again) => cas = again,
            }
        }
        Err(Error {
            message: format!("{key:?} was changed by others {ATTEMPTS} times meanwhile"),
        })
    }

    /// The values of several keys, in their order.
    pub fn get_many<S: AsRef<str>>(&self, keys: &[S]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.0.get_many(&owned(keys))
    }

    /// Gives several keys their values. Where it fails, some may have theirs.
    pub fn set_many<S: AsRef<str>, V: AsRef<[u8]>>(&self, values: &[(S, V)]) -> Result<(), Error> {
        let owned = |(key, value): &(S, V)| (key.as_ref().to_owned(), value.as_ref().to_owned());
        self.0
            .set_many(&values.iter().map(owned).collect::<Vec<_>>())
    }

    /// Deletes several keys. Where it fails, some may be deleted.
    pub fn delete_many<S: AsRef<str>>(&self, keys: &[S]) -> Result<(), Error> {
        self.0.delete_many(&owned(keys))
    }
}

fn owned<S: AsRef<str>>(keys: &[S]) -> Vec<String> {
    keys.iter().map(|key| key.as_ref().to_owned()).collect()
}
