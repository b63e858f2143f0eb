//! Read buffers: each thread has some, and lends one to a client while the client's bytes are
//! decoded. An idle client has none.

use std::cell::RefCell;

/// The size of a read buffer, in bytes. A client keeps its buffer while its event waits, so a
/// larger one would cost memory; a smaller one would cost system calls.
pub(super) const BYTES: usize = 4 << 10;

/// The most buffers that a thread keeps.
const KEPT: usize = 64;

thread_local! {
    static KEPT_HERE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Takes an empty buffer of `BYTES`.
pub(super) fn take() -> Vec<u8> {
    let kept = KEPT_HERE.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| Vec::with_capacity(BYTES))
}

/// Gives back a buffer. A buffer of another size is freed.
pub(super) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() != BYTES {
        return;
    }
    buffer.clear();
    // Where the thread itself is ending, nobody needs it any more.
    let _ = KEPT_HERE.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_some_buffers_of_the_one_size() {
        give_back(Vec::with_capacity(2 * BYTES));
        for buffer in (0..KEPT + 10).map(|_| take()).collect::<Vec<_>>() {
            give_back(buffer);
        }
        KEPT_HERE.with_borrow(|kept| {
            assert_eq!(kept.len(), KEPT);
            assert!(kept.iter().all(|buffer| buffer.capacity() == BYTES));
        });
    }
}
