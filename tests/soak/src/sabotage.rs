//! A fault on purpose, between the sockets and the model: to show that it is found.

use crate::model::{MessageId, Model, SessionId};

/// So many messages come before it.
const BEFORE: u64 = 100;

/// One in so many is lost.
const LOST: MessageId = 10;

/// What is done to one message, or to some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Some do not come.
    Lose,
    /// It comes twice.
    Double,
    /// It comes after the next one of its sender.
    Reorder,
    /// It comes to a client that it is not for.
    Misdeliver,
}

#[derive(Debug)]
pub(crate) struct Saboteur {
    sabotage: Option<Sabotage>,
    held_back: Option<(SessionId, MessageId)>,
}

impl Saboteur {
    pub(crate) fn new(sabotage: Option<Sabotage>) -> Saboteur {
        Saboteur {
            sabotage,
            held_back: None,
        }
    }

    /// What comes in the place of this message.
    pub(crate) fn pass(
        &mut self,
        model: &Model,
        session: SessionId,
        id: MessageId,
    ) -> Vec<(SessionId, MessageId)> {
        let as_it_is = vec![(session, id)];
        if let Some((held_from, held)) = self.held_back {
            if held_from != session || model.sender(held) != model.sender(id) {
                return as_it_is;
            }
            self.held_back = None;
            return vec![(session, id), (session, held)];
        }
        if self.sabotage.is_none() || model.tally.came < BEFORE {
            return as_it_is;
        }
        let instead = match self.sabotage {
            Some(Sabotage::Double) => vec![(session, id); 2],
            Some(Sabotage::Reorder) => {
                if !model.has_later(session, id) {
                    return as_it_is;
                }
                self.held_back = Some((session, id));
                Vec::new()
            }
            Some(Sabotage::Misdeliver) => {
                let Some(other) = model.session_not_owed(id) else {
                    return as_it_is;
                };
                vec![(other, id)]
            }
            // Not a single one: it is forgiven if its client happens to leave before the barrier.
            Some(Sabotage::Lose) if id.is_multiple_of(LOST) => return Vec::new(),
            Some(Sabotage::Lose) | None => return as_it_is,
        };
        self.sabotage = None;
        instead
    }
}
