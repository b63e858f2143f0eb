//! Client ids: short printable texts, each of which names one client in the whole cluster.
//!
//! An id contains its node's incarnation, a counter that never goes back, and random bits. For this
//! reason an id is never used twice, not even after a restart. Any node can find the owner of an id
//! without asking, and nobody can guess the next id from a known one.
//!
//! As text, an id has 26 characters of Crockford's base 32
//! (<https://www.crockford.com/base32.html>) in lower case: 63 bits of incarnation, 40 bits of
//! counter, and 25 random bits. The first 13 characters are the incarnation, as logs write it.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const ID_CHARS: usize = 26;
const INCARNATION_CHARS: usize = 13;
const COUNTER_BITS: u32 = 40;
const RANDOM_BITS: u32 = 25;
const INCARNATION_BITS: u32 = 63;

/// One run of a node. The number is drawn when the node starts, so a restarted node has a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(u64);

impl Incarnation {
    /// Draws a new incarnation from the system's randomness.
    ///
    /// # Errors
    ///
    /// Returns an error when the system cannot provide random bytes.
    pub fn draw() -> Result<Incarnation, getrandom::Error> {
        Ok(Incarnation(
            getrandom::u64()? >> (u64::BITS - INCARNATION_BITS),
        ))
    }

    /// The incarnation as a number, for other nodes.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// The incarnation from a number that another node has sent. `None` means that no node draws
    /// such a number.
    pub fn from_u64(number: u64) -> Option<Incarnation> {
        (number < 1 << INCARNATION_BITS).then_some(Incarnation(number))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(as_str(&encode::<INCARNATION_CHARS>(u128::from(self.0))))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id of one client in the whole cluster.
///
/// ```
/// use jackfield::id::{ClientId, Incarnation};
///
/// let id = ClientId::new(Incarnation::draw()?, 1, 0x5eed);
/// assert_eq!(id.to_string().parse::<ClientId>()?, id);
/// assert!("nobody".parse::<ClientId>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u128);

impl ClientId {
    /// Creates the id of the node's client number `counter` (below 2^40), with 25 bits of `random`.
    pub fn new(incarnation: Incarnation, counter: u64, random: u32) -> ClientId {
        debug_assert!(counter < 1 << COUNTER_BITS);
        let random = u128::from(random) & ((1 << RANDOM_BITS) - 1);
        ClientId(
            u128::from(incarnation.0) << (COUNTER_BITS + RANDOM_BITS)
                | u128::from(counter) << RANDOM_BITS
                | random,
        )
    }

    /// The incarnation of the node that holds the client.
    pub fn incarnation(self) -> Incarnation {
        Incarnation((self.0 >> (COUNTER_BITS + RANDOM_BITS)) as u64)
    }

    /// The number of the client on its node. The numbers of a node are unique and only grow.
    #[expect(clippy::cast_possible_truncation, reason = "40 bits")]
    pub fn counter(self) -> u64 {
        (self.0 >> RANDOM_BITS) as u64 & ((1 << COUNTER_BITS) - 1)
    }

    /// The id in 16 bytes, big-endian, as other nodes receive it.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id from the bytes that another node has sent.
    pub fn from_bytes(bytes: [u8; 16]) -> ClientId {
        ClientId(u128::from_be_bytes(bytes))
    }

    /// The id as text, without an allocation, since every event passes it to the guest.
    pub fn text(self) -> ClientIdText {
        ClientIdText(encode(self.0))
    }
}

/// A client id in its text form.
#[derive(Clone, Copy)]
pub struct ClientIdText([u8; ID_CHARS]);

impl fmt::Debug for ClientIdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl std::ops::Deref for ClientIdText {
    type Target = str;

    fn deref(&self) -> &str {
        as_str(&self.0)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error for a text that is not a client id, since no node can have made it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a client id: expected 26 characters of 0-9 and a-z as a node gave them out")]
pub struct MalformedId;

impl FromStr for ClientId {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<ClientId, MalformedId> {
        let text: &[u8; ID_CHARS] = text.as_bytes().try_into().map_err(|_| MalformedId)?;
        // 26 characters hold 130 bits; the first one carries three.
        if text[0] > b'7' {
            return Err(MalformedId);
        }
        let mut value = 0;
        for chunk in text.rchunks(CHUNK_CHARS).rev() {
            let digits = decode(chunk).ok_or(MalformedId)?;
            value = value << (5 * chunk.len()) | u128::from(digits);
        }
        Ok(ClientId(value))
    }
}

/// The number of characters that are read or written at once, as many as fit into a word. Every
/// event reads and writes ids, and this way takes about 20 ns.
const CHUNK_CHARS: usize = 12;

/// The value of each byte as a digit. A value above 31 means that the byte is not a digit.
const DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut value: u8 = 0;
    while value < 32 {
        digits[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

fn decode(chunk: &[u8]) -> Option<u64> {
    let mut value = 0;
    let mut wrong = 0;
    for byte in chunk {
        let digit = DIGITS[usize::from(*byte)];
        wrong |= digit & !31;
        value = value << 5 | u64::from(digit & 31);
    }
    (wrong == 0).then_some(value)
}

fn encode<const CHARS: usize>(mut value: u128) -> [u8; CHARS] {
    let mut text = [0; CHARS];
    for chunk in text.rchunks_mut(CHUNK_CHARS) {
        #[expect(clippy::cast_possible_truncation, reason = "the lower 60 of 128 bits")]
        let mut digits = value as u64;
        value >>= 5 * chunk.len();
        for place in chunk.iter_mut().rev() {
            *place = ALPHABET[(digits & 31) as usize];
            digits >>= 5;
        }
    }
    text
}

fn as_str(text: &[u8]) -> &str {
    // The alphabet is ASCII; a client id is formatted at every event, and checking 26 bytes
    // costs a nanosecond.
    std::str::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;

    #[test]
    fn an_id_keeps_its_parts_through_text() {
        for (incarnation, counter, random) in [
            (0, 0, 0),
            (u64::MAX >> 1, (1 << 40) - 1, (1 << 25) - 1),
            (0x0123_4567_89ab_cdef, 42, 7),
        ] {
            let id = ClientId::new(Incarnation(incarnation), counter, random);
            assert_eq!(id.to_string().len(), ID_CHARS);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.incarnation(), Incarnation(incarnation));
            assert!(id.to_string().starts_with(&id.incarnation().to_string()));
            assert_eq!(id.counter(), counter);
        }
    }

    #[test]
    fn what_no_node_gave_out_is_malformed() {
        for text in [
            "",
            "0",
            "0000000000000000000000000",
            "000000000000000000000000000",
            "0000000000000000000000000A",
            "0000000000000000000000000u",
            "80000000000000000000000000",
            "00000000000000000000000é0",
        ] {
            assert_eq!(text.parse::<ClientId>(), Err(MalformedId), "{text}");
        }
    }

    #[test]
    fn a_text_is_an_id_in_one_way_or_in_none() {
        fuzz("client-ids", 20_000, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let in_alphabet = |byte: u8| ALPHABET.contains(&byte);
            let is_id = text.len() == ID_CHARS
                && text.bytes().all(in_alphabet)
                && text.as_bytes()[0] <= b'7';
            match text.parse::<ClientId>() {
                Ok(id) => {
                    assert!(is_id);
                    assert_eq!(id.to_string(), text);
                    assert_eq!(ClientId::from_bytes(id.to_bytes()), id);
                }
                Err(MalformedId) => assert!(!is_id),
            }
        });
    }
}
