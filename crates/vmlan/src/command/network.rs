//! `network add` and `network remove`.

use serde_json::{Map, Value};

use super::{Failure, apply};
use crate::args::{NetworkCommand, Output};
use crate::client::{Client, encode};

/// Adds or removes a network.
pub fn run(client: &Client, command: NetworkCommand, output: Output) -> Result<(), Failure> {
    let report = match command {
        NetworkCommand::Add { network, settings, dry_run } => {
            let table = table(&settings).map_err(Failure::Usage)?;
            client.post(&path(&network, dry_run), &table)?
        }
        NetworkCommand::Remove { network, dry_run } => client.delete(&path(&network, dry_run))?,
    };
    apply::tell(&report, output)
}

fn path(network: &str, dry_run: bool) -> String {
    format!("/v1/networks/{}{}", encode(network), super::port::dry(dry_run))
}

/// The network's table. A word that looks like a number or a truth value is one; the daemon knows the keys.
fn table(settings: &[String]) -> Result<Map<String, Value>, String> {
    let mut table = Map::new();
    for setting in settings {
        let (key, text) =
            setting.split_once('=').ok_or_else(|| format!("`{setting}` is not of the form key=value"))?;
        let value = match (text.parse::<u64>(), text.parse::<bool>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(truth)) => truth.into(),
            _ => text.into(),
        };
        if table.insert(key.to_owned(), value).is_some() {
            return Err(format!("`{key}` is given twice"));
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_become_the_table_of_a_network() {
        let read = |words: &[&str]| table(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            read(&["mtu=9000", "pass_reserved=true"]).map(Value::from),
            Ok(json!({"mtu": 9000, "pass_reserved": true}))
        );
        assert!(read(&["mtu"]).is_err_and(|error| error.contains("key=value")));
        assert!(read(&["mtu=1", "mtu=2"]).is_err_and(|error| error.contains("twice")));
    }
}
