//! Fuzzing in unit tests: the inputs of a corpus, and what becomes of them by random changes.
//!
//! A corpus is a folder below `tests/corpus`, with one input in each file. Each input is tried as it
//! is. Then come as many changed ones as the test says, or as `JACKFIELD_FUZZ_CASES` says, if these are
//! more. They are the same in each run. A failure shows its input, which then belongs into a file of
//! the corpus.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fastrand::Rng;

/// The variable that says how many changed inputs each test tries at least.
const CASES: &str = "JACKFIELD_FUZZ_CASES";

/// The most changes of one input.
const CHANGES: usize = 4;

/// The longest input, in bytes.
const INPUT_BYTES: usize = 64 << 10;

/// Bytes that have a meaning to some parser: separators, quotes, lengths and their limits.
const BYTES: &[u8] = b"\0\x01\x7f\x80\x81\xfe\xff\t\r\n \"'\\,;:=.-+%/*[]{}()#09azAZ";

/// The inputs of a corpus, in the order of their files' names.
pub(crate) fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    let inputs = files.iter().map(|file| std::fs::read(file).expect("bytes"));
    let inputs: Vec<_> = inputs.collect();
    assert!(!inputs.is_empty(), "{folder:?} has no inputs");
    inputs
}

/// Calls `check` with each input of a corpus, and with `cases` changed ones. `check` panics if it
/// does not like what becomes of an input.
pub(crate) fn fuzz(name: &str, cases: u64, mut check: impl FnMut(&[u8])) {
    let corpus = corpus(name);
    let inputs = corpus.iter().cloned().chain(changed(&corpus, cases));
    for (number, input) in inputs.enumerate() {
        let checked = catch_unwind(AssertUnwindSafe(|| check(&input)));
        if let Err(panic) = checked {
            let (input, why) = (input.escape_ascii(), message(&*panic));
            panic!("input {number} of {name}, b\"{input}\": {why}");
        }
    }
}

/// The changed inputs of a corpus: `cases`, or as many as the environment says, if these are more.
pub(crate) fn changed(corpus: &[Vec<u8>], cases: u64) -> impl Iterator<Item = Vec<u8>> {
    let more = std::env::var(CASES).map_or(0_u64, |cases| {
        let number = cases.parse();
        number.unwrap_or_else(|_| panic!("{CASES} is {cases:?}, and no number"))
    });
    (0..cases.max(more)).map(|case| {
        let mut random = Rng::with_seed(case);
        let mut input = corpus[random.usize(..corpus.len())].clone();
        for _ in 0..random.usize(1..=CHANGES) {
            let other = &corpus[random.usize(..corpus.len())];
            change(&mut input, other, &mut random);
        }
        input.truncate(INPUT_BYTES);
        input
    })
}

/// Changes an input at one place. `other` is another input, of which a part may be taken.
fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    let at = random.usize(..=input.len());
    let part = {
        let from = random.usize(..=other.len());
        // Short parts for the most part, since they keep the rest in its shape.
        let most = [4, 16, other.len()][random.usize(..3)];
        &other[from..other.len().min(from + random.usize(..=most))]
    };
    let end = input.len().min(at + part.len());
    match random.u8(..10) {
        0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
        1 if at < input.len() => input[at] = BYTES[random.usize(..BYTES.len())],
        2 => input.insert(at, BYTES[random.usize(..BYTES.len())]),
        3 => input.truncate(at),
        4 => drop(input.drain(at..end)),
        5 => drop(input.splice(at..at, part.iter().copied())),
        6 => drop(input.splice(at..end, part.iter().copied())),
        // The beginning of one and the end of another.
        7 => {
            input.truncate(at);
            input.extend_from_slice(&other[at.min(other.len())..]);
        }
        8 => {
            let again = input[at..end].to_vec();
            let times = random.usize(1..8);
            let again = again.iter().copied().cycle().take(again.len() * times);
            let again: Vec<u8> = again.collect();
            drop(input.splice(at..at, again));
        }
        _ => change_number(input, at, random),
    }
}

/// Replaces the first number after `at`.
fn change_number(input: &mut Vec<u8>, at: usize, random: &mut Rng) {
    let is_digit = u8::is_ascii_digit;
    let Some(from) = input[at..].iter().position(is_digit).map(|from| at + from) else {
        return;
    };
    let digits = input[from..]
        .iter()
        .take_while(|byte| is_digit(byte))
        .count();
    let numbers = [
        "0",
        "-1",
        "00",
        "255",
        "65536",
        "4294967296",
        "9223372036854775808",
        "18446744073709551616",
        "1e400",
        "0.1",
    ];
    let number = numbers[random.usize(..numbers.len())];
    drop(input.splice(from..from + digits, number.bytes()));
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let string = || panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(string).unwrap_or("a panic without a text")
}

#[test]
fn changes_are_many_and_the_same_in_each_run() {
    let corpus = [b"hello 17".to_vec(), b"{\"a\": [1, 2]}".to_vec()];
    let some = || changed(&corpus, 1_000).take(1_000).collect::<Vec<_>>();
    let (inputs, again) = (some(), some());
    assert_eq!(inputs, again);
    let different: std::collections::BTreeSet<_> = inputs.iter().collect();
    assert!(different.len() > 600, "{}", different.len());
}

#[test]
fn a_failure_shows_its_input() {
    let failed = catch_unwind(|| fuzz("client-ids", 0, |_| panic!("no")));
    let failed = failed.expect_err("a panic");
    let said = message(&*failed);
    assert!(said.starts_with("input 0 of client-ids, b\""), "{said}");
    assert!(said.ends_with("\": no"), "{said}");
}
