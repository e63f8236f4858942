//! `filter list`, `filter add` and `filter remove`.

use serde_json::json;

use super::{Failure, apply, port};
use crate::args::{FilterCommand, Output};
use crate::client::{Client, encode};
use crate::output::Answer;
use crate::table::table;
use crate::watch;

/// Lists, adds or removes rules about ports' frames.
pub fn run(client: &Client, command: FilterCommand, output: Output) -> Result<(), Failure> {
    match command {
        FilterCommand::List { network, watch } => {
            watch::show(watch, output, |output| list(client, network.as_deref(), output))
        }
        FilterCommand::Add { network, port, action, expression, program, direction, at } => {
            let program = program.map(std::path::absolute).transpose().map_err(anyhow::Error::new)?;
            let rule = json!({
                "action": action, "direction": direction, "expression": expression, "program": program, "at": at
            });
            let report = client.post(&format!("{}/filters", port::path(&network, &port)), &rule)?;
            apply::tell(&report, output)
        }
        FilterCommand::Remove { network, port, number } => {
            let report = client.delete(&format!("{}/filters/{number}", port::path(&network, &port)))?;
            apply::tell(&report, output)
        }
    }
}

fn list(client: &Client, network: Option<&str>, output: Output) -> Result<Answer, Failure> {
    let query = network.map(|network| format!("?network={}", encode(network))).unwrap_or_default();
    let filters: Vec<vmlan_api::Filter> = client.get(&format!("/v1/filters{query}"))?;
    if output.json {
        return Answer::json(&filters, output);
    }
    let row = |filter: &vmlan_api::Filter| {
        let program = filter.program.as_ref().map(|path| format!("program {path}"));
        vec![
            filter.network.clone(),
            filter.port.clone(),
            filter.number.to_string(),
            filter.direction.as_str().to_owned(),
            filter.action.as_str().to_owned(),
            filter.frames.to_string(),
            filter.octets.to_string(),
            filter.expression.clone().or(program).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = filters.iter().map(row).collect();
    let head = ["NETWORK", "PORT", "NUMBER", "DIRECTION", "ACTION", "FRAMES", "OCTETS", "MATCHES"];
    Ok(Answer::text(&table(&head, &rows)))
}
