//! State on a Redis or Valkey server, which all its nodes share.
//!
//! The bucket of a plugin is one hash, `jackfield:PLUGIN:BUCKET`. One connection carries all calls
//! (`connection`), and leads to the server that accepts changes (`dial`).

mod connection;
mod dial;
mod fault;

use std::sync::Arc;

use redis::{Cmd, RedisError};

use self::connection::RedisConnection;
use self::fault::{NO_INTEGER, OVERFLOW, explain};
use super::bucket_id::BucketId;
use super::change::{Change, ChangeOutcome};
use super::change::{not_a_number, too_large};
use super::failure::StoreFailure;
use super::health::Health;
use crate::config::KeyvalueConfig;
use crate::limits::KEYVALUE_KEYS_A_PAGE;

/// The script that lists a page of keys. The values stay on the server.
const KEYS: &str = "local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]) \
                    local keys = {} \
                    for i = 1, #page[2], 2 do keys[#keys + 1] = page[2][i] end \
                    return {page[1], keys}";

const SWAP: &str = "local now = redis.call('HGET', KEYS[1], ARGV[1]) \
                    local expected = ARGV[2] == '1' and ARGV[3] \
                    if now ~= expected then return {0, now} end \
                    redis.call('HSET', KEYS[1], ARGV[1], ARGV[4]) \
                    return {1}";

pub(super) struct Redis(RedisConnection);

impl Redis {
    pub(super) async fn open(
        config: &KeyvalueConfig,
        health: Arc<Health>,
    ) -> anyhow::Result<Redis> {
        Ok(Redis(RedisConnection::open(config, health).await?))
    }

    pub(super) async fn get(
        &self,
        bucket_id: &BucketId,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreFailure> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = on(bucket_id, "HMGET");
        command.arg(keys);
        self.0.ask(&command).await.map_err(failed)
    }

    pub(super) async fn exists(
        &self,
        bucket_id: &BucketId,
        key: &str,
    ) -> Result<bool, StoreFailure> {
        let mut command = on(bucket_id, "HEXISTS");
        self.0.ask(command.arg(key)).await.map_err(failed)
    }

    pub(super) async fn keys(
        &self,
        bucket_id: &BucketId,
        cursor: Option<&str>,
    ) -> Result<(Vec<String>, Option<String>), StoreFailure> {
        let cursor: u64 = match cursor {
            None => 0,
            Some(cursor) => cursor.parse().map_err(|_| {
                StoreFailure::Refused(format!("{cursor:?} is no cursor that list-keys gave"))
            })?,
        };
        let mut script = script(KEYS, bucket_id);
        script.arg(cursor).arg(KEYVALUE_KEYS_A_PAGE);
        let (next, keys): (String, Vec<String>) = self.0.ask(&script).await.map_err(failed)?;
        Ok((keys, (next != "0").then_some(next)))
    }

    pub(super) async fn change(
        &self,
        bucket_id: &BucketId,
        change: Change,
    ) -> Result<ChangeOutcome, StoreFailure> {
        match change {
            Change::Set(values) if values.is_empty() => Ok(ChangeOutcome::Done),
            Change::Set(values) => {
                let mut command = on(bucket_id, "HSET");
                for (key, value) in values {
                    command.arg(key).arg(value);
                }
                self.0.ask::<()>(&command).await.map_err(failed)?;
                Ok(ChangeOutcome::Done)
            }
            Change::Delete(keys) if keys.is_empty() => Ok(ChangeOutcome::Done),
            Change::Delete(keys) => {
                let mut command = on(bucket_id, "HDEL");
                command.arg(keys);
                self.0.ask::<()>(&command).await.map_err(failed)?;
                Ok(ChangeOutcome::Done)
            }
            Change::Increment(key, delta) => {
                let mut command = on(bucket_id, "HINCRBY");
                let asked = self.0.ask(command.arg(&key).arg(delta)).await;
                let number = asked.map_err(|error| match error.detail().unwrap_or_default() {
                    said if said.contains(OVERFLOW) => too_large(&key),
                    said if said.contains(NO_INTEGER) => not_a_number(&key),
                    _ => failed(error),
                });
                Ok(ChangeOutcome::Number(number?))
            }
            Change::Swap {
                key,
                expected,
                value,
            } => {
                let mut script = script(SWAP, bucket_id);
                let (is_there, expected) = (expected.is_some(), expected.unwrap_or_default());
                script.arg(key).arg(i32::from(is_there));
                script.arg(expected).arg(value);
                let (done, now) = match self.0.ask(&script).await.map_err(failed)? {
                    redis::Value::Array(said) => {
                        let mut said = said.into_iter();
                        (said.next(), said.next())
                    }
                    _ => (None, None),
                };
                match (done, now) {
                    (Some(redis::Value::Int(1)), _) => Ok(ChangeOutcome::Done),
                    (Some(redis::Value::Int(0)), now) => Ok(ChangeOutcome::Differs(match now {
                        Some(redis::Value::BulkString(now)) => Some(now),
                        _ => None,
                    })),
                    _ => Err(StoreFailure::Failed(
                        "the server's answer makes no sense".to_owned(),
                    )),
                }
            }
        }
    }

    /// Reports that a call was not answered in time, so that the server is checked now.
    pub(super) fn was_too_slow(&self) {
        self.0.was_too_slow();
    }
}

fn hash(bucket_id: &BucketId) -> String {
    format!("jackfield:{}:{}", bucket_id.plugin, bucket_id.bucket)
}

fn on(bucket_id: &BucketId, command: &str) -> Cmd {
    let mut command = redis::cmd(command);
    command.arg(hash(bucket_id));
    command
}

fn script(script: &str, bucket_id: &BucketId) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(1).arg(hash(bucket_id));
    command
}

fn failed(error: RedisError) -> StoreFailure {
    StoreFailure::Failed(explain(&error))
}
