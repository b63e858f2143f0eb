//! Idempotency keys: a request that was sent once under a key is not sent again, and gets the same
//! answer again. This node alone remembers the answers, for `KEPT` each, and at most `KEYS` of
//! them.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::problem::Problem;

/// The time for which a key is remembered.
const KEPT: Duration = Duration::from_secs(300);

/// The most keys that are remembered. Beyond that, the oldest key is forgotten.
const KEYS: usize = 100_000;

/// The longest idempotency key, in bytes.
const KEY_BYTES: usize = 128;

/// The answer that was given under each idempotency key.
#[derive(Debug)]
pub(super) struct Replay<T> {
    hasher: RandomState,
    keys: usize,
    kept: Mutex<Answers<T>>,
}

#[derive(Debug)]
struct Answers<T> {
    answers: HashMap<ReplayKey, RecordedAnswer<T>>,
    /// The keys and the times of their answers, the oldest first.
    order: VecDeque<(Instant, ReplayKey)>,
}

/// The name of the caller, and the key that the caller has chosen.
type ReplayKey = (String, String);

#[derive(Debug)]
struct RecordedAnswer<T> {
    request: u64,
    answer: T,
}

impl<T> Default for Replay<T> {
    fn default() -> Replay<T> {
        Replay::new(KEYS)
    }
}

impl<T> Replay<T> {
    fn new(keys: usize) -> Replay<T> {
        Replay {
            hasher: RandomState::new(),
            keys,
            kept: Mutex::new(Answers {
                answers: HashMap::new(),
                order: VecDeque::new(),
            }),
        }
    }
}

impl<T: Clone> Replay<T> {
    /// Runs `work`, unless this caller has already done it under this key. A failed request may be
    /// tried again.
    pub(super) fn once(
        &self,
        caller: &str,
        key: &str,
        request: &[u8],
        work: impl FnOnce() -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        if key.len() > KEY_BYTES {
            let bytes = key.len();
            return Err(Problem::invalid(format!(
                "the idempotency key has {bytes} bytes, more than {KEY_BYTES}"
            )));
        }
        let request = self.hasher.hash_one(request);
        let key = (caller.to_owned(), key.to_owned());
        // Held while it is done: the same key at the same time waits here. Other keys of the same
        // function do, too, for as long as a send takes: half a microsecond a client.
        let mut kept = self.kept.lock();
        kept.forget_before(Instant::now().checked_sub(KEPT));
        if let Some(answered) = kept.answers.get(&key) {
            return match answered.request == request {
                true => Ok(answered.answer.clone()),
                false => Err(Problem::invalid(format!(
                    "the idempotency key {:?} was used for another request",
                    key.1
                ))),
            };
        }
        let answer = work()?;
        if kept.order.len() >= self.keys {
            kept.forget_oldest();
        }
        kept.order.push_back((Instant::now(), key.clone()));
        let answered = RecordedAnswer {
            request,
            answer: answer.clone(),
        };
        kept.answers.insert(key, answered);
        Ok(answer)
    }
}

impl<T> Answers<T> {
    fn forget_before(&mut self, before: Option<Instant>) {
        let is_old = |(at, _): &(Instant, ReplayKey)| before.is_some_and(|before| *at < before);
        while self.order.front().is_some_and(is_old) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.answers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_it_once_for_each_caller_and_the_oldest_is_forgotten() {
        let replay = Replay::new(2);
        let mut done = 0;
        let mut ask = |caller: &str, key: &str, request: &str| {
            replay.once(caller, key, request.as_bytes(), || {
                done += 1;
                Ok(done)
            })
        };
        assert_eq!(ask("ada", "1", "hi"), Ok(1));
        assert_eq!(ask("ada", "1", "hi"), Ok(1));
        assert!(ask("ada", "1", "ho").is_err(), "another request");
        assert_eq!(ask("bob", "1", "hi"), Ok(2));
        assert_eq!(ask("ada", "2", "hi"), Ok(3));
        assert_eq!(ask("ada", "1", "ho"), Ok(4), "forgotten");
        assert!(ask("ada", &"k".repeat(129), "hi").is_err());
    }

    #[test]
    fn what_failed_may_be_tried_again_and_keys_grow_old() {
        let replay = Replay::new(2);
        let failed = replay.once("ada", "1", b"", || Err::<u8, _>(Problem::invalid("no")));
        assert!(failed.is_err());
        assert_eq!(replay.once("ada", "1", b"", || Ok(1)), Ok(1));
        let later = Instant::now() + KEPT;
        replay
            .kept
            .lock()
            .forget_before(later.checked_sub(Duration::ZERO));
        assert_eq!(replay.once("ada", "1", b"", || Ok(2)), Ok(2));
        assert_eq!(replay.kept.lock().order.len(), 1);
    }
}
