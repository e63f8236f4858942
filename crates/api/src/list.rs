//! A value that may be written as one item or as a list.

use serde::{Deserialize, Serialize};

/// One item, or a list of them: `"a"` and `["a", "b"]` are both legal; one item is written without brackets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// A single item.
    One(T),
    /// Any number of items.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The items in the order given.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(item) => std::slice::from_ref(item),
            Self::Many(items) => items,
        }
    }

    /// The items in the order given, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::One(item) => std::slice::from_mut(item),
            Self::Many(items) => items,
        }
    }

    /// `None` for no items, [`OneOrMany::One`] for one, else the list.
    pub fn from_items(mut items: Vec<T>) -> Option<Self> {
        match items.len() {
            0 => None,
            1 => items.pop().map(Self::One),
            _ => Some(Self::Many(items)),
        }
    }
}
