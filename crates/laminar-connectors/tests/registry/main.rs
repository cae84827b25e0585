//! The schema registry's client, and Kafka tables with it, against a real registry and a real Kafka: LAMINAR_TEST_REGISTRY and
//! LAMINAR_TEST_KAFKA say where they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod client;
#[path = "../kafka/support.rs"]
#[allow(dead_code)] // what the tests of Kafka itself need
mod support;
mod tables;

use laminar_connectors::schema_registry::RegistryClient;
use laminar_core::Options;
use laminar_formats::registry::RegistryOptions;

pub fn endpoint() -> String {
    std::env::var("LAMINAR_TEST_REGISTRY")
        .expect("LAMINAR_TEST_REGISTRY is not set: run `make test`, or eval \"$(scripts/parts.sh start registry)\"")
}

pub fn client_at(endpoint: &str) -> RegistryClient {
    let options: RegistryOptions = Options::default().parse("registry").unwrap();
    let options = RegistryOptions { endpoint: Some(vec![endpoint.to_string()]), ..options };
    RegistryClient::new(&options).unwrap()
}

/// Sets the subject's rule, by the registry's own REST.
pub async fn compatibility(subject: &str, rule: &str) {
    let body = format!(r#"{{"compatibility":"{rule}"}}"#);
    let request = reqwest::Client::new().put(format!("{}/config/{subject}", endpoint()));
    let request = request.header("Content-Type", "application/vnd.schemaregistry.v1+json").body(body);
    request.send().await.unwrap().error_for_status().unwrap();
}
