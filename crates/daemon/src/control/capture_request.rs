//! The body of `POST /v1/capture`, checked.

use std::sync::Arc;

use serde_json::Value;
use vmlan_api::{Error, ErrorCode};
use vmlan_bpf::{Program, ValidProgram};

use crate::capture::{Options, Selection};

/// Octets kept of a frame at most, and without a word about it: more than any frame has.
const WHOLE: u32 = 262_144;
/// Selections of one capture.
const MOST_PORTS: usize = 256;

/// A request that can be carried out, if the ports are there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CaptureRequest {
    /// All ports when empty.
    pub(super) selections: Vec<Selection>,
    pub(super) options: Options,
}

impl CaptureRequest {
    /// Reads a body; an empty one asks for everything.
    pub(super) fn parse(body: Option<Value>) -> Result<CaptureRequest, Error> {
        let members = match body {
            None => serde_json::Map::new(),
            Some(Value::Object(members)) => members,
            Some(_) => return Err(Error::new(ErrorCode::WrongType, "the body must be an object")),
        };
        let mut options = Options { snaplen: WHOLE, ..Options::default() };
        let mut selections = Vec::new();
        for (member, value) in members.into_iter().filter(|(_, value)| !value.is_null()) {
            match member.as_str() {
                "ports" => selections = ports(value)?,
                "snaplen" => options.snaplen = number(&member, &value, 1, WHOLE.into())? as u32,
                "count" => options.frames = Some(number(&member, &value, 1, u64::MAX)?),
                "drops" => options.drops = boolean(&member, &value)?,
                "both" => options.both = boolean(&member, &value)?,
                "filter" => options.filter = Some(Arc::new(filter(&value)?)),
                _ => {
                    let message = format!(
                        "unknown member `{}`; there are ports, snaplen, count, drops, both and filter",
                        member.chars().take(40).collect::<String>().escape_debug()
                    );
                    return Err(Error::at(ErrorCode::UnknownKey, member, message));
                }
            }
        }
        Ok(CaptureRequest { selections, options })
    }
}

fn ports(value: Value) -> Result<Vec<Selection>, Error> {
    let what = "a list of NETWORK or NETWORK/PORT";
    let Value::Array(items) = value else { return Err(wrong("ports", what)) };
    if items.len() > MOST_PORTS {
        let message =
            format!("{} ports are too many; name the network, or at most {MOST_PORTS}", items.len());
        return Err(Error::at(ErrorCode::OutOfRange, "ports", message));
    }
    let selection = |item: &Value| {
        let text = item.as_str().ok_or_else(|| wrong("ports", what))?;
        text.parse().map_err(|error: crate::capture::BadSelection| {
            Error::at(ErrorCode::BadName, "ports", error.to_string())
        })
    };
    items.iter().map(selection).collect()
}

fn boolean(member: &str, value: &Value) -> Result<bool, Error> {
    value.as_bool().ok_or_else(|| wrong(member, "true or false"))
}

fn number(member: &str, value: &Value, least: u64, most: u64) -> Result<u64, Error> {
    let number = value.as_u64().ok_or_else(|| wrong(member, "a whole number"))?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    let range = if most == u64::MAX { format!("{least} or more") } else { format!("from {least} to {most}") };
    Err(Error::at(ErrorCode::OutOfRange, member, format!("{member} must be {range}")))
}

fn filter(value: &Value) -> Result<ValidProgram, Error> {
    let bad = |error: &dyn std::fmt::Display| {
        Error::at(ErrorCode::BadFilter, "filter", format!("the filter is no program: {error}"))
    };
    let text =
        value.as_str().ok_or_else(|| wrong("filter", "text, as `tcpdump -ddd -y EN10MB` writes it"))?;
    text.parse::<Program>().map_err(|error| bad(&error))?.check().map_err(|error| bad(&error))
}

fn wrong(member: &str, what: &str) -> Error {
    Error::at(ErrorCode::WrongType, member, format!("{member} must be {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_member_reaches_the_options() {
        let body = json!({
            "ports": ["lab", "lab/web"], "snaplen": 96, "count": 7, "drops": true, "both": true,
            "filter": "1\n6 0 0 60\n"
        });
        let request = CaptureRequest::parse(Some(body)).expect("a good request");
        let selections: Vec<String> = request.selections.iter().map(ToString::to_string).collect();
        assert_eq!(selections, ["lab", "lab/web"]);
        let Options { snaplen, frames, drops, both, filter, .. } = request.options;
        assert_eq!((snaplen, frames, drops, both), (96, Some(7), true, true));
        assert_eq!(filter.expect("a filter").run(&[0; 60]), 60);
    }

    #[test]
    fn without_members_everything_is_captured_whole() {
        for body in [None, Some(json!({})), Some(json!({"ports": [], "count": null, "drops": false}))] {
            let request = CaptureRequest::parse(body).expect("a good request");
            assert!(request.selections.is_empty());
            assert_eq!(request.options, Options { snaplen: WHOLE, ..Options::default() });
        }
    }

    #[test]
    fn faults_name_the_member() {
        let many = vec!["lab"; MOST_PORTS + 1];
        for (body, code, complaint) in [
            (json!([]), ErrorCode::WrongType, "object"),
            (json!({"port": "lab"}), ErrorCode::UnknownKey, "`port`"),
            (json!({"ports": "lab"}), ErrorCode::WrongType, "ports must be a list"),
            (json!({"ports": [1]}), ErrorCode::WrongType, "ports must be a list"),
            (json!({"ports": ["lab/"]}), ErrorCode::BadName, "`lab/`"),
            (json!({"ports": many}), ErrorCode::OutOfRange, "257 ports"),
            (json!({"snaplen": 0}), ErrorCode::OutOfRange, "snaplen must be from 1 to 262144"),
            (json!({"snaplen": 262_145}), ErrorCode::OutOfRange, "snaplen"),
            (json!({"snaplen": -1}), ErrorCode::WrongType, "snaplen must be a whole number"),
            (json!({"count": 0}), ErrorCode::OutOfRange, "count must be 1 or more"),
            (json!({"drops": 1}), ErrorCode::WrongType, "drops must be true or false"),
            (json!({"both": "yes"}), ErrorCode::WrongType, "both must be true or false"),
            (json!({"filter": ["6 0 0 0"]}), ErrorCode::WrongType, "filter must be text"),
            (json!({"filter": "icmp"}), ErrorCode::BadFilter, "line 1: `icmp`"),
            (json!({"filter": "2\n6 0 0 1\n6 0 x 0"}), ErrorCode::BadFilter, "line 3"),
            (json!({"filter": "2\n5 0 0 9\n6 0 0 0"}), ErrorCode::BadFilter, "instruction 0"),
        ] {
            let error = CaptureRequest::parse(Some(body.clone())).expect_err("a fault");
            assert_eq!(error.code, code, "{body}");
            assert!(error.message.contains(complaint), "{error}");
        }
    }
}
