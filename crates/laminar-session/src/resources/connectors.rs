//! Connectors as resources: what each can do, and the JSON schemas of its options.

use std::sync::Arc;

use laminar_core::connector::Connector;
use laminar_core::sink::Delivery;
use serde_json::Value;

use crate::{ConfigurationSchemas, ConnectorInfo, MetadataColumnInfo, System};

impl System {
    /// In the order of their names.
    pub fn connectors(&self) -> Vec<ConnectorInfo> {
        self.config.registry.iter().map(info).collect()
    }
}

fn info(connector: &Arc<dyn Connector>) -> ConnectorInfo {
    let source = connector.source_schema();
    let sink = connector.sink_schema();
    let roles = [source.as_ref().map(|_| "source"), sink.as_ref().map(|_| "sink")];
    let formats = formats(source.as_ref().or(sink.as_ref()));
    let features = [
        ("source", source.is_some()),
        ("sink", sink.is_some()),
        ("metadata_columns", !connector.metadata_columns().is_empty()),
        ("exactly_once", sink.is_some() && connector.sink_delivery() == Delivery::ExactlyOnce),
    ];
    let metadata = connector.metadata_columns().iter().map(|m| MetadataColumnInfo {
        key: m.key.to_string(),
        column: m.column.to_string(),
        data_type: m.sql_type.to_string(),
        description: m.description.to_string(),
    });
    ConnectorInfo {
        id: connector.name().to_string(),
        name: connector.name().to_string(),
        description: connector.description().to_string(),
        category: category(connector.name()).to_string(),
        roles: roles.into_iter().flatten().map(str::to_string).collect(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        features: features.into_iter().map(|(name, has)| (name.to_string(), has)).collect(),
        supported_formats: formats,
        metadata_columns: metadata.collect(),
        configuration_schema: ConfigurationSchemas { source, sink },
    }
}

fn category(connector: &str) -> &'static str {
    match connector {
        "kafka" => "messaging",
        "single_file" | "filesystem" => "files",
        "impulse" | "datagen" | "nexmark" => "generator",
        _ => "debugging",
    }
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(name)
}

/// Values that the option `format` can have; none if the connector has no such option.
fn formats(schema: Option<&Value>) -> Vec<String> {
    let Some(schema) = schema else { return Vec::new() };
    let Some(format) = property(schema, "format") else { return Vec::new() };
    let mut found = Vec::new();
    collect_constants(schema, format, &mut found, 0);
    found
}

/// Follows references and alternatives down to the constants.
fn collect_constants(root: &Value, schema: &Value, found: &mut Vec<String>, depth: usize) {
    const DEPTH: usize = 8;
    if depth > DEPTH {
        return;
    }
    let texts = schema.get("enum").and_then(Value::as_array).into_iter().flatten().chain(schema.get("const"));
    found.extend(texts.filter_map(Value::as_str).map(str::to_string));
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.strip_prefix('#')?));
    if let Some(target) = target {
        collect_constants(root, target, found, depth + 1);
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        for part in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
            collect_constants(root, part, found, depth + 1);
        }
    }
}
