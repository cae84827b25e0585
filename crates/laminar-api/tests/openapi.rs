//! The API's description in the repository is the one that the code makes. `UPDATE_EXPECT=1 cargo test` rewrites it.

use std::path::Path;

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
