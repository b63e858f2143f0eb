//! The changes of a bucket, and how they are applied in every store that the node itself
//! implements.

use super::failure::StoreFailure;
use crate::limits::KEYVALUE_ENTRY_BYTES;

/// One call that changes a bucket.
#[derive(Debug)]
pub(crate) enum Change {
    /// Sets these keys to these values.
    Set(Vec<(String, Vec<u8>)>),
    /// Deletes these keys, if they exist.
    Delete(Vec<String>),
    /// Adds this amount to the number at this key. A missing key counts as 0.
    Increment(String, i64),
    /// Sets the key to this value, if its value is the expected one. With no expected value, the
    /// key must not exist.
    Swap {
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    },
}

/// The result of a change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChangeOutcome {
    /// The change was made.
    Done,
    /// The change was made, and this is the new number.
    Number(i64),
    /// Nothing was changed, since the key has this other value.
    Differs(Option<Vec<u8>>),
}

/// A bucket whose entries can be changed.
pub(super) trait Entries {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreFailure>;
    fn insert(&mut self, key: &str, value: &[u8]) -> Result<(), StoreFailure>;
    fn remove(&mut self, key: &str) -> Result<(), StoreFailure>;
}

/// Changes a bucket of a plugin that has `used` bytes and may have `limit` bytes.
pub(super) fn apply(
    entries: &mut impl Entries,
    used: &mut u64,
    limit: u64,
    change: &Change,
) -> Result<ChangeOutcome, StoreFailure> {
    match change {
        Change::Set(values) => {
            for (key, value) in values {
                put(entries, used, limit, key, value)?;
            }
            Ok(ChangeOutcome::Done)
        }
        Change::Delete(keys) => {
            for key in keys {
                if let Some(value) = entries.get(key)? {
                    entries.remove(key)?;
                    *used = used.saturating_sub(weight(key, &value));
                }
            }
            Ok(ChangeOutcome::Done)
        }
        Change::Increment(key, delta) => {
            let number = match entries.get(key)? {
                Some(value) => number(&value).ok_or_else(|| not_a_number(key))?,
                None => 0,
            };
            let number = number.checked_add(*delta).ok_or_else(|| too_large(key))?;
            put(entries, used, limit, key, number.to_string().as_bytes())?;
            Ok(ChangeOutcome::Number(number))
        }
        Change::Swap {
            key,
            expected,
            value,
        } => {
            let now = entries.get(key)?;
            if now != *expected {
                return Ok(ChangeOutcome::Differs(now));
            }
            put(entries, used, limit, key, value)?;
            Ok(ChangeOutcome::Done)
        }
    }
}

pub(super) fn not_a_number(key: &str) -> StoreFailure {
    StoreFailure::Refused(format!(
        "the value of {key:?} is no number: increment is for what increment or a decimal text \
         has made, -9223372036854775808 to 9223372036854775807"
    ))
}

pub(super) fn too_large(key: &str) -> StoreFailure {
    StoreFailure::Refused(format!("the number of {key:?} would be too large"))
}

fn put(
    entries: &mut impl Entries,
    used: &mut u64,
    limit: u64,
    key: &str,
    value: &[u8],
) -> Result<(), StoreFailure> {
    let former = entries.get(key)?.map_or(0, |value| weight(key, &value));
    let now = used.saturating_sub(former) + weight(key, value);
    // What takes no more room than before is taken: a plugin that is full can still shrink.
    if now > limit && now > *used {
        return Err(StoreFailure::Refused(format!(
            "the plugin's keys and values would have {now} bytes, more than {limit} \
             (keyvalue_bytes)"
        )));
    }
    entries.insert(key, value)?;
    *used = now;
    Ok(())
}

fn weight(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + KEYVALUE_ENTRY_BYTES
}

/// Reads a number as a server reads it: no sign except `-`, no leading zeros, no spaces.
fn number(value: &[u8]) -> Option<i64> {
    let text = str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    impl Entries for BTreeMap<String, Vec<u8>> {
        fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreFailure> {
            Ok(BTreeMap::get(self, key).cloned())
        }

        fn insert(&mut self, key: &str, value: &[u8]) -> Result<(), StoreFailure> {
            BTreeMap::insert(self, key.to_owned(), value.to_owned());
            Ok(())
        }

        fn remove(&mut self, key: &str) -> Result<(), StoreFailure> {
            BTreeMap::remove(self, key);
            Ok(())
        }
    }

    fn set(key: &str, value: &str) -> Change {
        Change::Set(vec![(key.to_owned(), value.into())])
    }

    #[test]
    fn numbers_are_decimal_and_do_not_wrap() {
        let (mut entries, mut used) = (BTreeMap::new(), 0);
        let mut apply = |change| {
            apply(&mut entries, &mut used, 10_000, &change).map_err(|error| error.to_string())
        };
        let add = |delta| Change::Increment("n".to_owned(), delta);
        assert_eq!(apply(add(5)), Ok(ChangeOutcome::Number(5)));
        assert_eq!(apply(add(-7)), Ok(ChangeOutcome::Number(-2)));
        for value in ["", "+1", "01", " 1", "1.0", "9223372036854775808"] {
            apply(set("n", value)).expect("room for it");
            let error = apply(add(1)).expect_err(value);
            assert!(error.contains("is no number"), "{value}: {error}");
        }
        apply(set("n", "9223372036854775807")).expect("room for it");
        assert!(apply(add(1)).expect_err("too large").contains("too large"));
        assert_eq!(apply(add(0)), Ok(ChangeOutcome::Number(i64::MAX)));
    }

    #[test]
    fn a_swap_is_for_who_knows_the_value() {
        let (mut entries, mut used) = (BTreeMap::new(), 0);
        let mut swap = |expected: Option<&str>, value: &str| {
            let change = Change::Swap {
                key: "k".to_owned(),
                expected: expected.map(Into::into),
                value: value.into(),
            };
            apply(&mut entries, &mut used, 10_000, &change).expect("room for it")
        };
        assert_eq!(swap(Some("a"), "b"), ChangeOutcome::Differs(None));
        assert_eq!(swap(None, "a"), ChangeOutcome::Done);
        assert_eq!(swap(None, "b"), ChangeOutcome::Differs(Some("a".into())));
        assert_eq!(swap(Some("a"), "b"), ChangeOutcome::Done);
    }

    #[test]
    fn what_is_there_is_counted() {
        let (mut entries, mut used) = (BTreeMap::new(), 0);
        let limit = 2 * (KEYVALUE_ENTRY_BYTES + 11);
        let ten = "x".repeat(10);
        let mut apply = |change| apply(&mut entries, &mut used, limit, &change);
        apply(set("a", &ten)).expect("room for it");
        apply(set("a", &ten)).expect("the same again");
        apply(set("b", &ten)).expect("room for it");
        for change in [set("c", ""), set("a", &"x".repeat(11))] {
            let error = apply(change).expect_err("full").to_string();
            assert!(error.contains("(keyvalue_bytes)"), "{error}");
        }
        apply(set("a", "x")).expect("less than before");
        apply(Change::Delete(vec!["a".to_owned(), "none".to_owned()])).expect("always");
        apply(set("c", &ten)).expect("room again");
        assert_eq!(used, limit);
    }
}
