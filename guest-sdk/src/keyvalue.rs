//! This module keeps state of the plugin's own, in buckets that its manifest grants.
//!
//! ```toml
//! # chat.toml
//! [keyvalue]
//! buckets = ["default"]
//! ```
//!
//! The state outlives events, instances and builds. Where it is, is the node's affair: in its
//! memory, in a file, or at a server that all nodes share. Each call may fail, since the store may
//! be full or out of reach. Then the call returns an [`Error`], within a second by default.
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
//! With a node's defaults, keys have 1 to 256 bytes, values have up to 64 KiB, all of a plugin's
//! keys and values together have 64 MiB, and one call is about 100 keys at most.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;

#[cfg(feature = "json")]
use serde::{Serialize, de::DeserializeOwned};

use crate::host::keyvalue as host;

/// How often an update begins anew before it gives up.
const ATTEMPTS: usize = 100;

/// A `Bucket` is a bucket that has been opened, by [`open`].
#[derive(Debug)]
pub struct Bucket(host::Bucket);

/// `Keys` is one page of a bucket's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The keys of a page are at most 1,000, or a few more.
    pub keys: Vec<String>,
    /// The cursor asks for the next page; `None` means that this is the last one.
    pub cursor: Option<String>,
}

/// An `Error` says why a call has no answer.
///
/// Where it says that the store failed, what was to be changed may have been changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The message is a text for a log.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// An `UpdateError` says why [`Bucket::try_update`] or [`Bucket::update_json`] has written nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateError<E> {
    /// The function itself has refused the change, for this reason.
    Refused(E),
    /// The bucket failed, and what was to be changed may have been changed.
    Failed(Error),
}

impl<E: fmt::Display> fmt::Display for UpdateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::Refused(reason) => reason.fmt(f),
            UpdateError::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for UpdateError<E> {}

impl<E> From<Error> for UpdateError<E> {
    fn from(error: Error) -> UpdateError<E> {
        UpdateError::Failed(error)
    }
}

/// Opens a bucket that the manifest names.
///
/// ```
/// use jackfield_sdk::{keyvalue, testing::Host};
///
/// let host = Host::new().buckets(&["default"]);
/// let keys = host.run(|| keyvalue::open("default")?.keys())?;
/// assert!(keys.is_empty());
/// # Ok::<(), keyvalue::Error>(())
/// ```
///
/// # Errors
///
/// The call fails if the manifest does not name the bucket under `keyvalue.buckets`.
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
    /// Returns the value of this key, if there is one.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// assert_eq!(bucket.get("motto")?, None);
    /// bucket.set("motto", "festina lente")?;
    /// assert_eq!(bucket.get("motto")?.as_deref(), Some(&b"festina lente"[..]));
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The call fails if the key is empty or too long (256 bytes by default), or if the store
    /// fails.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key)
    }

    /// Gives the key this value, in place of the one it had.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// bucket.set("motto", "carpe diem")?;
    /// bucket.set("motto", "festina lente")?;
    /// assert_eq!(bucket.get("motto")?.as_deref(), Some(&b"festina lente"[..]));
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The call fails if the key is empty or too long (256 bytes by default), if the value is too
    /// long (64 KiB by default), if the plugin has no room left (64 MiB by default), or if the
    /// store fails.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// assert!(bucket.set("", "a key has a byte at least").is_err());
    /// assert!(bucket.set("large", vec![0; 65_537]).is_err());
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.0.set(key, value.as_ref())
    }

    /// Deletes the key; it is no error if there is none.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// bucket.set("motto", "carpe diem")?;
    /// bucket.delete("motto")?;
    /// bucket.delete("motto")?;
    /// assert_eq!(bucket.get("motto")?, None);
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The call fails if the key is empty or too long (256 bytes by default), or if the store
    /// fails.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.0.delete(key)
    }

    /// Returns whether there is such a key.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// assert!(!bucket.exists("motto")?);
    /// bucket.set("motto", "")?; // an empty value is one
    /// assert!(bucket.exists("motto")?);
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The call fails if the key is empty or too long (256 bytes by default), or if the store
    /// fails.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.0.exists(key)
    }

    /// Returns a page of the bucket's keys, in an order that the store has.
    ///
    /// The first page has no cursor, and each further one has the last page's. A key that is there
    /// throughout comes. A key that others add or delete meanwhile may come or not, and at a
    /// server a key may come twice.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// for number in 0..1_001 {
    ///     bucket.set(&format!("key {number}"), "")?;
    /// }
    /// let first = bucket.page(None)?;
    /// let last = bucket.page(first.cursor.as_deref())?;
    /// assert_eq!((first.keys.len(), last.keys.len()), (1_000, 1));
    /// assert_eq!(last.cursor, None);
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The call fails if the store fails, or if it sees that it did not give out this cursor.
    pub fn page(&self, cursor: Option<&str>) -> Result<Keys, Error> {
        self.0.page(cursor)
    }

    /// Returns all keys of the bucket, sorted.
    ///
    /// They come page after page, which takes its time for a large bucket.
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
    ///
    /// # Errors
    ///
    /// The call fails if the store fails.
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

    /// Adds to the number of this key in one step, and returns what it is now.
    ///
    /// Nobody comes in between, not even on another node that shares the store. A key that is not
    /// there counts as 0, and the value is the number in decimal.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// assert_eq!(bucket.increment("visits", 1)?, 1);
    /// assert_eq!(bucket.increment("visits", 10)?, 11);
    /// assert_eq!(bucket.increment("visits", -1)?, 10);
    /// assert_eq!(bucket.get("visits")?.as_deref(), Some(&b"10"[..]));
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The call fails if the value is no number, if the sum does not fit into an `i64`, if the key
    /// is empty or too long (256 bytes by default), if the plugin has no room left (64 MiB by
    /// default), or if the store fails.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// bucket.set("visits", "many")?;
    /// assert!(bucket.increment("visits", 1).is_err());
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        self.0.increment(key, delta)
    }

    /// Replaces the value of this key by what `change` makes of it, and returns the new value.
    ///
    /// Nobody else changes the value in between: where somebody has, `change` is called again with
    /// what is there now. A key that is not there is `None`.
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
    /// # Errors
    ///
    /// The call fails if others were first a hundred times, if the key is empty or too long (256
    /// bytes by default), if the new value is too long (64 KiB by default), if the plugin has no
    /// room left (64 MiB by default), or if the store fails.
    pub fn update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        match self.try_update(key, |value| Ok::<_, Infallible>(change(value))) {
            Ok(value) => Ok(value),
            Err(UpdateError::Failed(error)) => Err(error),
            Err(UpdateError::Refused(never)) => match never {},
        }
    }

    /// Replaces the value of this key as [`update`](Bucket::update) does, unless `change` refuses.
    ///
    /// Where `change` returns an error, nothing is written. It sees what is there now, so that no
    /// other change can come between its decision and the new value.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// use jackfield_sdk::keyvalue::UpdateError;
    ///
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// let claim = |player: &'static str| {
    ///     bucket.try_update("seat 7", |taken| match taken {
    ///         Some(_) => Err("the seat is taken"),
    ///         None => Ok(player.into()),
    ///     })
    /// };
    /// assert_eq!(claim("ada"), Ok(b"ada".to_vec()));
    /// assert_eq!(claim("bob"), Err(UpdateError::Refused("the seat is taken")));
    /// assert_eq!(bucket.get("seat 7")?.as_deref(), Some(&b"ada"[..]));
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// [`UpdateError::Refused`] has what `change` returned. [`UpdateError::Failed`] says that others
    /// were first a hundred times, that the key is empty or too long (256 bytes by default), that
    /// the new value is too long (64 KiB by default), that the plugin has no room left (64 MiB by
    /// default), or that the store failed.
    pub fn try_update<E>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, UpdateError<E>> {
        let change = |value| change(value).map_err(UpdateError::Refused);
        self.replace(key, change, |value: &Vec<u8>| Cow::Borrowed(value))
    }

    /// Returns the value of this key, read as JSON, if there is one.
    ///
    /// The counterpart is [`set`](Bucket::set) with [`to_json`](crate::to_json).
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// use jackfield_sdk::to_json;
    ///
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// assert_eq!(bucket.get_json::<Vec<String>>("players")?, None);
    /// bucket.set("players", to_json(&["ada", "bob"]))?;
    /// assert_eq!(bucket.get_json::<Vec<String>>("players")?.expect("set").len(), 2);
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The call fails if the value is not the JSON that `T` has, if the key is empty or too long
    /// (256 bytes by default), or if the store fails.
    #[cfg(feature = "json")]
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        read_json(key, self.get(key)?)
    }

    /// Replaces the value of this key, which is JSON, unless `change` refuses.
    ///
    /// It is [`try_update`](Bucket::try_update) with values that are read from JSON and written as
    /// JSON. `change` may be called several times.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// use jackfield_sdk::keyvalue::UpdateError;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Debug, PartialEq, Serialize, Deserialize)]
    /// struct Auction { best: u32, bidder: Option<String> }
    ///
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// let bid = |bidder: &str, amount: u32| {
    ///     bucket.update_json("auction", |auction: Option<Auction>| {
    ///         let best = auction.map_or(0, |auction| auction.best);
    ///         if amount <= best {
    ///             return Err(format!("bid more than {best}"));
    ///         }
    ///         Ok(Auction { best: amount, bidder: Some(bidder.to_owned()) })
    ///     })
    /// };
    /// assert_eq!(bid("ada", 10).expect("the first one").best, 10);
    /// assert_eq!(bid("bob", 5), Err(UpdateError::Refused("bid more than 10".to_owned())));
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// They are those of [`try_update`](Bucket::try_update). It is also
    /// [`Failed`](UpdateError::Failed) if the value is not the JSON that `T` has.
    ///
    /// # Panics
    ///
    /// The new value has no JSON, as [`to_json`](crate::to_json) says.
    #[cfg(feature = "json")]
    pub fn update_json<T: Serialize + DeserializeOwned, E>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> Result<T, E>,
    ) -> Result<T, UpdateError<E>> {
        let change = |value| change(read_json(key, value)?).map_err(UpdateError::Refused);
        self.replace(key, change, |value: &T| {
            Cow::Owned(crate::to_json(value).into())
        })
    }

    /// Replaces a value by the `bytes` of what `change` makes of it, where nobody comes in between.
    fn replace<T, E>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Result<T, UpdateError<E>>,
        bytes: fn(&T) -> Cow<'_, [u8]>,
    ) -> Result<T, UpdateError<E>> {
        let mut cas = self.0.cas(key)?;
        for _ in 0..ATTEMPTS {
            let value = change(cas.current()?)?;
            match cas.swap(&bytes(&value))? {
                None => return Ok(value),
                Some(again) => cas = again,
            }
        }
        Err(UpdateError::Failed(Error {
            message: format!("{key:?} was changed by others {ATTEMPTS} times meanwhile"),
        }))
    }

    /// Returns the values of several keys, in the order of the keys.
    ///
    /// One call is about 100 keys at most.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// bucket.set("b", "2")?;
    /// let values = bucket.get_many(&["a", "b"])?;
    /// assert_eq!(values, [None, Some(b"2".to_vec())]);
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The call fails if there are more than 100 keys, if a key is empty or too long (256 bytes by
    /// default), or if the store fails.
    pub fn get_many<S: AsRef<str>>(&self, keys: &[S]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.0.get_many(&owned(keys))
    }

    /// Gives several keys their values, up to 100 in one call.
    ///
    /// This is not one step: where it fails, some keys may have their values.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// bucket.set_many(&[("a", "1"), ("b", "2")])?;
    /// assert_eq!(bucket.get("b")?, Some(b"2".to_vec()));
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The call fails if there are more than 100 keys, if a key is empty or too long (256 bytes by
    /// default), if a value is too long (64 KiB by default), if the plugin has no room left (64 MiB
    /// by default), or if the store fails.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// let values: Vec<_> = (0..101).map(|number| (number.to_string(), "")).collect();
    /// assert!(bucket.set_many(&values).is_err());
    /// assert!(bucket.keys()?.is_empty());
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    pub fn set_many<S: AsRef<str>, V: AsRef<[u8]>>(&self, values: &[(S, V)]) -> Result<(), Error> {
        let owned = |(key, value): &(S, V)| (key.as_ref().to_owned(), value.as_ref().to_owned());
        self.0
            .set_many(&values.iter().map(owned).collect::<Vec<_>>())
    }

    /// Deletes several keys, up to 100 in one call.
    ///
    /// This is not one step: where it fails, some keys may be deleted. It is no error if a key is
    /// not there.
    ///
    /// ```
    /// # use jackfield_sdk::{keyvalue, testing::Host};
    /// # Host::new().buckets(&["default"]).run(|| {
    /// let bucket = keyvalue::open("default")?;
    /// bucket.set_many(&[("a", "1"), ("b", "2")])?;
    /// bucket.delete_many(&["a", "c"])?;
    /// assert!(bucket.keys()?.iter().eq(["b"]));
    /// # Ok::<(), keyvalue::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// The call fails if there are more than 100 keys, if a key is empty or too long (256 bytes by
    /// default), or if the store fails.
    pub fn delete_many<S: AsRef<str>>(&self, keys: &[S]) -> Result<(), Error> {
        self.0.delete_many(&owned(keys))
    }
}

#[cfg(feature = "json")]
fn read_json<T: DeserializeOwned>(key: &str, value: Option<Vec<u8>>) -> Result<Option<T>, Error> {
    let read = value.map(crate::from_json).transpose();
    read.map_err(|error| Error {
        message: format!("the value of {key:?}: {error}"),
    })
}

fn owned<S: AsRef<str>>(keys: &[S]) -> Vec<String> {
    keys.iter().map(|key| key.as_ref().to_owned()).collect()
}
