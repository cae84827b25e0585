//! The options in a JSON schema as rows of a table.
//!
//! ```text
//!  "batch_size": {"type": "integer", "default": 1000, "description": "Most records …"}
//!      │  | `batch_size` | integer | `1000` | Most records … |
//! ```
//!
//! A default is the schema's, or else what stands after `Default:` at the end of the description.

use laminar_core::options::ALIASES;
use serde_json::{Map, Value};

use super::{any_of, code, table};

/// One option, each part as the page shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionRow {
    pub name: String,
    /// Other names of it.
    aliases: Vec<String>,
    value: String,
    default: String,
    about: String,
}

/// All options of the schema, in the order of their declaration; `None`: no schema, no options.
pub fn rows(schema: Option<&Value>) -> Vec<OptionRow> {
    let Some(schema) = schema else { return Vec::new() };
    let object = |key: &str| schema.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let patterns = object("patternProperties").into_iter().map(|(name, property)| (plain_pattern(&name), property));
    let row = |(name, property): (String, Value)| {
        let is_required = required.contains(&name.as_str());
        row(schema, name, &property, is_required)
    };
    object("properties").into_iter().chain(patterns).map(row).collect()
}

/// `^fields\..+\.kind$` as a person writes it: `fields.<column>.kind`.
fn plain_pattern(pattern: &str) -> String {
    pattern.trim_matches(['^', '$']).replace("\\.", ".").replace(".+", "<column>")
}

fn row(root: &Value, name: String, property: &Value, is_required: bool) -> OptionRow {
    let text = property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
    assert!(!text.is_empty(), "option {name} has no doc comment");
    let (about, words) = match text.split_once("Default: ") {
        Some((about, words)) => (about.trim().to_string(), Some(words.trim_end_matches('.').to_string())),
        None => (text, None),
    };
    let declared = property.get("default").filter(|d| !d.is_null()).map(|d| shown(property, d));
    assert!(words.is_none() || declared.is_none(), "the default of option {name} is declared, and told again");
    let aliases = property.get(ALIASES).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut choices = Vec::new();
    collect_choices(root, property, &mut choices);
    OptionRow {
        aliases: aliases.map(str::to_string).collect(),
        value: if choices.is_empty() { kind(root, property) } else { names_of(&choices) },
        default: match (is_required, declared.or(words)) {
            (true, _) => "**required**".to_string(),
            (false, default) => default.unwrap_or_default(),
        },
        about: std::iter::once(about).chain(choices.iter().filter_map(Choice::told)).collect::<Vec<_>>().join("<br>"),
        name,
    }
}

/// A default as one would write it in SQL.
fn shown(property: &Value, default: &Value) -> String {
    match (default, property.get("format").and_then(Value::as_str)) {
        (Value::Number(bytes), Some("byte-size")) => code(&size(bytes.as_u64().unwrap_or_default())),
        (Value::String(text), _) => code(text),
        (other, _) => code(&other.to_string()),
    }
}

fn size(bytes: u64) -> String {
    let units = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")];
    let whole = units.iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    whole.map_or(bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// One of the texts that an option can have.
struct Choice {
    name: String,
    about: Option<String>,
}

impl Choice {
    fn told(&self) -> Option<String> {
        self.about.as_ref().map(|about| format!("{}: {about}", code(&self.name)))
    }
}

fn names_of(choices: &[Choice]) -> String {
    any_of(&choices.iter().map(|c| c.name.clone()).collect::<Vec<_>>())
}

fn collect_choices(root: &Value, schema: &Value, found: &mut Vec<Choice>) {
    let about = schema.get("description").and_then(Value::as_str).map(|d| d.replace('\n', " "));
    if let Some(name) = schema.get("const").and_then(Value::as_str) {
        found.push(Choice { name: name.to_string(), about });
    }
    for name in schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        found.push(Choice { name: name.to_string(), about: None });
    }
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?));
    let parts = ["oneOf", "anyOf"].iter().filter_map(|key| schema.get(*key)?.as_array()).flatten();
    target.into_iter().chain(parts).for_each(|part| collect_choices(root, part, found));
}

/// What a value is, in a word.
fn kind(root: &Value, schema: &Value) -> String {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?));
    let parts = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    if let Some(inner) = target.into_iter().chain(parts).find(|part| part.get("type") != Some(&Value::from("null"))) {
        return kind(root, inner);
    }
    let types = match schema.get("type") {
        Some(Value::Array(types)) => types.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    let name = types.iter().filter_map(Value::as_str).find(|t| *t != "null");
    let text = match (name, schema.get("format").and_then(Value::as_str)) {
        (_, Some("duration")) => "duration",
        (_, Some("byte-size")) => "size",
        (_, Some("password")) => "secret text",
        (Some("string"), _) => "text",
        (Some("array"), _) => "list",
        (Some(other), _) => other,
        (None, _) => "",
    };
    text.to_string()
}

/// The options as a table; nothing if there are none.
pub fn as_table(rows: &[OptionRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let name = |row: &OptionRow| match row.aliases.as_slice() {
        [] => code(&row.name),
        other => format!("{}<br>or {}", code(&row.name), any_of(other)),
    };
    let cells = |row: &OptionRow| vec![name(row), row.value.clone(), row.default.clone(), row.about.clone()];
    table(&["option", "value", "default", "meaning"], rows.iter().map(cells))
}

/// The JSON schema of a struct of options.
pub fn schema_of<T: schemars::JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// The schema without the options that `other` has.
pub fn without(schema: &Value, other: &[Value]) -> Value {
    let mut left = schema.clone();
    let names = |schema: &Value| schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(properties) = left.get_mut("properties").and_then(Value::as_object_mut) {
        let kept: Map<String, Value> = std::mem::take(properties)
            .into_iter()
            .filter(|(name, _)| !other.iter().any(|o| names(o).contains_key(name)))
            .collect();
        *properties = kept;
    }
    left
}

#[test]
fn a_schema_becomes_rows() {
    let schema = serde_json::json!({
        "properties": {
            "path": {"type": "string", "description": "Where it is."},
            "size": {"type": "integer", "format": "byte-size", "default": 134_217_728, "description": "How big."},
            "start": {"$ref": "#/$defs/Start", "default": "early", "description": "Where to\nbegin.", ALIASES: ["from"]},
            "wait": {"type": ["string", "null"], "format": "duration", "description": "How long. Default: for ever."},
        },
        "patternProperties": {"^fields\\..+\\.kind$": {"type": ["string", "null"], "description": "What."}},
        "required": ["path"],
        "$defs": {"Start": {"oneOf": [{"const": "early", "description": "First."}, {"enum": ["late"]}]}},
    });
    let expected = "\
| option | value | default | meaning |
|---|---|---|---|
| `path` | text | **required** | Where it is. |
| `size` | size | `128MB` | How big. |
| `start`<br>or `from` | `early` or `late` | `early` | Where to begin.<br>`early`: First. |
| `wait` | duration | for ever | How long. |
| `fields.<column>.kind` | text |  | What. |
";
    assert_eq!(as_table(&rows(Some(&schema))), expected);
}
