//! Kafka tables in Avro: what a sink writes a source reads, through topic and registry.

use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use laminar_connectors::kafka::KafkaConnector;
use laminar_core::connector::{Connector, Role, SourceContext};
use laminar_core::sink::ChangeSupport;
use laminar_core::source::Fetched;
use laminar_core::table::{Column, TableSpec};
use laminar_core::time::SystemClock;
use laminar_core::{ChangeKind, Changes, Code, Epoch};
use laminar_formats::registry::SchemaRegistry;
use std::sync::Arc;

use super::support::*;
use super::{client_at, compatibility, endpoint};

fn avro<'a>(topic: &'a str, endpoint: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("topic", topic), ("format", "avro"), ("schema_registry.endpoint", endpoint)]
}

fn at_least_once<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [pairs, &[("delivery", "at_least_once")]].concat()
}

/// The rows of the topic as a table of these columns reads them, and how many records were bad.
async fn rows(pairs: &[(&str, &str)], table: &TableSpec, count: usize) -> (String, usize) {
    let ctx = SourceContext { pipeline: None, clock: Arc::new(SystemClock), partitions: None };
    let source = KafkaConnector::new().source(&options(pairs), table, &ctx).unwrap();
    let mut decoder = source.decoder().unwrap().unwrap();
    let mut reader = reader(&source).await;
    let (mut seen, mut bad) = (0, 0);
    while seen < count {
        let fetched = tokio::time::timeout(SOON, reader.next(LIMIT)).await.expect("no more records").unwrap();
        let Fetched::Records(fetched) = fetched else { panic!("not records") };
        for index in 0..fetched.records.len() {
            seen += 1;
            bad += usize::from(decoder.push(&fetched.records.get(index)).is_err());
        }
    }
    let batches: Vec<_> = decoder.flush().unwrap().iter().map(|changes| changes.rows().clone()).collect();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let lines = text.lines().filter(|line| line.starts_with('|')).skip(1);
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
    (lines.map(cells).collect::<Vec<_>>().join("; "), bad)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_writes_a_source_reads() {
    let (topic, endpoint) = (topic("avro", 1).await, endpoint());
    let pairs = avro(&topic, &endpoint);
    let sink = Installation::new().sink(&at_least_once(&pairs)).unwrap();
    let mut writer = sink.open(&task(0)).await.unwrap();
    writer.write(&changes(names(0..3))).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    let schema = client_at(&endpoint).latest(&format!("{topic}-value")).unwrap();
    assert!(schema.text.contains(r#""name":"id""#), "{}", schema.text);
    assert_eq!(rows(&pairs, &table(), 3).await, ("0|n0; 1|n1; 2|n2".into(), 0));
    // Noise in between is bad and nothing else.
    put(&topic, [value(0, "{\"id\":1}")]);
    writer.write(&changes(names(3..4))).await.unwrap();
    writer.flush(Epoch(2)).await.unwrap();
    assert_eq!(rows(&pairs, &table(), 5).await, ("0|n0; 1|n1; 2|n2; 3|n3".into(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_more_columns_reads_older_rows() {
    let (topic, endpoint) = (topic("avro", 1).await, endpoint());
    let pairs = avro(&topic, &endpoint);
    let sink = Installation::new().sink(&at_least_once(&pairs)).unwrap();
    let mut writer = sink.open(&task(0)).await.unwrap();
    writer.write(&changes(names(0..1))).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    let newer = r#"{"type":"record","name":"t","fields":[{"name":"id","type":["null","long"],"default":null},
        {"name":"label","aliases":["name"],"type":["null","string"],"default":null},
        {"name":"kind","type":"string","default":"plain"}]}"#;
    let newer =
        laminar_formats::registry::SchemaText { kind: laminar_formats::registry::SchemaKind::Avro, text: newer.into() };
    let subject = format!("{topic}-value");
    compatibility(&subject, "NONE").await;
    client_at(&endpoint).register(&subject, &newer).unwrap();
    let column = |name: &str, data_type: DataType| Column {
        name: name.into(),
        data_type,
        nullable: true,
        json: false,
        metadata: None,
    };
    let columns = vec![column("id", DataType::Int64), column("label", DataType::Utf8), column("kind", DataType::Utf8)];
    let wider = TableSpec { columns, projection: vec![0, 1, 2], ..table() };
    assert_eq!(rows(&pairs, &wider, 1).await, ("0|n0|plain".into(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_does_not_register_needs_the_schema_there() {
    let (topic, endpoint) = (topic("avro", 1).await, endpoint());
    let pairs = at_least_once(&avro(&topic, &endpoint));
    let looking = [pairs.as_slice(), &[("auto.register.schemas", "false")]].concat();
    let sink = Installation::new().sink(&looking).unwrap();
    let mut writer = sink.open(&task(0)).await.unwrap();
    let error = writer.write(&changes(names(0..1))).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownSchema);
    let sink = Installation::new().sink(&pairs).unwrap();
    let mut registering = sink.open(&task(0)).await.unwrap();
    registering.write(&changes(names(0..1))).await.unwrap();
    registering.flush(Epoch(1)).await.unwrap();
    writer.write(&changes(names(1..2))).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    assert_eq!(rows(&avro(&topic, &endpoint), &table(), 2).await, ("0|n0; 1|n1".into(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_with_a_primary_key_takes_changes() {
    let (topic, endpoint) = (topic("avro", 1).await, endpoint());
    let keyed = TableSpec { primary_key: vec!["id".into()], ..table() };
    let sink = Installation::new().sink_of(&keyed, &at_least_once(&avro(&topic, &endpoint)), None).unwrap();
    assert_eq!(sink.changes(), ChangeSupport::Changes);
    let mut writer = sink.open(&task(0)).await.unwrap();
    writer.write(&changes(names(0..2))).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    let keys: Vec<_> = read(&topic, "read_committed").await.into_iter().map(|found| found.key.unwrap()).collect();
    assert_eq!(keys, ["0", "1"]);
    assert_eq!(rows(&avro(&topic, &endpoint), &table(), 2).await, ("0|n0; 1|n1".into(), 0));
}

/// Keys have a schema of their own, values may have none.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_registered_under_a_subject_of_their_own() {
    let (topic, endpoint) = (topic("avro", 1).await, endpoint());
    let keyed = TableSpec { primary_key: vec!["id".into()], ..table() };
    let pairs = [("topic", topic.as_str()), ("schema_registry.endpoint", &endpoint), ("key.format", "avro")];
    let sink = Installation::new().sink_of(&keyed, &at_least_once(&pairs), None).unwrap();
    assert_eq!(sink.changes(), ChangeSupport::Changes);
    let mut writer = sink.open(&task(0)).await.unwrap();
    writer.write(&changes(names(0..2))).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    let client = client_at(&endpoint);
    let schema = client.latest(&format!("{topic}-key")).unwrap();
    assert!(schema.text.contains(r#""name":"id""#) && !schema.text.contains("label"), "{}", schema.text);
    assert_eq!(client.latest(&format!("{topic}-value")).unwrap_err().code(), Code::UnknownSchema);
    // The row that is gone leaves a tombstone with the same key, which is read as a delete.
    let rows_gone = changes(names(1..2));
    let kinds = [ChangeKind::Delete].into_iter().collect();
    let gone = Changes::new(rows_gone.rows().clone(), rows_gone.times().clone(), Some(kinds)).unwrap();
    writer.write(&gone).await.unwrap();
    writer.flush(Epoch(2)).await.unwrap();
    let keys: Vec<String> = read(&topic, "read_committed").await.into_iter().map(|found| found.key.unwrap()).collect();
    assert!(keys.iter().all(|key| key.starts_with('\0')) && keys[1] == keys[2] && keys[0] != keys[1], "{keys:?}");
    let pairs = [pairs.as_slice(), &[("upsert", "true")]].concat();
    let (text, bad) = rows(&pairs, &keyed, 3).await;
    assert_eq!((text.as_str(), bad), ("0|n0; 1|n1; 1|", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn create_table_asks_the_registry() {
    let (topic, endpoint) = (topic("avro", 1).await, endpoint());
    let connector = KafkaConnector::new();
    let pairs = avro(&topic, &endpoint);
    connector.check_outside(Role::Source, &options(&pairs)).await.unwrap();
    connector.check_outside(Role::Sink, &options(&pairs)).await.unwrap();
    let stages = connector.test(&options(&pairs)).await;
    let registry = stages.iter().find(|stage| stage.stage == "registry").unwrap();
    assert_eq!(registry.message, format!("subject {topic}-value has no schema yet"));
    let nowhere = avro(&topic, "http://127.0.0.1:1");
    let error = connector.check_outside(Role::Source, &options(&nowhere)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unreachable);
    let stages = connector.test(&options(&nowhere)).await;
    assert!(stages.iter().any(|stage| stage.stage == "registry" && !stage.ok), "{stages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_tested_without_a_topic_or_format() {
    let connector = KafkaConnector::new();
    for (endpoint, ok) in [(endpoint(), true), ("http://127.0.0.1:1".to_string(), false)] {
        let stages = connector.test(&options(&[("schema_registry.endpoint", &endpoint)])).await;
        let registry = stages.iter().find(|stage| stage.stage == "registry").unwrap();
        assert_eq!(registry.ok, ok, "{stages:?}");
        assert!(registry.message.contains(if ok { "registry answers" } else { "cannot be reached" }), "{stages:?}");
    }
}

#[test]
fn options_that_contradict_are_refused_without_asking_anyone() {
    let code = |pairs: &[(&str, &str)]| {
        let all = [&[("topic", "t")], pairs].concat();
        KafkaConnector::new().check_table(Role::Source, &options(&all), &table()).err().map(|error| error.code())
    };
    let (avro, at) = (("format", "avro"), ("schema_registry.endpoint", "http://localhost:1"));
    assert_eq!(code(&[avro, at]), None);
    assert_eq!(code(&[avro]), Some(Code::MissingOption));
    assert_eq!(code(&[("format", "confluent_avro")]), Some(Code::MissingOption));
    assert_eq!(code(&[avro, ("schema_registry.endpoint", "localhost:8081")]), Some(Code::InvalidOption));
    assert_eq!(code(&[avro, ("schema_registry.endpoint", "http://me:secret@h")]), Some(Code::InvalidOption));
    assert_eq!(code(&[avro, at, ("schema_registry.api_secret", "x")]), Some(Code::MissingOption));
    assert_eq!(code(&[avro, at, ("schema_registry.url", "http://x")]), Some(Code::UnknownOption));
    assert_eq!(code(&[avro, ("schema.registry.url", "http://x"), ("schema.registry.subject", "s")]), None);
    assert_eq!(code(&[avro, at, ("schema.registry.strategy", "topic")]), Some(Code::InvalidOption));
    assert_eq!(code(&[("format", "json"), ("avro.schema", "{}")]), Some(Code::ConflictingOptions));
}
