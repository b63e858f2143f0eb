//! Does with a bucket what a message says, `BUCKET COMMAND …`, and answers what came of it.

use jackfield_sdk::keyvalue::{self, Bucket, Error};
use jackfield_sdk::{ClientId, Message, Plugin, send_to_client};

struct Keeper;

impl Plugin for Keeper {
    fn on_message(client: ClientId, message: Message) {
        let words: Vec<_> = message.as_text().unwrap_or_default().split(' ').collect();
        let done = match words.split_first() {
            Some((name, words)) => keyvalue::open(name).and_then(|bucket| obey(&bucket, words)),
            None => Ok("nothing".to_owned()),
        };
        let answer = done.unwrap_or_else(|error| format!("error: {error}"));
        let _ = send_to_client(&client, answer);
    }
}

jackfield_sdk::export!(Keeper);

fn obey(bucket: &Bucket, words: &[&str]) -> Result<String, Error> {
    Ok(match words {
        ["get", key] => match bucket.get(key)? {
            Some(value) => text(value),
            None => "none".to_owned(),
        },
        ["set", key, value] => done(bucket.set(key, value)?),
        // So many bytes, which a message need not carry.
        ["fill", key, bytes] => done(bucket.set(key, "x".repeat(number(bytes)))?),
        ["set-long-key", bytes] => done(bucket.set(&"k".repeat(number(bytes)), "")?),
        ["delete", key] => done(bucket.delete(key)?),
        ["exists", key] => bucket.exists(key)?.to_string(),
        ["keys"] => bucket.keys()?.into_iter().collect::<Vec<_>>().join(" "),
        ["page"] => page(bucket, None)?,
        ["page", cursor] => page(bucket, Some(cursor))?,
        ["increment", key, delta] => {
            let delta = delta.parse().unwrap_or_default();
            bucket.increment(key, delta)?.to_string()
        }
        ["append", key, more] => text(bucket.update(key, |value| {
            [value.unwrap_or_default(), more.as_bytes().to_vec()].concat()
        })?),
        // So many values seen and not swapped, each within the one before.
        ["nest", key, depth] => {
            let mut error = None;
            nest(bucket, key, number(depth), &mut error);
            error.unwrap_or_else(|| "done".to_owned())
        }
        ["set-many", count] => {
            let names: Vec<_> = names(number(count)).map(|name| (name, "v")).collect();
            done(bucket.set_many(&names)?)
        }
        ["get-many", count] => {
            let names: Vec<_> = names(number(count)).collect();
            let found = bucket.get_many(&names)?;
            found.into_iter().flatten().count().to_string()
        }
        ["delete-many", count] => {
            let names: Vec<_> = names(number(count)).collect();
            done(bucket.delete_many(&names)?)
        }
        other => format!("no command {other:?}"),
    })
}

fn nest(bucket: &Bucket, key: &str, depth: usize, error: &mut Option<String>) {
    if depth == 0 {
        return;
    }
    let updated = bucket.update(key, |value| {
        nest(bucket, key, depth - 1, error);
        value.unwrap_or_default()
    });
    if let Err(failed) = updated {
        *error = Some(format!("error: {failed}"));
    }
}

fn page(bucket: &Bucket, cursor: Option<&str>) -> Result<String, Error> {
    let page = bucket.page(cursor)?;
    let cursor = page.cursor.unwrap_or_else(|| "end".to_owned());
    Ok(format!("{} {cursor}", page.keys.len()))
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("{number:05}"))
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_default()
}

fn text(value: Vec<u8>) -> String {
    String::from_utf8_lossy(&value).into_owned()
}

fn done((): ()) -> String {
    "done".to_owned()
}
