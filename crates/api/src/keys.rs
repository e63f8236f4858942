//! The keys of tables of the configuration, each defined once.
//!
//! The macro `table!` of this crate makes of one definition the structure that holds a table, and the list of its keys:
//! their names, and what they take. From the list come the reader of the daemon with its suggestions, the command
//! line's `KEY=VALUE`, its help, and the comparison with the documents. The structure is read and written by serde.

use std::ops::RangeInclusive;

use crate::OneOrMany;

/// A key of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// A former name, which is still read but written and suggested nowhere.
    pub former: Option<&'static str>,
    /// The kind of value that it takes.
    pub value: Value,
}

impl Key {
    /// Returns true for its name and for its former one.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.former == Some(name)
    }
}

/// A kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Text.
    Text,
    /// Text, or a number that stands for itself.
    TextOrNumber,
    /// Text, or a list of it.
    Texts,
    /// A whole number, and what it is when the key is absent, where that is a number.
    Number {
        /// The least.
        least: u64,
        /// The most. What else there is may bound it further.
        most: u64,
        /// Without the key.
        default: Option<u64>,
    },
    /// A list of whole numbers.
    Numbers,
    /// True or false.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of these words.
    Choices(&'static [&'static str]),
    /// A table with these keys.
    Table(&'static [Key]),
    /// A list of such tables.
    Tables(&'static [Key]),
    /// A table with these keys, or true or false.
    SwitchOrTable(&'static [Key]),
    /// One of these words, or a list of tables with these keys.
    WordOrTables(&'static [&'static str], &'static [Key]),
}

/// A table whose keys are defined with it.
pub trait Keyed: serde::de::DeserializeOwned {
    /// Its keys.
    const KEYS: &'static [Key];
}

/// The range of a number among these keys, and what it is without the key.
///
/// # Panics
/// When there is no such key, or it takes no number.
pub fn range(keys: &[Key], name: &str) -> (RangeInclusive<u64>, Option<u64>) {
    match keys.iter().find(|key| key.name == name).map(|key| key.value) {
        Some(Value::Number { least, most, default }) => (least..=most, default),
        other => panic!("{name} is no number: {other:?}"),
    }
}

/// A number in a range, with a default.
pub(crate) const fn number(least: u64, most: u64, default: Option<u64>) -> Value {
    Value::Number { least, most, default }
}

/// Types that say what a key takes whose value they hold.
pub(crate) trait Typed {
    const VALUE: Value;
}

impl Typed for String {
    const VALUE: Value = Value::Text;
}

impl Typed for OneOrMany<String> {
    const VALUE: Value = Value::Texts;
}

impl Typed for u64 {
    const VALUE: Value = number(0, u64::MAX, None);
}

impl Typed for Vec<u64> {
    const VALUE: Value = Value::Numbers;
}

impl Typed for bool {
    const VALUE: Value = Value::Boolean;
}

/// Defines a table: its structure, whose members are all optional, and its keys.
///
/// The value that a key takes follows from its type, or is given behind `=`. A former name stands behind `formerly`.
macro_rules! table {
    (
        $(#[$meta:meta])*
        pub struct $table:ident {
            $($(#[$doc:meta])+ $key:ident $(formerly $former:literal)?: $type:ty $(= $value:expr)?,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        #[cfg_attr(test, schemars(transform = $crate::openapi::say_keys::<$table>))]
        pub struct $table {
            $(
                $(#[$doc])+
                #[serde(default, skip_serializing_if = "Option::is_none" $(, alias = $former)?)]
                pub $key: Option<$type>,
            )+
        }

        impl $crate::keys::Keyed for $table {
            const KEYS: &'static [$crate::keys::Key] = &[$(
                $crate::keys::Key {
                    name: stringify!($key),
                    former: $crate::keys::table!(@former $($former)?),
                    value: $crate::keys::table!(@value $type $(, $value)?),
                },
            )+];
        }

        impl $crate::keys::Typed for $table {
            const VALUE: $crate::keys::Value = $crate::keys::Value::Table(<$table as $crate::keys::Keyed>::KEYS);
        }
    };
    (@former) => { None };
    (@former $former:literal) => { Some($former) };
    (@value $type:ty) => { <$type as $crate::keys::Typed>::VALUE };
    (@value $type:ty, $value:expr) => { $value };
}

/// Says which words the values of an enumeration are, the same that serde reads and writes.
macro_rules! choice {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word as it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::keys::Typed for $type {
            const VALUE: $crate::keys::Value = $crate::keys::Value::Choice(&[$($word),+]);
        }
    };
}

pub(crate) use {choice, table};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PortConfig, TrunkConfig, UplinkConfig, UserLimitsConfig};

    /// A value of that kind.
    fn samples(value: Value) -> Vec<serde_json::Value> {
        let text = |words: &[&str]| words.iter().map(|word| serde_json::json!(word)).collect::<Vec<_>>();
        match value {
            Value::Text | Value::TextOrNumber => text(&["some"]),
            Value::Texts => vec![serde_json::json!("some"), serde_json::json!(["some", "more"])],
            Value::Number { least, most, .. } => vec![least.into(), most.into()],
            Value::Numbers => vec![serde_json::json!([1, 2])],
            Value::Boolean => vec![true.into(), false.into()],
            Value::Choice(words) => text(words),
            Value::Choices(words) => vec![serde_json::json!(words)],
            Value::Table(keys) => tables(keys),
            Value::Tables(keys) => vec![tables(keys).into()],
            Value::SwitchOrTable(keys) => {
                tables(keys).into_iter().chain([true.into(), false.into()]).collect()
            }
            Value::WordOrTables(words, keys) => {
                text(words).into_iter().chain([tables(keys).into()]).collect()
            }
        }
    }

    /// Tables with each key once with each of its samples.
    fn tables(keys: &[Key]) -> Vec<serde_json::Value> {
        let one =
            |key: &Key| samples(key.value).into_iter().map(|value| serde_json::json!({ key.name: value }));
        keys.iter().flat_map(one).collect()
    }

    #[test]
    fn what_a_key_takes_can_be_read_and_is_written_alike() {
        fn same<T: serde::Serialize + Keyed>() {
            for table in tables(T::KEYS) {
                let read: T =
                    serde_json::from_value(table.clone()).unwrap_or_else(|e| panic!("{table}: {e}"));
                assert_eq!(serde_json::to_value(read).expect("plain data"), table);
            }
        }
        same::<PortConfig>();
        same::<TrunkConfig>();
        same::<UplinkConfig>();
        same::<UserLimitsConfig>();
    }

    #[test]
    fn a_former_name_is_read_and_the_name_is_written() {
        let read: crate::VlanConfig =
            serde_json::from_value(serde_json::json!({"trunk": [10], "native": 1})).expect("a role");
        let written = serde_json::to_value(read).expect("plain data");
        assert_eq!(written, serde_json::json!({"tagged": [10], "native": 1}));
    }
}
