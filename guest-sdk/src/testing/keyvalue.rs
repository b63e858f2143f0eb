//! The stand-in's buckets: in memory, granted by [`Host::buckets`](super::Host::buckets).

use std::collections::BTreeMap;

use super::current;
use super::node::Node;
use crate::keyvalue::{Error, Keys};

/// Keys of one call, and of one page.
const KEYS_A_CALL: usize = 100;
const KEYS_A_PAGE: usize = 1_000;

/// What an entry counts beside its key and value.
const ENTRY_BYTES: usize = 64;

/// What a plugin keeps in its buckets, by bucket.
pub(super) type Buckets = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

#[derive(Debug)]
pub(crate) struct Bucket(String);

pub(crate) struct Cas {
    bucket: String,
    key: String,
    seen: Option<Vec<u8>>,
}

pub(crate) fn open(name: &str) -> Result<Bucket, Error> {
    current(|node| match node.buckets.contains_key(name) {
        true => Ok(Bucket(name.to_owned())),
        false => Err(error(format!(
            "no bucket {name:?} is granted: name it under keyvalue.buckets in {}.toml, which a \
             test reads with Host::manifest, or in a test with Host::buckets",
            node.plugin
        ))),
    })
}

impl Bucket {
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.get_many(&[key.to_owned()])?.pop().flatten())
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.set_many(&[(key.to_owned(), value.to_owned())])
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), Error> {
        self.delete_many(&[key.to_owned()])
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.get(key)?.is_some())
    }

    pub(crate) fn page(&self, cursor: Option<&str>) -> Result<Keys, Error> {
        current(|node| {
            let entries = self.entries(node).iter();
            let is_next = |key: &&String| cursor.is_none_or(|cursor| key.as_str() > cursor);
            let mut rest = entries.map(|(key, _)| key).filter(is_next).cloned();
            let keys: Vec<_> = rest.by_ref().take(KEYS_A_PAGE).collect();
            let cursor = rest.next().and_then(|_| keys.last().cloned());
            Ok(Keys { keys, cursor })
        })
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        let number = match self.get(key)? {
            Some(value) => String::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| error(format!("the value of {key:?} is no number")))?,
            None => 0,
        };
        let number = number
            .checked_add(delta)
            .ok_or_else(|| error(format!("the number of {key:?} would be too large")))?;
        self.set(key, number.to_string().as_bytes())?;
        Ok(number)
    }

    pub(crate) fn cas(&self, key: &str) -> Result<Cas, Error> {
        Ok(Cas {
            bucket: self.0.clone(),
            key: key.to_owned(),
            seen: self.get(key)?,
        })
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        current(|node| {
            check_keys(node, keys)?;
            let entries = self.entries(node);
            Ok(keys.iter().map(|key| entries.get(key).cloned()).collect())
        })
    }

    pub(crate) fn set_many(&self, values: &[(String, Vec<u8>)]) -> Result<(), Error> {
        current(|node| {
            let keys: Vec<_> = values.iter().map(|(key, _)| key.clone()).collect();
            check_keys(node, &keys)?;
            for (key, value) in values {
                check("a value", value.len(), node.limits.keyvalue_value_bytes)?;
                let used = used(&node.buckets);
                let former = self.entries(node).get(key).map_or(0, |v| weight(key, v));
                let bytes = used - former + weight(key, value);
                if bytes > used {
                    let limit = node.limits.keyvalue_bytes;
                    check("the plugin's keys and values", bytes, limit)?;
                }
                self.entries(node).insert(key.clone(), value.clone());
            }
            Ok(())
        })
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        current(|node| {
            check_keys(node, keys)?;
            for key in keys {
                self.entries(node).remove(key);
            }
            Ok(())
        })
    }

    fn entries<'a>(&self, node: &'a mut Node) -> &'a mut BTreeMap<String, Vec<u8>> {
        node.buckets.entry(self.0.clone()).or_default()
    }
}

impl Cas {
    pub(crate) fn current(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.seen.clone())
    }

    /// Another one, if the value was another one.
    pub(crate) fn swap(self, value: &[u8]) -> Result<Option<Cas>, Error> {
        let bucket = Bucket(self.bucket);
        if bucket.get(&self.key)? != self.seen {
            return bucket.cas(&self.key).map(Some);
        }
        bucket.set(&self.key, value)?;
        Ok(None)
    }
}

fn check_keys(node: &Node, keys: &[String]) -> Result<(), Error> {
    if keys.len() > KEYS_A_CALL {
        let count = keys.len();
        return Err(error(format!(
            "{count} keys are more than the {KEYS_A_CALL} of one call"
        )));
    }
    if keys.iter().any(String::is_empty) {
        return Err(error("a key is empty".to_owned()));
    }
    let limit = node.limits.keyvalue_key_bytes;
    keys.iter()
        .try_for_each(|key| check("a key", key.len(), limit))
}

fn check(what: &str, bytes: usize, limit: usize) -> Result<(), Error> {
    match bytes > limit {
        true => Err(error(format!("{what}: {bytes} bytes, more than {limit}"))),
        false => Ok(()),
    }
}

fn used(buckets: &Buckets) -> usize {
    let entries = buckets.values().flatten();
    entries.map(|(key, value)| weight(key, value)).sum()
}

fn weight(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

fn error(message: String) -> Error {
    Error { message }
}
