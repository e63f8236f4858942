//! The description of the interface in OpenAPI 3.1, made of the types and of the table of operations.
//!
//! Only tests have this module: the daemon carries the text that is checked in, and no generator.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::keys::{self, Key, Keyed};
use crate::{Body, Error, ErrorCode, FilterConfig, Method, Operation, Timestamp};

/// Any object.
pub(crate) struct Document;

/// A rule of a port's, and its place.
#[derive(serde::Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
#[expect(dead_code, reason = "the schema alone is wanted")]
pub(crate) struct FilterRequest {
    /// The rule in front of which it is put, counted from 1; it is the last when absent.
    at: Option<u64>,
    #[serde(flatten)]
    rule: FilterConfig,
}

impl JsonSchema for Document {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Document".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object"})
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A moment in UTC to the millisecond (RFC 3339).", "type": "string", "format": "date-time",
        })
    }
}

/// Says of a table's keys what its type does not: ranges, defaults, numbers that stand for themselves, former names.
pub(crate) fn say_keys<T: Keyed>(schema: &mut Schema) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for Key { name, former, value } in T::KEYS {
        let property = properties[*name].as_object_mut().expect("a property is an object");
        match value {
            keys::Value::Number { least, most, default } => {
                property.insert("minimum".into(), (*least).into());
                property.insert("maximum".into(), (*most).into());
                if let Some(default) = default {
                    property.insert("default".into(), (*default).into());
                }
            }
            keys::Value::TextOrNumber => {
                property.insert("type".into(), json!(["string", "integer", "null"]));
            }
            _ => {}
        }
        if let Some(former) = former {
            let mut old = property.clone();
            old.insert("deprecated".into(), true.into());
            old.insert("description".into(), format!("The former name of `{name}`; not both.").into());
            properties.insert((*former).into(), old.into());
        }
    }
}

/// The document, as it is checked in.
fn document() -> String {
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
    };
    let mut answers = settings().for_serialize().into_generator();
    let mut requests = settings().for_deserialize().into_generator();

    let mut paths = BTreeMap::<&str, Map<String, Value>>::new();
    for operation in Operation::ALL {
        let method = match operation.method {
            Method::Get => "get",
            Method::Post => "post",
            Method::Patch => "patch",
            Method::Delete => "delete",
        };
        let described = describe(operation, &mut requests, &mut answers);
        let former = paths.entry(operation.path).or_default().insert(method.into(), described);
        assert_eq!(former, None, "{method} {} is there once", operation.path);
    }

    let error = answers.subschema_for::<Error>();
    let codes = codes(&mut answers);
    let responses: Map<String, Value> =
        codes.into_iter().map(|(status, codes)| failure(status, &codes, &error)).collect();
    let mut schemas = answers.take_definitions(true);
    for (name, schema) in requests.take_definitions(true) {
        let other = schemas.insert(name.clone(), schema.clone());
        assert!(other.is_none_or(|other| other == schema), "{name} is read as it is written");
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "vmlan control interface",
            "summary": "Version 1 of the interface, as vmlan of the version below serves it.",
            "description": "HTTP/1.1 with JSON over a Unix socket; see docs/api.md for limits, and for what \
                            the members mean. Within version 1 members, words and paths are added, never \
                            renamed or removed: a client passes over what it does not know.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "http://vmlan", "description": "Any name will do: the socket is a file."}],
        "paths": paths,
        "components": {"schemas": schemas, "responses": responses},
    });
    plain_words(&mut document);
    let mut text = serde_json::to_string_pretty(&document).expect("plain data");
    text.push('\n');
    text
}

fn describe(operation: &Operation, requests: &mut SchemaGenerator, answers: &mut SchemaGenerator) -> Value {
    let mut lines = operation.documentation.lines().map(str::trim);
    let summary = lines.next().expect("documentation").trim_end_matches('.');
    let description = lines.collect::<Vec<_>>().join(" ");
    let mut described = json!({"operationId": snake(&format!("{:?}", operation.id)), "summary": summary});
    if !description.is_empty() {
        described["description"] = description.into();
    }

    let of_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let of_path = of_path.map(|name| parameter(name, "path", true));
    let of_query = operation.query.iter().map(|name| parameter(name, "query", false));
    let parameters: Vec<Value> = of_path.chain(of_query).collect();
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(schema) = operation.id.body(requests) {
        let media = if operation.method == Method::Patch {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        described["requestBody"] =
            json!({"required": operation.body == Body::Required, "content": {media: {"schema": schema}}});
    }

    let schema = operation.id.answer(answers);
    let content = operation.media.iter().map(|media| {
        let described = match *media {
            "application/json" => json!({"schema": schema}),
            // OpenAPI 3.1 has no word for items that follow each other.
            "application/x-ndjson" => json!({"schema": {
                "description": "A JSON object a line.", "type": "string", "contentMediaType": media,
                "contentSchema": schema,
            }}),
            "application/toml" => json!({"schema": {"type": "string"}}),
            // Octets that are no text have no schema.
            _ => json!({}),
        };
        ((*media).to_owned(), described)
    });
    let mut answer = json!({"description": "All is well.", "content": content.collect::<Map<_, _>>()});
    if operation.media.contains(&"application/x-pcapng") {
        let number = json!({"type": "integer", "format": "uint64", "minimum": 0});
        answer["headers"] = json!({"Vmlan-Capture": {
            "description": "The number of the capture, by which it can be ended.", "required": true, "schema": number,
        }});
    }
    let failures = operation.failures().into_iter().map(|status| {
        (status.to_string(), json!({"$ref": format!("#/components/responses/{}", name_of(status))}))
    });
    described["responses"] = failures.chain([("200".to_owned(), answer)]).collect::<Map<_, _>>().into();
    described
}

fn parameter(name: &str, place: &str, required: bool) -> Value {
    let text = json!({"type": "string", "minLength": 1});
    let number = json!({"type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX});
    let (description, schema) = match name {
        "network" => ("The name of a network.", text),
        "port" if place == "query" => {
            ("The name of a port; for counters also with its network, `NETWORK/PORT`.", text)
        }
        "port" => ("The name of a port.", text),
        "address" => ("The IP address of a lease.", text),
        "number" => ("The place of a rule among the port's, from 1.", number),
        "flow" | "forward" => ("Its `id` in the listing.", number),
        "capture" => ("The number of the header `Vmlan-Capture`.", number),
        "dry_run" => ("Only tells what would be done.", json!({"type": "boolean", "default": false})),
        "format" => ("The form of the answer.", json!({"enum": ["json", "toml"], "default": "json"})),
        _ => panic!("{name} has no description"),
    };
    json!({"name": name, "in": place, "required": required, "description": description, "schema": schema})
}

/// The codes of errors by the status that they come with.
fn codes(answers: &mut SchemaGenerator) -> BTreeMap<u16, Vec<Value>> {
    let schema = <ErrorCode as JsonSchema>::json_schema(answers);
    let mut codes = BTreeMap::<u16, Vec<Value>>::new();
    for code in schema.get("oneOf").and_then(Value::as_array).expect("a list of codes") {
        let word = code["const"].clone();
        let known: ErrorCode = serde_json::from_value(word.clone()).expect("a code");
        assert_ne!(known, ErrorCode::Other, "{word}");
        codes.entry(known.status()).or_default().push(word);
    }
    codes
}

fn failure(status: u16, codes: &[Value], error: &Schema) -> (String, Value) {
    let schema = json!({"allOf": [error, {"properties": {"code": {"enum": codes}}}]});
    let list: Vec<_> = codes.iter().filter_map(Value::as_str).map(|code| format!("`{code}`")).collect();
    let response = json!({
        "description": format!("One of {}.", list.join(", ")),
        "content": {"application/json": {"schema": schema}},
    });
    (name_of(status).to_owned(), response)
}

fn name_of(status: u16) -> &'static str {
    match status {
        400 => "BadRequest",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        408 => "Timeout",
        409 => "Conflict",
        413 => "TooLarge",
        422 => "Unprocessable",
        500 => "Internal",
        503 => "Unavailable",
        other => panic!("no code has the status {other}"),
    }
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    snake
}

/// Takes rustdoc's links out of descriptions.
fn plain_words(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("[`") => *text = text.replace("[`", "`").replace("`]", "`"),
        Value::Array(items) => items.iter_mut().for_each(plain_words),
        Value::Object(members) => members.values_mut().for_each(plain_words),
        _ => {}
    }
}

#[test]
fn the_description_is_the_one_of_the_source() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let described = document();
    if std::env::var_os("VMLAN_WRITE_OPENAPI").is_some() {
        std::fs::write(&file, &described).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        return;
    }
    assert!(described == crate::OPENAPI, "{} is old: cargo xtask openapi", file.display());
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(crate::OPENAPI).expect("JSON");
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100, "{} references", found.len());
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("a reference into the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}
