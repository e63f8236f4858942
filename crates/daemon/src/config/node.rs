//! One tree for both notations: a TOML document with the place of everything in it, or a JSON value.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A value and its place in the text, in octets; no place for JSON.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) span: Option<Range<usize>>,
}

/// A key and its place in the text.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) span: Option<Range<usize>>,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i128),
    Boolean(bool),
    List(Vec<Node>),
    Table(Vec<(Key, Node)>),
    /// JSON's `null`: the key might as well not be there.
    Nothing,
    /// Something that no key takes, by its name.
    Other(&'static str),
}

impl Node {
    /// Names the kind of the value, for messages.
    pub(super) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Text(_) => "text",
            Value::Integer(_) => "a whole number",
            Value::Boolean(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Nothing => "nothing",
            Value::Other(what) => what,
        }
    }

    /// The tree of a TOML document. The parser bounds its depth.
    pub(super) fn from_toml(table: &toml::Spanned<DeTable<'_>>) -> Self {
        Self { value: toml_table(table.get_ref()), span: Some(table.span()) }
    }

    /// The tree of a JSON value. The parser bounds its depth.
    pub(super) fn from_json(value: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match value {
            Json::Null => Value::Nothing,
            Json::Bool(value) => Value::Boolean(value),
            Json::Number(number) => match number.as_i128() {
                Some(value) => Value::Integer(value),
                None => Value::Other("a number with a fraction"),
            },
            Json::String(text) => Value::Text(text),
            Json::Array(items) => Value::List(items.into_iter().map(Self::from_json).collect()),
            Json::Object(members) => Value::Table(
                members
                    .into_iter()
                    .map(|(name, value)| (Key { name, span: None }, Self::from_json(value)))
                    .collect(),
            ),
        };
        Self { value, span: None }
    }
}

fn toml_node(value: &toml::Spanned<DeValue<'_>>) -> Node {
    let tree = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number that is too large"),
        },
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(items) => Value::List(items.iter().map(toml_node).collect()),
        DeValue::Table(table) => toml_table(table),
    };
    Node { value: tree, span: Some(value.span()) }
}

fn toml_table(table: &DeTable<'_>) -> Value {
    Value::Table(
        table
            .iter()
            .map(|(key, value)| {
                (Key { name: key.get_ref().clone().into_owned(), span: Some(key.span()) }, toml_node(value))
            })
            .collect(),
    )
}
