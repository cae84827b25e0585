//! Which columns become what of a record, and how each mistake is told.

use laminar_core::Options;
use laminar_core::connector::Role;

use super::*;
use crate::kafka::options::Written;

fn column(name: &str, data_type: DataType) -> Column {
    Column { name: name.into(), data_type, nullable: true, json: false, metadata: None }
}

/// The plan of a sink with these columns and options, or the error.
fn plan(columns: &[(&str, DataType)], key: &[&str], pairs: &[(&str, &str)]) -> Result<Fields> {
    let columns: Vec<Column> = columns.iter().map(|(name, data_type)| column(name, data_type.clone())).collect();
    let projection = (0..columns.len()).collect();
    let primary_key = key.iter().map(ToString::to_string).collect();
    let table = TableSpec { name: "t".into(), columns, projection, event_time: None, primary_key };
    let mut all = vec![("bootstrap_servers", "b")];
    all.extend_from_slice(pairs);
    Fields::new(&Written::read(&Options::from_pairs(all), Some(Role::Sink), None)?.sink()?, &table)
}

#[track_caller]
fn check(columns: &[(&str, DataType)], key: &[&str], pairs: &[(&str, &str)], expected: &str) {
    let text = match plan(columns, key, pairs) {
        Ok(fields) => {
            let value: Vec<_> = fields.value.columns.iter().map(|c| c.name.as_str()).collect();
            let mut parts = vec![format!("value {}", value.join(","))];
            let places = [
                ("partition", fields.partition),
                ("timestamp", fields.timestamp),
                ("topic", fields.topic),
                ("headers", fields.headers),
            ];
            let name = |index: &usize| columns[*index].0;
            parts.extend(places.iter().filter_map(|(what, index)| Some(format!("{what} {}", name(index.as_ref()?)))));
            match fields.key.columns {
                KeyColumns::None => {}
                KeyColumns::One(index) => parts.push(format!("key {}", name(&index))),
                KeyColumns::Object(all) => {
                    parts.push(format!("key {{{}}}", all.iter().map(name).collect::<Vec<_>>().join(",")));
                }
            }
            parts.join("; ")
        }
        Err(error) => format!("{error:?}"),
    };
    assert!(text.starts_with(expected), "{pairs:?}\n{text}\n{expected}");
}

use DataType::{Binary, Float64, Int64, Utf8};

const TOPIC: (&str, &str) = ("topic", "x");

#[test]
fn columns_say_by_option_or_by_name_what_they_are() {
    let rows = &[("id", Int64), ("name", Utf8), ("at", Int64), ("to", Utf8)];
    check(rows, &[], &[TOPIC], "value id,name,at,to");
    check(
        rows,
        &[],
        &[TOPIC, ("partition_field", "ID"), ("timestamp_field", "at")],
        "value id,name,at,to; partition id; timestamp at",
    );
    check(rows, &[], &[("topic_field", "to"), ("value.exclude", "to, at")], "value id,name; topic to");
    check(rows, &[], &[TOPIC, ("key_field", "name")], "value id,name,at,to; key name");
    check(rows, &[], &[TOPIC, ("key_field", "id, name")], "value id,name,at,to; key {id,name}");
    check(rows, &[], &[TOPIC, ("key_field", "id"), ("key.format", "json")], "value id,name,at,to; key {id}");
    let registry = ("schema_registry.endpoint", "http://r");
    for format in ["avro", "protobuf", "confluent_json"] {
        let format = ("key.format", format);
        check(rows, &["id"], &[TOPIC, registry, format], "value id,name,at,to; key {id}");
        check(rows, &[], &[TOPIC, registry, format, ("key_field", "id,at")], "value id,name,at,to; key {id,at}");
    }
    check(rows, &["id"], &[TOPIC], "value id,name,at,to; key id");
    check(rows, &["id"], &[TOPIC, ("sink.key", "snot")], "value id,name,at,to");
    let all = &[
        ("v", Utf8),
        ("_kafka_key", Binary),
        ("_kafka_partition", Int64),
        ("_kafka_timestamp", Int64),
        ("_kafka_topic", Utf8),
        ("_kafka_headers", Utf8),
    ];
    let expected = "value v; partition _kafka_partition; timestamp _kafka_timestamp; topic _kafka_topic; headers _kafka_headers; key _kafka_key";
    check(all, &[], &[], expected);
    let raw = &[("key", Binary), ("value", Binary), ("timestamp", Int64), ("partition", Int64)];
    check(raw, &[], &[TOPIC, ("format", "raw")], "value value; partition partition; timestamp timestamp; key key");
    check(&[("key", Utf8)], &[], &[TOPIC, ("format", "raw")], "value key");
}

#[test]
fn emqx_and_tremor_names_mean_the_same() {
    let rows = &[("clientid", Utf8), ("timestamp", Int64)];
    let pairs =
        [TOPIC, ("message.timestamp", "${.timestamp}"), ("message.key", "${.clientid}"), ("message.value", "${.}")];
    check(rows, &[], &pairs, "value clientid,timestamp; timestamp timestamp");
    let plan = plan(rows, &[], &pairs).unwrap();
    assert!(plan.key.template.is_some() && plan.template.is_some());
}

#[test]
fn what_cannot_be_is_refused() {
    let rows = &[("id", Int64), ("name", Utf8), ("temperature", Float64)];
    check(
        rows,
        &[],
        &[],
        "missing_option: connector kafka needs option topic: no column names a row's topic (hint: add topic = '…', or topic_field and the name of a column)",
    );
    check(
        rows,
        &[],
        &[TOPIC, ("partition_field", "nmae")],
        "unknown_column: table t has no column nmae (hint: did you mean name?)",
    );
    check(
        rows,
        &[],
        &[TOPIC, ("partition_field", "name")],
        "type_mismatch: column name cannot be the record's partition: a partition is an integer, and the column is TEXT",
    );
    check(
        rows,
        &[],
        &[TOPIC, ("timestamp_field", "temperature")],
        "type_mismatch: column temperature cannot be the record's timestamp: a timestamp is a TIMESTAMP, or an integer of milliseconds, and the column is DOUBLE",
    );
    check(
        rows,
        &[],
        &[("topic_field", "id")],
        "type_mismatch: column id cannot be the record's topic: a topic is TEXT, and the column is BIGINT",
    );
    check(
        rows,
        &[],
        &[TOPIC, ("key_field", "temperature")],
        "type_mismatch: column temperature cannot be the record's key: a key is text, an integer or bytes (hint: key.format = 'json' writes any type, as an object)",
    );
    check(
        rows,
        &[],
        &[TOPIC, ("key.format", "json")],
        "conflicting_options: key.format is given, and records have no key (hint: add key_field)",
    );
    check(
        rows,
        &[],
        &[TOPIC, ("key_field", "id,name"), ("key.format", "raw")],
        "conflicting_options: key.format = 'raw' is for a key of one column (hint: use key.format = 'json')",
    );
    check(
        rows,
        &["id"],
        &[TOPIC, ("key.format", "avro")],
        "missing_option: key.format = 'avro' needs a schema registry (hint: add 'schema_registry.endpoint' = 'http://host:8081')",
    );
    check(
        rows,
        &["name"],
        &[TOPIC, ("schema_registry.endpoint", "http://r"), ("key.format", "avro"), ("key.encoding", "base64")],
        "conflicting_options: key.encoding = 'base64' and key.format = 'avro' both say what the key is (hint: leave one of them out)",
    );
    check(
        rows,
        &["id"],
        &[TOPIC, ("value.exclude", "id")],
        "conflicting_options: column id of the primary key is not part of the value (hint: leave PRIMARY KEY out, or keep the column in the value and name it in key_field)",
    );
    check(
        rows,
        &[],
        &[TOPIC, ("value.exclude", "id,name,temperature")],
        "column_count: table t has no column for the records' values (hint: add one, or sink.value)",
    );
    check(
        rows,
        &[],
        &[TOPIC, ("format", "debezium_json"), ("sink.value", "x")],
        "conflicting_options: sink.value and format = 'debezium_json' both say what the value is (hint: leave one of them out)",
    );
    check(
        rows,
        &[],
        &[TOPIC, ("value.encoding", "base64")],
        "conflicting_options: value.encoding = 'base64' needs format = 'raw' (hint: columns of type BYTEA are base64 in JSON anyway)",
    );
    check(
        rows,
        &[],
        &[TOPIC, ("key_field", "id"), ("key.encoding", "base64")],
        "type_mismatch: key.encoding = 'base64' needs a column of type TEXT: base64 is text that stands for bytes (hint: a column of type BYTEA holds the bytes themselves: leave the option out)",
    );
    let twice = &[("v", Utf8), ("k", Utf8), ("_kafka_key", Utf8)];
    check(
        twice,
        &[],
        &[TOPIC, ("key_field", "k")],
        "conflicting_options: key_field = 'k' and column _kafka_key are both the record's key (hint: leave one of them out)",
    );
    check(
        &[("v", Utf8), ("_kafka_offset", Int64)],
        &[],
        &[TOPIC],
        "not_supported: column _kafka_offset of a sink table cannot be written: offset: the broker decides it, or records have no such thing (hint: what a record can be given: _kafka_key, _kafka_partition, _kafka_timestamp, _kafka_topic, _kafka_headers)",
    );
    check(
        &[("v", Utf8), ("_kafka_headers", Int64)],
        &[],
        &[TOPIC],
        "type_mismatch: column _kafka_headers cannot be the record's headers: headers are a MAP of TEXT to TEXT or BYTEA, or a JSON object",
    );
}

#[test]
fn options_of_the_producer_are_checked() {
    let rows = &[("v", Utf8)];
    let refused = |pairs: &[(&str, &str)], expected: &str| {
        let pairs = [&[TOPIC], pairs].concat();
        check(rows, &[], &pairs, expected);
    };
    refused(
        &[("topic.partitions", "3")],
        "conflicting_options: option topic.partitions is about a topic that is created (hint: add 'topic.auto_create' = 'true')",
    );
    refused(
        &[("buffer.segment_bytes", "100MB")],
        "conflicting_options: option buffer.segment_bytes needs buffer.mode = 'disk' or 'hybrid'",
    );
    refused(
        &[("acks", "1"), ("delivery", "exactly_once")],
        "conflicting_options: acks = '1' cannot be exactly-once: an acknowledged row could be lost (hint: leave acks out, or add delivery = 'at_least_once'",
    );
    refused(
        &[("max_inflight", "0")],
        "invalid_option: option max_inflight of connector kafka cannot be '0': expected 1 to 1000000",
    );
    refused(
        &[("partitioner", "murmur3")],
        "invalid_option: option partitioner of connector kafka cannot be 'murmur3': expected one of",
    );
    let emqx = [
        ("required_acks", "all_isr"),
        ("partition_strategy", "random"),
        ("max_batch_bytes", "896KB"),
        ("max_inflight", "10"),
        ("partition_count_refresh_interval", "60s"),
        ("compression", "no_compression"),
        ("buffer.mode", "hybrid"),
        ("buffer.per_partition_limit", "2GB"),
        ("buffer.segment_bytes", "100MB"),
        ("buffer.memory_overload_protection", "true"),
    ];
    let mut all = vec![("bootstrap_servers", "b"), TOPIC];
    all.extend(emqx);
    let settings = Written::read(&Options::from_pairs(all), Some(Role::Sink), None).unwrap().sink().unwrap();
    let given = |name| settings.cluster.get(name);
    assert_eq!(given("batch.size"), Some("917504"));
    assert_eq!(given("max.in.flight.requests.per.connection"), Some("5"), "a broker keeps the order of five");
    assert_eq!(given("topic.metadata.refresh.interval.ms"), Some("60000"));
    assert_eq!(settings.topic_config(), [("partitioner", "random"), ("compression.codec", "none")]);
}
