//! Client ids: one short printable token that names a client in the whole cluster.
//!
//! An id carries its node's incarnation, a counter that never goes back, and random bits, so
//! it is never used twice, not even after a restart; any node finds the owner without asking;
//! and knowing one id does not let anybody guess the next.
//!
//! Written, it is 26 characters of Crockford's base 32
//! (<https://www.crockford.com/base32.html>) in lower case: 63 bits of incarnation, 40 of
//! counter, 25 random. The first 13 are the incarnation's, as logs write it.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const ID_CHARS: usize = 26;
const INCARNATION_CHARS: usize = 13;
const COUNTER_BITS: u32 = 40;
const RANDOM_BITS: u32 = 25;
const INCARNATION_BITS: u32 = 63;

/// One run of a node: drawn at its start, so a restarted node is a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(u64);

impl Incarnation {
    /// A new one, from the system's randomness.
    pub fn draw() -> Result<Incarnation, getrandom::Error> {
        Ok(Incarnation(
            getrandom::u64()? >> (u64::BITS - INCARNATION_BITS),
        ))
    }

    /// As a number, for other nodes.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// From a number that another node has sent; none: no node draws such a one.
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

/// Names one client in the whole cluster.
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
    /// The `counter`th client (below 2^40) of a node, with 25 bits of `random`.
    pub fn new(incarnation: Incarnation, counter: u64, random: u32) -> ClientId {
        debug_assert!(counter < 1 << COUNTER_BITS);
        let random = u128::from(random) & ((1 << RANDOM_BITS) - 1);
        ClientId(
            u128::from(incarnation.0) << (COUNTER_BITS + RANDOM_BITS)
                | u128::from(counter) << RANDOM_BITS
                | random,
        )
    }

    /// The run of the node that holds the client.
    pub fn incarnation(self) -> Incarnation {
        Incarnation((self.0 >> (COUNTER_BITS + RANDOM_BITS)) as u64)
    }

    /// Which client of its node it is: unique there, and growing.
    #[expect(clippy::cast_possible_truncation, reason = "40 bits")]
    pub fn counter(self) -> u64 {
        (self.0 >> RANDOM_BITS) as u64 & ((1 << COUNTER_BITS) - 1)
    }

    /// In 16 bytes, big-endian: what other nodes get.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From what another node has sent.
    pub fn from_bytes(bytes: [u8; 16]) -> ClientId {
        ClientId(u128::from_be_bytes(bytes))
    }

    /// The id as text, without an allocation: events carry it into the guest.
    pub fn text(self) -> ClientIdText {
        ClientIdText(encode(self.0))
    }
}

/// A client id, written out.
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

/// What is not a client id: no node can have given it out.
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

/// Ids are read and written at every event: as many characters at a time as fit a word make
/// that some 20 ns.
const CHUNK_CHARS: usize = 12;

/// Each byte's value as a digit; above 31: none.
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
}
