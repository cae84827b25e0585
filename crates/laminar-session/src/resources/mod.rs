//! The system's resources as the REST API and system tables show them.

mod clusters;
mod connections;
mod connectors;
mod jobs;
mod metrics_text;
mod pipelines;
mod tables;

use chrono::{DateTime, SecondsFormat};
use laminar_core::Options;
use laminar_core::options::OptionEntry;
use laminar_core::{Code, Error, Result};
use laminar_engine::metrics::OperatorKind;
use laminar_planner::resolver::is_placeholder;
use serde_json::{Map, Value};

pub(crate) fn kind_text(kind: OperatorKind) -> &'static str {
    match kind {
        OperatorKind::Source => "source",
        OperatorKind::Transform => "operator",
        OperatorKind::Sink => "sink",
    }
}

/// RFC 3339 in UTC.
pub(crate) fn time_text(millis: i64) -> String {
    DateTime::from_timestamp_millis(millis).map(|t| t.to_rfc3339_opts(SecondsFormat::Millis, true)).unwrap_or_default()
}

/// Options as a JSON object, with what may be a credential masked.
pub(crate) fn masked(options: &Options, secret_names: &[String]) -> Map<String, Value> {
    let shown = |e: &OptionEntry| {
        let value = if hides(&e.key, &e.value, secret_names) { "****" } else { e.value.as_str() };
        (e.key.clone(), Value::from(value))
    };
    options.iter().map(shown).collect()
}

/// Must the value not be shown? The connector's schema says which options are passwords; names of options that are passed
/// through to a client library are judged by their words.
pub(crate) fn hides(key: &str, value: &str, secret_names: &[String]) -> bool {
    const WORDS: [&str; 6] = ["password", "secret", "token", "credential", "api_key", "jaas"];
    let key_lower = key.to_ascii_lowercase();
    let is_key_text = key_lower.contains("ssl.key.pem") || key_lower.contains("private_key");
    let secret = secret_names.iter().any(|n| n == key) || is_key_text || WORDS.iter().any(|w| key_lower.contains(w));
    secret && !is_placeholder(value)
}

/// Names of the options that a connector's schemas mark as passwords.
pub(crate) fn password_options(schemas: [Option<Value>; 2]) -> Vec<String> {
    let properties =
        schemas.into_iter().flatten().filter_map(|s| s.get("properties").and_then(Value::as_object).cloned());
    properties
        .flatten()
        .filter(|(_, p)| p.get("format").and_then(Value::as_str) == Some("password"))
        .map(|(k, _)| k)
        .collect()
}

/// A JSON object of option values as SQL options. Errors: `invalid_option` for a value that is neither text, number nor
/// boolean.
pub(crate) fn options_from_json(config: &Map<String, Value>) -> Result<Options> {
    let mut entries = Vec::with_capacity(config.len());
    for (key, value) in config {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(items) if items.iter().all(Value::is_string) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(Error::new(
                    Code::InvalidOption,
                    format!("option {key} cannot be an object or a list of objects"),
                )
                .with_field(format!("config.{key}")));
            }
        };
        entries.push(OptionEntry { key: key.clone(), value, location: None });
    }
    Options::new(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked_and_references_are_not() {
        let secrets = ["auth.pass".to_string()];
        for (key, value, hidden) in [
            ("topic", "orders", false),
            ("auth.pass", "x", true),
            ("sasl.password", "x", true),
            ("sasl.password", "${secret:kafka}", false),
            ("client_secret", "x${secret:kafka}", true),
        ] {
            assert_eq!(hides(key, value, &secrets), hidden, "{key} = {value}");
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time_text(1_732_000_000_123), "2024-11-19T07:06:40.123Z");
    }
}
