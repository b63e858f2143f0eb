//! `wasi:keyvalue`.

use crate::bindings::keyvalue::wasi::keyvalue::{atomics, batch, store};
use crate::keyvalue::{Error, Keys};

#[derive(Debug)]
pub(crate) struct Bucket(store::Bucket);

pub(crate) struct Cas(atomics::Cas);

pub(crate) fn open(name: &str) -> Result<Bucket, Error> {
    Ok(Bucket(store::open(name)?))
}

impl Bucket {
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.get(key)?)
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        Ok(self.0.set(key, value)?)
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), Error> {
        Ok(self.0.delete(key)?)
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.0.exists(key)?)
    }

    pub(crate) fn page(&self, cursor: Option<&str>) -> Result<Keys, Error> {
        let store::KeyResponse { keys, cursor } = self.0.list_keys(cursor)?;
        Ok(Keys { keys, cursor })
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        Ok(atomics::increment(&self.0, key, delta)?)
    }

    pub(crate) fn cas(&self, key: &str) -> Result<Cas, Error> {
        Ok(Cas(atomics::Cas::new(&self.0, key)?))
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let found = batch::get_many(&self.0, keys)?.into_iter();
        Ok(found.map(|pair| pair.map(|(_, value)| value)).collect())
    }

    pub(crate) fn set_many(&self, values: &[(String, Vec<u8>)]) -> Result<(), Error> {
        Ok(batch::set_many(&self.0, values)?)
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        Ok(batch::delete_many(&self.0, keys)?)
    }
}

impl Cas {
    pub(crate) fn current(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.current()?)
    }

    /// Another one, if the value was another one.
    pub(crate) fn swap(self, value: &[u8]) -> Result<Option<Cas>, Error> {
        match atomics::swap(self.0, value) {
            Ok(()) => Ok(None),
            Err(atomics::CasError::CasFailed(again)) => Ok(Some(Cas(again))),
            Err(atomics::CasError::StoreError(error)) => Err(error.into()),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        let message = match error {
            store::Error::NoSuchStore => "there is no such bucket".to_owned(),
            store::Error::AccessDenied => "the bucket is not granted".to_owned(),
            store::Error::Other(message) => message,
        };
        Error { message }
    }
}
