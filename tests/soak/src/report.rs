//! What a run has shown, as a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::fault::Fault;
use crate::latency::Latencies;
use crate::memory::Memory;
use crate::model::{Reason, Tally};

/// The result of a run in which nothing was wrong.
#[derive(Debug)]
pub struct Report {
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) ran: Duration,
    pub(crate) operations: BTreeMap<&'static str, u64>,
    pub(crate) faults: BTreeMap<Fault, u64>,
    pub(crate) tally: Tally,
    pub(crate) refusals: u64,
    pub(crate) latencies: Latencies,
    pub(crate) longest_drain: Duration,
    pub(crate) memory: Memory,
    pub(crate) left: Vec<Left>,
}

/// What a node still has when all clients have left.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) files_before: usize,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

impl Report {
    /// How often each kind of fault was inflicted.
    pub fn faults(&self) -> &BTreeMap<Fault, u64> {
        &self.faults
    }

    /// Messages that have come to a client.
    pub fn came(&self) -> u64 {
        self.tally.came
    }
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Reason::Membership => "its membership changed while it was under way",
            Reason::Untold => "the sender's node was not told of it yet",
            Reason::ClientLeft => "it left, was closed or was cut off",
            Reason::NodeKilled => "a node was killed",
            Reason::LinkCut => "a link was cut beyond `gone_after`",
            Reason::Unanswered => "the sender left before the answer",
            Reason::Refused => "the send was answered with an error",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = Rows(f);
        rows.head(&format!(
            "{:.1} minutes, {} clients, {} nodes, seed {}",
            self.ran.as_secs_f64() / 60.0,
            thousands(self.clients),
            self.left.len(),
            self.seed
        ))?;
        for (operation, count) in &self.operations {
            rows.row(operation, thousands(*count))?;
        }
        for (fault, count) in &self.faults {
            rows.row(fault.name(), thousands(*count))?;
        }
        rows.row("the longest drain", format!("{:.1?}", self.longest_drain))?;
        rows.row("barriers", thousands(self.tally.barriers))?;
        rows.row("messages sent", thousands(self.tally.sent))?;
        rows.row("deliveries checked", thousands(self.tally.came))?;
        rows.row(
            "deliveries that had to come",
            thousands(self.tally.had_to_come),
        )?;
        rows.row("lost, doubled, out of order, to others", thousands(0_u64))?;
        for (reason, count) in &self.tally.allowed {
            let name = format!("need not come, and did not: {}", reason.name());
            rows.row(&name, thousands(*count))?;
        }
        rows.row(
            "answered with an error, near a fault",
            thousands(self.refusals),
        )?;
        for (name, of_thousand) in [("median", 500), ("99 %", 990), ("99.9 %", 999)] {
            let time = self.latencies.share(of_thousand);
            rows.row(&format!("a delivery, {name}"), millis(time))?;
        }
        rows.row("a delivery, the slowest", millis(self.latencies.longest()))?;
        for (node, (life, left)) in self.memory.lives().iter().zip(&self.left).enumerate() {
            if let Some([first, last, most]) = life.megabytes() {
                let name = format!("memory of node {node}: first, last, most");
                rows.row(&name, format!("{first:.0}, {last:.0}, {most:.0} MB"))?;
            }
            if let Some(growth) = life.growth() {
                let name = format!("memory of node {node}: growth after the warm-up");
                rows.row(&name, format!("{growth:+.2} MB a minute"))?;
            }
            let name = format!("memory of node {node} without clients, at the end");
            rows.row(&name, format!("{} MB", left.bytes / 1_000_000))?;
            let name = format!("open files of node {node} without clients: first, last");
            rows.row(&name, format!("{}, {}", left.files_before, left.files))?;
        }
        Ok(())
    }
}

struct Rows<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Rows<'_, '_> {
    fn head(&mut self, title: &str) -> fmt::Result {
        writeln!(self.0, "| {title} | |\n|---|---:|")
    }

    fn row(&mut self, name: &str, value: impl fmt::Display) -> fmt::Result {
        writeln!(self.0, "| {name} | {value} |")
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// A number with commas.
fn thousands(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1234567, "1,234,567"),
        ] {
            assert_eq!(thousands(number as u64), text);
        }
    }
}
