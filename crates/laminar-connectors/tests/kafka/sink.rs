//! Writing: what arrives, where, in which order, and with which key.

use std::collections::HashMap;

use arrow::datatypes::DataType;
use laminar_core::sink::{ChangeSupport, Delivery};
use laminar_core::table::TableSpec;
use laminar_core::{ChangeKind, Changes, Code, Epoch, Retry};

use super::support::*;

async fn at_least_once(pairs: &[(&str, &str)]) -> Box<dyn laminar_core::sink::SinkWriter> {
    let mut all = pairs.to_vec();
    all.push(("delivery", "at_least_once"));
    let sink = Installation::new().sink(&all).unwrap();
    assert_eq!(sink.delivery(), Delivery::AtLeastOnce);
    assert!(sink.committer().is_none());
    sink.open(&task(0)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_rows_are_there_after_a_flush() {
    let topic = topic("sink", 1).await;
    let mut writer = at_least_once(&[("topic", &topic)]).await;
    writer.write(&changes(names(0..3))).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    let found = read(&topic, "read_committed").await;
    assert_eq!(values(&found), [r#"{"id":0,"name":"n0"}"#, r#"{"id":1,"name":"n1"}"#, r#"{"id":2,"name":"n2"}"#]);
    assert!(found.iter().all(|f| f.key.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_key_stay_in_one_partition_and_in_order() {
    let topic = topic("sink", 4).await;
    let mut writer = at_least_once(&[("topic", &topic), ("key_field", "name"), ("linger_ms", "1")]).await;
    for batch in 0..20 {
        let rows = (0..3000).map(|i| (batch * 3000 + i, format!("key-{}", i % 97)));
        writer.write(&changes(rows)).await.unwrap();
    }
    writer.flush(Epoch(1)).await.unwrap();
    let found = read(&topic, "read_committed").await;
    assert_eq!(found.len(), 60_000);
    let mut last: HashMap<&str, (i32, i64)> = HashMap::new();
    for f in &found {
        let id: i64 =
            serde_json::from_str::<serde_json::Value>(f.value.as_deref().unwrap()).unwrap()["id"].as_i64().unwrap();
        let entry = last.entry(f.key.as_deref().unwrap()).or_insert((f.partition, -1));
        assert_eq!(entry.0, f.partition);
        assert!(entry.1 < id);
        entry.1 = id;
    }
    assert_eq!(last.len(), 97);
}

/// Partitions of these keys among four, as the Java client's default partitioner chooses them: its own test vectors of
/// murmur2, made positive, modulo 4.
#[tokio::test(flavor = "multi_thread")]
async fn keys_go_where_the_java_client_sends_them() {
    let hashes: [(&str, i32); 5] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ];
    let topic = topic("sink", 4).await;
    let mut writer = at_least_once(&[("topic", &topic), ("key_field", "name")]).await;
    writer.write(&changes(hashes.iter().map(|(key, _)| (0, key.to_string())))).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    for f in read(&topic, "read_committed").await {
        let key = f.key.unwrap();
        let hash = hashes.iter().find(|(k, _)| *k == key).unwrap().1;
        assert_eq!(f.partition, (hash & 0x7fff_ffff) % 4, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integer_or_the_primary_key_can_be_the_key() {
    let topic = topic("sink", 1).await;
    let mut table = table();
    table.primary_key = vec!["id".into()];
    let pairs = [("topic", topic.as_str()), ("delivery", "at_least_once")];
    let sink = Installation::new().sink_of(&table, &pairs, None).unwrap();
    let mut writer = sink.open(&task(0)).await.unwrap();
    writer.write(&changes([(7, "x".to_string())])).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    assert_eq!(read(&topic, "read_committed").await[0].key.as_deref(), Some("7"));
}

/// Key and value of each record; `-` for a tombstone.
fn shown(found: &[Found]) -> Vec<String> {
    found
        .iter()
        .map(|f| format!("{} {}", f.key.as_deref().unwrap_or("null"), f.value.as_deref().unwrap_or("-")))
        .collect()
}

/// What a sink with this primary key makes of the changes.
async fn written(changes: &Changes, key: &[&str], more: &[(&str, &str)]) -> laminar_core::Result<Vec<String>> {
    let topic = topic("sink", 1).await;
    let table = TableSpec { primary_key: key.iter().map(|name| name.to_string()).collect(), ..table() };
    let pairs = [&[("topic", topic.as_str()), ("delivery", "at_least_once")], more].concat();
    let sink = Installation::new().sink_of(&table, &pairs, None).unwrap();
    let mut writer = sink.open(&task(0)).await.unwrap();
    let outcome = writer.write(changes).await;
    assert_eq!(sink.changes() == ChangeSupport::Changes, outcome.is_ok(), "{outcome:?}");
    outcome?;
    writer.flush(Epoch(1)).await?;
    Ok(shown(&read(&topic, "read_committed").await))
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_the_last_row_under_the_primary_key() {
    use ChangeKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let rows = [(1, "a"), (2, "x"), (1, "a"), (1, "b"), (2, "x"), (3, "y")].map(|(id, name)| (id, name.to_string()));
    let kinds = [Insert, Insert, UpdateBefore, UpdateAfter, Delete, Delete].into_iter().collect();
    let inserts = changes(rows);
    let changes = Changes::new(inserts.rows().clone(), inserts.times().clone(), Some(kinds)).unwrap();
    let upserts = written(&changes, &["id"], &[]).await.unwrap();
    assert_eq!(upserts, [r#"1 {"id":1,"name":"b"}"#, "3 -"]);
    let upserts = written(&changes, &["id", "name"], &[]).await.unwrap();
    assert_eq!(upserts, [r#"{"id":1,"name":"b"} {"id":1,"name":"b"}"#, r#"{"id":3,"name":"y"} -"#]);
    let envelopes = written(&changes, &["id"], &[("format", "debezium_json")]).await.unwrap();
    let expected = [
        r#"1 {"before":null,"after":{"id":1,"name":"b"},"op":"c"}"#,
        r#"3 {"before":{"id":3,"name":"y"},"after":null,"op":"d"}"#,
    ];
    assert_eq!(envelopes, expected);
    let envelopes = written(&changes, &["id"], &[("format", "debezium_json"), ("sink.key", "k-${.id}")]).await.unwrap();
    assert_eq!(envelopes, expected.map(|envelope| format!("k-{envelope}")));
    for (key, more) in [(&[][..], &[][..]), (&["id"], &[("key_field", "name")])] {
        assert_eq!(written(&changes, key, more).await.unwrap_err().code(), Code::NotSupported, "{key:?} {more:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_are_refused() {
    let check = |key: &str, code: Code, hint: Option<&str>| {
        let error = Installation::new().sink(&[("topic", "t"), ("key_field", key)]).err().unwrap();
        assert_eq!((error.code(), error.hint()), (code, hint), "{error:?}");
    };
    check("nmae", Code::UnknownColumn, Some("did you mean name?"));
    let mut table = table();
    table.columns[0].data_type = DataType::Float64;
    let error = Installation::new().sink_of(&table, &[("topic", "t"), ("key_field", "id")], None).err().unwrap();
    assert_eq!(error.code(), Code::TypeMismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_pass_through_bounded_buffers() {
    let topic = topic("sink", 2).await;
    let pairs = [("topic", topic.as_str()), ("queue.buffering.max.messages", "5000"), ("compression", "lz4")];
    let mut writer = at_least_once(&pairs).await;
    for batch in 0..30 {
        writer.write(&changes(names(batch * 10_000..(batch + 1) * 10_000))).await.unwrap();
    }
    writer.flush(Epoch(1)).await.unwrap();
    let mut found: Vec<i64> = Vec::new();
    for f in read(&topic, "read_committed").await {
        found.push(
            serde_json::from_str::<serde_json::Value>(f.value.as_deref().unwrap()).unwrap()["id"].as_i64().unwrap(),
        );
    }
    found.sort_unstable();
    assert!(found.into_iter().eq(0..300_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_broker_refuses_fails_the_writer() {
    let topic = topic("sink", 1).await;
    let mut writer = at_least_once(&[("topic", &topic)]).await;
    writer.write(&changes([(1, "x".repeat(2_000_000))])).await.unwrap();
    let error = writer.flush(Epoch(1)).await.err().unwrap();
    assert_eq!((error.code(), error.retry()), (Code::RowTooLarge, Retry::Never), "{error:?}");

    let mut writer = at_least_once(&[("topic", &topic), ("message.max.bytes", "1000000")]).await;
    let error = writer.write(&changes([(1, "x".repeat(2_000_000))])).await.err().unwrap();
    assert_eq!((error.code(), error.retry()), (Code::RowTooLarge, Retry::Never), "{error:?}");
    assert!(error.hint().unwrap().contains("message.max.bytes"), "{error:?}");
    assert!(error.detail().unwrap().contains("of 2000018 bytes, and message.max.bytes is 1000000"), "{error:?}");
    assert_eq!(writer.flush(Epoch(1)).await.err().unwrap().code(), Code::RowTooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_created_where_the_broker_does_so() {
    let topic = unique("created");
    let mut writer = at_least_once(&[("topic", &topic)]).await;
    writer.write(&changes(names(0..1))).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();
    assert_eq!(read(&topic, "read_committed").await.len(), 1);
}
