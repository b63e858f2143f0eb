//! The differences between what came to the clients of a recording twice.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

use super::deliveries::{ClientDelivery, Deliveries};
use super::recording::Recording;
use crate::author::shown_message::shown_text;

/// The most differences that are shown unless all are asked for.
const SHOWN: usize = 100;

/// How long the shortest difference of one client is looked for. Afterwards, a longer one does.
const PATIENCE: Duration = Duration::from_secs(5);

/// What differs, client by client.
pub(super) struct ReplayComparison<'a> {
    recording: &'a Recording,
    found: Vec<Difference<'a>>,
    messages: usize,
}

/// A difference: something else came to a client, or something more, or less.
struct Difference<'a> {
    client: &'a str,
    before: Option<&'a ClientDelivery>,
    after: Option<&'a ClientDelivery>,
}

impl<'a> ReplayComparison<'a> {
    /// Compares what came before with what came after.
    pub(super) fn of(
        recording: &'a Recording,
        before: &'a Deliveries,
        after: &'a Deliveries,
    ) -> ReplayComparison<'a> {
        let clients: BTreeSet<_> = before
            .of_clients
            .keys()
            .chain(after.of_clients.keys())
            .collect();
        let mut comparison = ReplayComparison {
            recording,
            found: Vec::new(),
            messages: 0,
        };
        for client in clients {
            let of = |deliveries: &'a Deliveries| {
                let delivered = deliveries.of_clients.get(client);
                delivered.map(Vec::as_slice).unwrap_or_default()
            };
            comparison.add(client, of(before), of(after));
        }
        // As it happened, and not by the clients' names.
        comparison.found.sort_by_key(Difference::cause);
        comparison
    }

    fn add(&mut self, client: &'a str, before: &'a [ClientDelivery], after: &'a [ClientDelivery]) {
        let texts = |delivered: &'a [ClientDelivery]| -> Vec<&'a str> {
            delivered.iter().map(|delivery| &*delivery.text).collect()
        };
        let (old, new) = (texts(before), texts(after));
        let until = Some(Instant::now() + PATIENCE);
        for part in capture_diff_slices_deadline(Algorithm::Myers, &old, &new, until) {
            let (mut before, mut after) = (&before[part.old_range()], &after[part.new_range()]);
            self.messages += before.len().max(after.len());
            if matches!(part, DiffOp::Equal { .. }) {
                continue;
            }
            // One beside the other, since both came of the same step most of the time.
            while !(before.is_empty() && after.is_empty()) {
                self.found.push(Difference {
                    client,
                    before: before.split_off_first(),
                    after: after.split_off_first(),
                });
            }
        }
    }

    /// How many messages differ.
    pub(super) fn differences(&self) -> usize {
        self.found.len()
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
        for difference in self.found.iter().take(most) {
            let cause = difference.cause();
            if last != Some(cause) {
                let step = cause.and_then(|cause| self.recording.steps().get(cause));
                let line = step.map(|step| {
                    let at = humantime::format_rfc3339_millis(step.at);
                    format!("@@ {at} {}\n", step.shown())
                });
                shown += &line.unwrap_or_default();
                last = Some(cause);
            }
            for (sign, delivered) in [('-', difference.before), ('+', difference.after)] {
                if let Some(delivery) = delivered {
                    let text = shown_text(&delivery.text);
                    // Writing to a text cannot fail.
                    let _ = writeln!(shown, "{sign} {}<{text}", difference.client);
                }
            }
        }
        let more = self.found.len().saturating_sub(most);
        if more > 0 {
            let _ = writeln!(shown, "and {more} more (--all shows them)");
        }
        shown
    }
}

impl Difference<'_> {
    /// The step that the difference came of, by its number.
    fn cause(&self) -> Option<usize> {
        self.after.or(self.before)?.cause
    }
}
