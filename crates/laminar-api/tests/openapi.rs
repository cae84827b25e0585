//! The API's description in the repository is the one that the code makes. `UPDATE_EXPECT=1 cargo test` rewrites it.

// A test may fail by panicking; clippy excuses only the functions marked #[test].
#![allow(clippy::unwrap_used, clippy::expect_used)] // a failed test panics

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

#[test]
fn the_description_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    let mut current = laminar_api::openapi().to_pretty_json().unwrap();
    current.push('\n');
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &current).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == current,
        "{} is out of date; UPDATE_EXPECT=1 cargo test -p laminar-api --test openapi",
        path.display()
    );
}

#[test]
fn every_operation_has_an_id_of_its_own() {
    let api = serde_json::to_value(laminar_api::openapi()).unwrap();
    let paths = api["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|path| path.as_object().unwrap().values());
    let mut ids: Vec<&str> = operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn every_operation_has_a_request_in_the_postman_collection() {
    let api = serde_json::to_value(laminar_api::openapi()).unwrap();
    let mut missing: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, operations) in api["paths"].as_object().unwrap() {
        missing.extend(operations.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    let operations = missing.clone();
    let mut unknown = Vec::new();
    for (method, path) in postman_requests() {
        // Of the templates that fit, the one with the fewest parameters, as the router chooses.
        let fitting = operations.iter().filter(|(m, template)| *m == method && fits(template, &path));
        match fitting.min_by_key(|(_, template)| template.matches('{').count()) {
            Some(operation) => drop(missing.remove(operation)),
            None => unknown.push(format!("{method} {path}")),
        }
    }
    assert!(missing.is_empty(), "no request for {missing:?}");
    assert_eq!(unknown, ["GET /nope"], "only the request for an unknown path may have no operation");
}

/// Method and path of each request, without the base URL and the query string.
fn postman_requests() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../postman-collections/Kafka-Connector-Tests.postman_collection.json");
    let collection: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut folders = vec![&collection];
    let mut requests = Vec::new();
    while let Some(folder) = folders.pop() {
        for item in folder["item"].as_array().unwrap() {
            if item["item"].is_array() {
                folders.push(item);
                continue;
            }
            let url = item["request"]["url"]["raw"].as_str().unwrap();
            let path = url.strip_prefix("{{base_url}}").expect("a request goes to the server under test");
            let path = path.split('?').next().unwrap_or(path);
            requests.push((item["request"]["method"].as_str().unwrap().to_string(), path.to_string()));
        }
    }
    requests
}

/// Does the path fit the template, where `{…}` stands for one part?
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(&path).all(|(t, p)| t.starts_with('{') || t == p)
}
