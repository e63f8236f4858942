//! Bodies of requests: bounded in octets, depth and time before anything looks at them.

use std::error::Error as _;
use std::time::Duration;

use axum::body::Body;
use http_body_util::LengthLimitError;
use serde_json::Value;
use vmlan_api::ErrorCode;

use super::failure::Failure;
use super::json;
use super::life::Life;

/// Octets of a body, unless it is a configuration.
pub(super) const LARGEST: usize = 64 * 1024;
/// Octets of a configuration.
pub(super) const LARGEST_CONFIG: usize = crate::config::LARGEST;
/// Objects and lists within each other.
const DEEPEST: usize = 32;

/// Reads a whole body as JSON; an empty one is `None`.
pub(super) async fn read(
    body: Body,
    largest: usize,
    time: Duration,
    life: &Life,
) -> Result<Option<Value>, Failure> {
    life.waiting();
    let arrived = tokio::time::timeout(time, axum::body::to_bytes(body, largest)).await;
    life.served();
    let octets = arrived
        .map_err(|_| Failure::new(ErrorCode::Timeout, format!("the body did not arrive within {time:?}")))?
        .map_err(|error| unreadable(&error, largest))?;
    if octets.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    if depth(&octets) > DEEPEST {
        let message = format!("the body is nested deeper than {DEEPEST} levels");
        return Err(Failure::new(ErrorCode::TooDeep, message));
    }
    json::parse(&octets).map(Some).map_err(Failure::from)
}

fn unreadable(error: &axum::Error, largest: usize) -> Failure {
    let too_large = error.source().is_some_and(|source| source.is::<LengthLimitError>());
    match too_large {
        true => Failure::new(ErrorCode::TooLarge, format!("the body is longer than {largest} octets")),
        false => Failure::new(ErrorCode::BadRequest, format!("the body ended early: {error}")),
    }
}

/// How deep objects and lists are within each other; brackets in text do not count.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for octet in json {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::depth;

    #[test]
    fn depth_counts_brackets_outside_of_text() {
        for (json, expected) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a":[{}],"b":[]}"#, 3),
            (r#"["[[[", "\"[[[", "\\", []]"#, 2),
            ("]]]][", 1),
        ] {
            assert_eq!(depth(json.as_bytes()), expected, "{json}");
        }
        assert_eq!(depth("[".repeat(10_000).as_bytes()), 10_000);
    }
}
