//! Lists in parts.

use std::collections::BTreeSet;

use super::checks::invalid;
use crate::{Error, Page};

/// The most items of a page.
const PAGE_ITEMS: u32 = 1_000;

/// Where the walks of lists stand; a cursor is a place in here.
#[derive(Default)]
pub(super) struct Pages {
    cursors: Vec<(List, String)>,
}

/// What a page is a part of.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum List {
    AllUids,
    AllGroups,
    ClientsOfUid(String),
    ClientsOfGroup(String),
    UidsOfGroup(String),
}

impl Pages {
    pub(super) fn part(
        &mut self,
        list: List,
        items: BTreeSet<String>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<String>, Error> {
        if !(1..=PAGE_ITEMS).contains(&limit) {
            return Err(invalid(format!("limit: {limit} is not 1 to {PAGE_ITEMS}")));
        }
        let last = cursor.map(|cursor| self.place(&list, cursor)).transpose()?;
        let mut rest = items
            .into_iter()
            .filter(|item| Some(item) > last.as_ref())
            .peekable();
        let items: Vec<_> = rest.by_ref().take(limit as usize).collect();
        let next = match (rest.peek(), items.last()) {
            (Some(_), Some(last)) => {
                self.cursors.push((list, last.clone()));
                Some(format!("cursor-{}", self.cursors.len()))
            }
            _ => None,
        };
        Ok(Page {
            items,
            next,
            missing: Vec::new(),
        })
    }

    /// The item after which a walk of this list goes on.
    fn place(&self, list: &List, cursor: &str) -> Result<String, Error> {
        cursor
            .strip_prefix("cursor-")
            .and_then(|number| {
                self.cursors
                    .get(number.parse::<usize>().ok()?.checked_sub(1)?)
            })
            .filter(|(of, _)| of == list)
            .map(|(_, last)| last.clone())
            .ok_or_else(|| invalid(format!("cursor: no page of this list gave out `{cursor}`")))
    }
}
