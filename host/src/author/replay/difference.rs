//! The differences between what came to the clients of a recording twice.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

use super::recording::Recording;
use super::replay_run::{Delivery, Replayed};
use crate::author::shown_message::shown_text;

/// The most places that are shown unless all are asked for.
const SHOWN: usize = 100;

/// How long the shortest difference of one client is looked for. Afterwards, a longer one does.
const PATIENCE: Duration = Duration::from_secs(5);

/// What differs, client by client.
pub(super) struct Comparison<'a> {
    recording: &'a Recording,
    places: Vec<Place<'a>>,
    messages: usize,
}

/// A place where something else came to a client.
struct Place<'a> {
    client: &'a str,
    before: &'a [Delivery],
    after: &'a [Delivery],
}

impl<'a> Comparison<'a> {
    /// Compares what came before with what came after.
    pub(super) fn of(
        recording: &'a Recording,
        before: &'a Replayed,
        after: &'a Replayed,
    ) -> Comparison<'a> {
        let clients: BTreeSet<_> = before.delivered.keys().chain(after.delivered.keys()).collect();
        let mut comparison = Comparison {
            recording,
            places: Vec::new(),
            messages: 0,
        };
        for client in clients {
            let of = |replayed: &'a Replayed| {
                let delivered = replayed.delivered.get(client);
                delivered.map(Vec::as_slice).unwrap_or_default()
            };
            comparison.add(client, of(before), of(after));
        }
        // As it happened, and not by the clients' names.
        comparison.places.sort_by_key(Place::cause);
        comparison
    }

    fn add(&mut self, client: &'a str, before: &'a [Delivery], after: &'a [Delivery]) {
        let texts = |delivered: &'a [Delivery]| -> Vec<&'a str> {
            delivered.iter().map(|delivery| &*delivery.text).collect()
        };
        let (old, new) = (texts(before), texts(after));
        let until = Some(Instant::now() + PATIENCE);
        for part in capture_diff_slices_deadline(Algorithm::Myers, &old, &new, until) {
            self.messages += part.old_range().len().max(part.new_range().len());
            if !matches!(part, DiffOp::Equal { .. }) {
                self.places.push(Place {
                    client,
                    before: &before[part.old_range()],
                    after: &after[part.new_range()],
                });
            }
        }
    }

    /// How many messages differ.
    pub(super) fn differences(&self) -> usize {
        let lines = |place: &Place<'_>| place.before.len().max(place.after.len());
        self.places.iter().map(lines).sum()
    }

    /// How many messages were compared.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// The differences, each below the step that they came of.
    pub(super) fn shown(&self, all: bool) -> String {
        let most = if all { usize::MAX } else { SHOWN };
        let mut shown = String::new();
        let mut last = None;
        for place in self.places.iter().take(most) {
            let cause = place.cause();
            if last != Some(cause) {
                let step = cause.and_then(|cause| self.recording.steps().get(cause));
                let line = step.map(|step| {
                    let at = humantime::format_rfc3339_millis(step.at);
                    format!("@@ {at} {}\n", step.shown())
                });
                shown += &line.unwrap_or_default();
                last = Some(cause);
            }
            for (sign, delivered) in [('-', place.before), ('+', place.after)] {
                for delivery in delivered {
                    let text = shown_text(&delivery.text);
                    // Writing to a text cannot fail.
                    let _ = writeln!(shown, "{sign} {}<{text}", place.client);
                }
            }
        }
        let more = self.places.len().saturating_sub(most);
        if more > 0 {
            let _ = writeln!(shown, "and {more} more places (--all shows them)");
        }
        shown
    }
}

impl Place<'_> {
    /// The step that the difference came of, by its number.
    fn cause(&self) -> Option<usize> {
        let first = self.after.first().or(self.before.first());
        first.and_then(|delivery| delivery.cause)
    }
}
