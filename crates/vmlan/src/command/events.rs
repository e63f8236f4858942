//! `events`: what happens, as it happens.

use serde_json::Value;

use super::Failure;
use crate::args::Output;
use crate::client::Client;
use crate::output::{json, print, print_verbatim};

/// Writes events until the daemon ends or nobody reads any more.
pub fn follow(client: &Client, output: Output) -> Result<(), Failure> {
    let write = |line: &str| match output.json {
        true => print_verbatim(&(json(line) + "\n")),
        false => print(&(for_people(line) + "\n")),
    };
    client.follow("/v1/events", write)??;
    Err(Failure::Failed(anyhow::anyhow!("the daemon ended")))
}

/// `TIME  EVENT  member=value …`, or a sentence where there is something to do; what is no event stays as it is.
fn for_people(line: &str) -> String {
    let Ok(Value::Object(mut event)) = serde_json::from_str(line) else { return line.to_owned() };
    let mut take = |member: &str| match event.remove(member) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (time, kind) = (take("time"), take("event"));
    if let Some(words) =
        serde_json::from_str::<vmlan_api::Event>(line).ok().and_then(|event| event.kind.in_words())
    {
        return format!("{time}  {kind:17}  {}", vmlan_api::escaped(&words));
    }
    let members = event.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| match value {
        Value::String(text) => format!("{name}={}", vmlan_api::escaped(text)),
        other => format!("{name}={other}"),
    });
    format!("{time}  {kind:17}  {}", members.collect::<Vec<_>>().join(" ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::for_people;

    #[test]
    fn an_event_is_one_line_with_its_members() {
        let line = r#"{"time":"T","event":"port_down","network":"lab","port":"web","reason":null,"count":3}"#;
        assert_eq!(for_people(line), "T  port_down          count=3 network=lab port=web");
        assert_eq!(for_people("{"), "{");
    }

    #[test]
    fn two_ports_with_one_address_are_told_in_a_sentence() {
        let line = r#"{"time":"2026-01-01T00:00:00.000Z","event":"mac_contested","network":"lab","port":"web",
            "claimant":"db","mac":"52:54:00:12:34:56","vlan":null}"#;
        let told = for_people(line);
        let words = "2026-01-01T00:00:00.000Z  mac_contested      lab/db sends from 52:54:00:12:34:56, which lab/web had";
        assert!(told.starts_with(words), "{told}");
    }
}
