//! Secrets of a configuration, which are in no archive. Today no key holds one; a file may name any.

use std::ops::Range;

use serde_json::Value;
use toml::de::{DeTable, DeValue};

const MASKED: &str = "masked";

/// True for the name of a key whose value is a secret.
fn is_secret(key: &str) -> bool {
    const PARTS: [&str; 8] =
        ["secret", "passw", "passphrase", "token", "credential", "psk", "private", "api_key"];
    let key = key.to_ascii_lowercase().replace('-', "_");
    key == "key" || key == "keys" || key.ends_with("_key") || PARTS.iter().any(|part| key.contains(part))
}

/// True for a text with a password in an address of the web: `http://user:password@host`.
fn has_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| rest.split('/').next().is_some_and(|host| host.contains('@')))
}

/// Replaces the secrets of a document.
pub fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                // Below these are names that the user chose.
                match is_secret(key) && !value.is_object() {
                    true => *value = Value::String(MASKED.into()),
                    false => mask(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask),
        Value::String(text) if has_password(text) => MASKED.clone_into(text),
        _ => {}
    }
}

/// The file with its comments, and without its secrets. One that is no TOML loses the rest of every line that may hold
/// one.
pub fn mask_file(text: &str) -> String {
    let Ok(table) = DeTable::parse(text) else { return mask_broken(text) };
    let mut spans = Vec::new();
    find(table.get_ref(), &mut spans);
    spans.sort_by_key(|span| span.start);
    let mut masked = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans {
        let (Some(before), true) = (text.get(at..span.start), span.end <= text.len()) else { continue };
        masked.push_str(before);
        masked.push_str("\"masked\"");
        at = span.end;
    }
    masked.push_str(text.get(at..).unwrap_or_default());
    mask_comments(&masked)
}

/// The file without secrets that are commented out, on lines of their own or behind values.
fn mask_comments(text: &str) -> String {
    let Ok(table) = DeTable::parse(text) else { return mask_broken(text) };
    let mut words = Vec::new();
    find_words(table.get_ref(), &mut words);
    let is_word = |at: usize| words.iter().any(|word| word.contains(&at));
    let mut start = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        let mut signs = line.match_indices('#').map(|(at, _)| at);
        let comment = signs.find(|at| !is_word(start + at));
        start += line.len();
        let Some(at) = comment else { return line.to_owned() };
        format!("{}{}", &line[..at], mask_line(&line[at..]).0)
    });
    lines.collect()
}

/// Finds keys and values, in which a `#` begins no comment.
fn find_words(table: &DeTable<'_>, words: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        words.push(key.span());
        find_words_of(value, words);
    }
}

fn find_words_of(value: &toml::Spanned<DeValue<'_>>, words: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => find_words(table, words),
        DeValue::Array(values) => values.iter().for_each(|value| find_words_of(value, words)),
        _ => words.push(value.span()),
    }
}

fn find(table: &DeTable<'_>, spans: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        match value.get_ref() {
            DeValue::Table(table) => find(table, spans),
            _ if is_secret(key.get_ref()) => spans.push(value.span()),
            _ => find_value(value, spans),
        }
    }
}

fn find_value(value: &toml::Spanned<DeValue<'_>>, spans: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => find(table, spans),
        DeValue::Array(values) => values.iter().for_each(|value| find_value(value, spans)),
        DeValue::String(text) if has_password(text) => spans.push(value.span()),
        _ => {}
    }
}

fn mask_broken(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, goes_on) = mask_line(line);
        masked.push_str(&line);
        if goes_on {
            masked.push_str("# the rest is left out: a secret may go on\n");
            break;
        }
    }
    masked
}

/// The line up to its first secret, and whether that may go on in the next line.
fn mask_line(line: &str) -> (String, bool) {
    for (at, _) in line.match_indices(['=', ':']) {
        let key = line[..at].trim_end().trim_end_matches(['"', '\'']);
        let key = key.rsplit(|sign: char| !(sign.is_alphanumeric() || sign == '_' || sign == '-')).next();
        if key.is_some_and(is_secret) || has_password(line) {
            let value = line[at + 1..].trim();
            let goes_on = ["\"\"\"", "'''", "[", "{"].iter().any(|opening| value.starts_with(opening))
                || value.is_empty();
            return (format!("{} \"masked\"\n", &line[..=at]), goes_on);
        }
    }
    (line.to_owned(), false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_keeps_everything_but_its_secrets() {
        let text = "# mine\n[network.lab]\nmtu = 1500 # why\nprivate_key = \"s3\" # k\ntunnel = { pre-shared-key = '''s3\ns3''', \
                    n = 1 }\nboot = [\"http://u:s3@h/x\"]\n# token = s3\n[token]\nport = 5\n";
        let masked = mask_file(text);
        assert!(!masked.contains("s3"), "{masked}");
        for kept in
            ["# mine", "mtu = 1500 # why", "private_key = \"masked\" # k", "n = 1", "[token]\nport = 5"]
        {
            assert!(masked.contains(kept), "{kept}: {masked}");
        }
    }

    #[test]
    fn comments_behind_values_lose_their_secrets_too() {
        let text = "a = 1 # password = s3\nb = \"# token = x\" # why\nc = [\n  1, # key: s3\n  \"#\",\n]\n\"d#\" = 2 # psk=s3\n";
        let masked = mask_file(text);
        assert!(!masked.contains("s3"), "{masked}");
        for kept in [
            "a = 1 # password = \"masked\"\n",
            "b = \"# token = x\" # why\n",
            "  1, # key: \"masked\"\n  \"#\",\n]",
        ] {
            assert!(masked.contains(kept), "{kept}: {masked}");
        }
    }

    #[test]
    fn a_file_that_is_no_toml_loses_what_may_be_a_secret() {
        let text = "mtu = = 1\npassword = s3\na = { token = 's3' }\nsecrets = [\n 's3',\n]\n";
        let masked = mask_file(text);
        assert!(!masked.contains("s3"), "{masked}");
        assert!(masked.starts_with("mtu = = 1\npassword = \"masked\"\n"), "{masked}");
    }

    #[test]
    fn secrets_of_an_answer_are_masked_at_any_depth() {
        let mut value =
            json!({"a": [{"psk": ["s3"], "n": 1}], "url": "ftp://u:s3@h", "key": 7, "tokens": {"x": 2}});
        mask(&mut value);
        assert_eq!(
            value,
            json!({"a": [{"psk": "masked", "n": 1}], "url": "masked", "key": "masked", "tokens": {"x": 2}})
        );
    }
}
