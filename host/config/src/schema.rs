//! The JSON schema of pipeline files, for editors. It follows the table of keys.

use flowgate_base::units::{SIZE_PATTERN, TIME_PATTERN};
use serde_json::{Map, Value, json};

use super::keys::{Key, Kind, SECTIONS, Section};

/// Returns the schema (JSON Schema, draft 7, which the TOML servers of editors read).
#[must_use]
pub fn schema() -> Value {
    of(
        &SECTIONS,
        "flowgate pipeline",
        "A pipeline that `flowgate run` runs. docs/PIPELINES.md explains it.",
        &["source"],
    )
}

/// Returns the schema of files with these sections, some of which are required.
#[must_use]
pub fn of(sections: &[Section], title: &str, about: &str, required: &[&str]) -> Value {
    let mut properties = Map::new();
    for section in sections {
        let mut table = table(section.keys);
        if let Some(first) = section.keys.first().filter(|key| key.name == "kind" && key.default.is_empty()) {
            set(&mut table, "required", json!([first.name]));
        }
        let mut value = if section.several { json!({ "type": "array", "items": table }) } else { table };
        set(&mut value, "description", json!(section.help));
        properties.insert(section.name.into(), value);
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
        "description": about,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false
    })
}

/// Returns the text of the schema's file.
#[must_use]
pub fn text() -> String {
    pretty(&schema())
}

/// Formats a schema as its file has it.
#[must_use]
pub fn pretty(schema: &Value) -> String {
    // Such a value can always be serialised.
    serde_json::to_string_pretty(schema).unwrap_or_default() + "\n"
}

fn table(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|key| (key.name.to_string(), property(key))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn property(key: &Key) -> Value {
    let mut value = match key.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Path => json!({ "type": "string", "minLength": 1 }),
        Kind::Switch => json!({ "type": "boolean" }),
        Kind::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Size => measure(SIZE_PATTERN),
        Kind::Time => measure(TIME_PATTERN),
        Kind::OneOf(words) => json!({ "enum": words }),
        Kind::Some(words) => json!({ "type": "array", "items": { "enum": words } }),
        Kind::Words => json!({ "type": ["array", "string"], "items": { "type": "string" } }),
        Kind::Values => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "integer", "boolean"] } })
        }
        Kind::Items => {
            json!({ "type": ["array", "string", "integer"], "items": { "type": ["string", "integer"] } })
        }
        Kind::Table(keys) => table(keys),
        Kind::Tables(keys) => json!({ "type": "array", "items": table(keys) }),
    };
    set(&mut value, "description", json!(description(key)));
    value
}

/// Returns the schema of a text with a unit, or a number.
fn measure(pattern: &str) -> Value {
    json!({ "type": ["string", "number"], "pattern": pattern, "minimum": 0 })
}

/// Returns the description of a key: its help, its default, and the kinds that have it.
#[must_use]
pub fn description(key: &Key) -> String {
    let mut text = key.help.to_string();
    if !key.default.is_empty() {
        text.push_str(&format!(" (default: {})", key.default));
    }
    if !key.only.is_empty() {
        text.push_str(&format!("; with {} only", key.only.join(", ")));
    }
    text
}

fn set(value: &mut Value, name: &str, to: Value) {
    if let Value::Object(map) = value {
        map.insert(name.into(), to);
    }
}
