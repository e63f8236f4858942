//! JSON in which no member stands twice.
//!
//! RFC 8259 leaves open which of two members of one name counts, and programs differ; so a request could say one thing
//! to what checked it and another to the daemon. It is refused instead, wherever in the body it is.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use vmlan_api::{Error, ErrorCode};

/// Characters of a path that an error shows.
const SHOWN: usize = 200;

/// Reads one value and nothing behind it.
pub(super) fn parse(octets: &[u8]) -> Result<Value, Error> {
    let twice = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(octets);
    let value = Strict { path: &Path::Root, twice: &twice }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| match twice.take() {
        Some(member) => {
            let message = format!("the member {member} stands there twice; write it once");
            Error::at(ErrorCode::BadJson, member, message)
        }
        None => Error::new(ErrorCode::BadJson, format!("the body is no JSON: {error}")),
    })
}

/// Where a value stands.
enum Path<'a> {
    Root,
    Member(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Member(Path::Root, name) => f.write_str(&vmlan_api::escaped(name)),
            Path::Member(parent, name) => write!(f, "{parent}.{}", vmlan_api::escaped(name)),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Strict<'a> {
    path: &'a Path<'a>,
    /// The member that stands twice, which the error cannot carry.
    twice: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = Path::Item(self.path, list.len());
            match items.next_element_seed(Strict { path: &path, twice: self.twice })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = Path::Member(self.path, &name);
            if object.contains_key(&name) {
                *self.twice.borrow_mut() = Some(path.to_string().chars().take(SHOWN).collect());
                return Err(de::Error::custom("a member stands twice"));
            }
            let value = members.next_value_seed(Strict { path: &path, twice: self.twice })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_serde_json_reads_it() {
        for text in [
            "null",
            " [1, -1, 1.5, 1e300, 18446744073709551615, -9223372036854775808, true, \"a\\u0041\\n\", [], {}] ",
            r#"{"a": {"a": [{"a": 1}, {"a": 2}]}, "b": null, "": ""}"#,
        ] {
            let expected: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(parse(text.as_bytes()), Ok(expected), "{text}");
        }
        for text in ["", "{", "{} {}", "[1,]", "nul", "{\"a\"}", "\"\u{1}\"", "1e999", "{\"a\":1,}"] {
            let refused = parse(text.as_bytes()).map_err(|error| error.code);
            assert_eq!(refused, Err(ErrorCode::BadJson), "{text}");
        }
        assert!(parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn a_member_that_stands_twice_is_named_at_every_depth() {
        for (text, member) in [
            (r#"{"a": 1, "a": 1}"#, "a"),
            (r#"{"network": {"lab": {"mtu": 1500, "port": {}, "mtu": 9000}}}"#, "network.lab.mtu"),
            (r#"{"a": [0, {"b": [[{"c": 1, "\u0063": 2}]]}]}"#, "a[1].b[0][0].c"),
            (r#"[{"x": null, "x": null}]"#, "[0].x"),
            ("{\"a\\n\": 1, \"a\\n\": 2}", "a\\n"),
        ] {
            let error = parse(text.as_bytes()).expect_err(text);
            assert_eq!((error.code, error.field.as_deref()), (ErrorCode::BadJson, Some(member)), "{text}");
            assert!(error.message.contains(member), "{error}");
        }
        let long = format!("{{\"{0}\": 1, \"{0}\": 2}}", "x".repeat(10_000));
        assert!(parse(long.as_bytes()).expect_err("twice").message.len() < 300);
    }
}
