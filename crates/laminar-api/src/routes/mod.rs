//! The resources, one file each. A handler takes typed parts of the request, calls the system, and returns its answer.

pub mod clusters;
pub mod connections;
pub mod connectors;
pub mod jobs;
pub mod metrics;
pub mod openapi;
pub mod ping;
pub mod pipelines;
pub mod sql;
pub mod tables;

use std::future::Future;

use laminar_core::{Error, Result};
use serde_json::{Map, Value};
use tracing::Instrument;

/// Jobs, checkpoints or errors that a filtered list looks through, newest first.
const SCAN_LIMIT: usize = 10_000;

/// Runs a change to its end even if the client leaves half-way: nothing is half created.
async fn uninterrupted<T: Send + 'static>(change: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(change.in_current_span()).await {
        Ok(outcome) => outcome,
        Err(_panic) => Err(Error::internal("the request failed because of a fault in the server")),
    }
}

/// Option names in our spelling: `bootstrapServers` is `bootstrap_servers`. Dotted names are the outside system's own and
/// stay as they are.
fn option_names(config: Map<String, Value>) -> Map<String, Value> {
    config.into_iter().map(|(name, value)| (if name.contains('.') { name } else { snake_case(&name) }, value)).collect()
}

fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            if !out.is_empty() && !out.ends_with('_') {
                out.push('_');
            }
            out.push(letter.to_ascii_lowercase());
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_names_are_in_snake_case() {
        let config = serde_json::json!({"bootstrapServers": "a", "fetch.maxWait": "b", "group_id": "c"});
        let Value::Object(config) = config else { panic!("not an object") };
        let names: Vec<String> = option_names(config).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["bootstrap_servers", "fetch.maxWait", "group_id"]);
    }
}
