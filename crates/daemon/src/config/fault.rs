//! The faults of a configuration, and their places.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use vmlan_api::{Error, ErrorCode};

/// Faults that are told in full; a text can hold more than anybody wants to read.
const MOST_FAULTS: usize = 50;

/// A fault and its place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) error: Error,
    pub(super) span: Option<Range<usize>>,
}

/// The faults found so far, and the place of every member read.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<Fault>,
    /// Members, by dotted path, whose shape is wrong or that hold one whose shape is wrong.
    broken: BTreeSet<String>,
    places: BTreeMap<String, Range<usize>>,
}

impl Faults {
    /// Remembers where the member at `path` stands.
    pub(super) fn place(&mut self, path: &str, span: Option<Range<usize>>) {
        if let Some(span) = span {
            self.places.insert(path.to_owned(), span);
        }
    }

    /// A fault in the shape of the table at `table`: what else is missing from that table is a consequence.
    pub(super) fn shape(&mut self, table: &str, error: Error, span: Option<Range<usize>>) {
        self.broken.insert(table.to_owned());
        self.push(Fault { error, span });
    }

    /// Something in the table at `table` could not be read.
    pub(super) fn mark_broken(&mut self, table: &str) {
        self.broken.insert(table.to_owned());
    }

    /// A fault in what the shape says, at the place where its member was read; consequences of a wrong shape
    /// are left out.
    pub(super) fn meaning(&mut self, error: Error) {
        let field = error.field.as_deref().unwrap_or_default();
        let consequence = matches!(error.code, ErrorCode::NoAttachment | ErrorCode::MissingKey);
        if consequence && self.broken.contains(field) {
            return;
        }
        let span = self.nearest_place(field);
        self.push(Fault { error, span });
    }

    /// True if no fault was found so far.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The faults in the order of the text.
    pub(super) fn into_sorted(mut self) -> Vec<Fault> {
        self.list.sort_by_key(|fault| fault.span.as_ref().map_or(0, |span| span.start));
        self.list
    }

    fn push(&mut self, fault: Fault) {
        if self.list.len() < MOST_FAULTS && !self.list.contains(&fault) {
            self.list.push(fault);
        }
    }

    /// The place of `path`, else of what holds it.
    fn nearest_place(&self, mut path: &str) -> Option<Range<usize>> {
        loop {
            if let Some(span) = self.places.get(path) {
                return Some(span.clone());
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}
