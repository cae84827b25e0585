//! Sources that make their rows, put through the contract, and what each makes.

use arrow::datatypes::DataType::{
    self, Binary, Boolean, Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, List, Time64, UInt8,
    UInt16, UInt32, UInt64, Utf8,
};
use arrow::datatypes::{Field, TimeUnit};
use laminar_core::Code;
use laminar_core::connector::{Connector, Role};
use laminar_core::source::Fetched;
use laminar_core::table::{EventTime, timestamp_type};

use super::instances::{check_refused, check_table_code};
use super::*;
use crate::datagen::DatagenConnector;
use crate::impulse::ImpulseConnector;
use crate::nexmark::NexmarkConnector;

// --- impulse ---

#[tokio::test]
async fn impulses_are_counted() {
    let columns = table(&[("subtask_index", UInt64), ("counter", Int32), ("timestamp", timestamp_type())]);
    let pairs = [
        ("message_count", "7"),
        ("shards", "2"),
        ("start_time", "2024-01-01T00:00:00Z"),
        ("event_time_interval", "10ms"),
    ];
    let rows = rows_of(&ImpulseConnector, &pairs, &columns).await;
    assert_eq!(rows.len(), 7);
    assert_eq!(rows[3], r#"{"subtask_index":0,"counter":3,"timestamp":"2024-01-01T00:00:00.060"}"#);
    assert_eq!(rows[6], r#"{"subtask_index":1,"counter":2,"timestamp":"2024-01-01T00:00:00.050"}"#);
    let clocked =
        rows_of(&ImpulseConnector, &[("message_count", "1")], &table(&[("timestamp", timestamp_type())])).await;
    assert_eq!(clocked, [r#"{"timestamp":"2023-11-14T22:13:20"}"#]);
    assert_eq!(rows_of(&ImpulseConnector, &[("message_count", "0")], &columns).await, [""; 0]);
}

#[test]
fn impulses_refuse_what_they_cannot_do() {
    let check = |pairs: &[(&str, &str)], columns: &[(&str, DataType)], expected| {
        check_refused(&ImpulseConnector, Role::Source, pairs, &table(columns), expected);
    };
    check(
        &[],
        &[("count", UInt64)],
        "unknown_column: connector impulse has no column count (hint: did you mean counter?)",
    );
    check(
        &[],
        &[("counter", Utf8)],
        "type_mismatch: column counter of connector impulse must be BIGINT UNSIGNED or another integer type",
    );
    check(
        &[("event_rate", "0")],
        &[],
        "invalid_option: option event_rate of connector impulse cannot be '0': expected a number above 0",
    );
    let sink = check_table_code(&ImpulseConnector, Role::Sink);
    assert_eq!(sink, Code::NotSupported);
    let start = ImpulseConnector.check_connection(&options(&[("start_time", "soon")])).unwrap_err();
    assert_eq!(start.code(), Code::InvalidOption);
}

// --- datagen ---

#[tokio::test]
async fn every_scalar_type_is_made() {
    let types = [
        Boolean,
        Int8,
        Int16,
        Int32,
        Int64,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        Float32,
        Float64,
        Utf8,
        Binary,
        Date32,
        Time64(TimeUnit::Microsecond),
        Decimal128(10, 2),
        timestamp_type(),
    ];
    let names: Vec<String> = (0..types.len()).map(|i| format!("c{i}")).collect();
    let columns: Vec<_> = names.iter().map(String::as_str).zip(types).collect();
    let pairs = [("number_of_rows", "20"), ("shards", "3")];
    let rows = rows_of(&DatagenConnector, &pairs, &table(&columns)).await;
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|row| names.iter().all(|name| row.contains(&format!("\"{name}\":")))), "{rows:?}");
}

#[tokio::test]
async fn rules_make_values() {
    let check = async |data_type: DataType, field: &[(&str, &str)], expected: &[&str]| {
        let keys: Vec<String> = field.iter().map(|(key, _)| format!("fields.c.{key}")).collect();
        let mut pairs: Vec<_> = keys.iter().map(String::as_str).zip(field.iter().map(|(_, value)| *value)).collect();
        pairs.push(("number_of_rows", "4"));
        let rows = rows_of(&DatagenConnector, &pairs, &table(&[("c", data_type)])).await;
        let values: Vec<String> = rows.iter().map(|row| row.replace("{\"c\":", "").replace('}', "")).collect();
        assert_eq!(values, expected, "{field:?}");
    };
    let sequence = ("kind", "sequence");
    check(Int64, &[sequence], &["0", "1", "2", "3"]).await;
    check(Int64, &[sequence, ("start", "10"), ("step", "-5"), ("end", "0")], &["10", "5", "0"]).await;
    check(UInt8, &[sequence, ("start", "254")], &["254", "255"]).await;
    check(Int32, &[sequence, ("start", "5"), ("end", "4")], &[]).await;
    check(Utf8, &[sequence, ("start", "7")], &["\"7\"", "\"8\"", "\"9\"", "\"10\""]).await;
    check(Float64, &[sequence, ("step", "0.5"), ("end", "1")], &["0.0", "0.5", "1.0"]).await;
    check(Decimal128(6, 2), &[sequence, ("start", "1.50"), ("step", "0.25"), ("end", "2")], &["1.50", "1.75", "2.00"])
        .await;
    let at = |time: &str| format!("\"2024-01-01T{time}\"");
    let times = [at("00:00:00"), at("00:00:00.250"), at("00:00:00.500"), at("00:00:00.750")];
    let times: Vec<&str> = times.iter().map(String::as_str).collect();
    check(timestamp_type(), &[sequence, ("start", "2024-01-01T00:00:00Z"), ("step", "250ms")], &times).await;
    check(
        Date32,
        &[sequence, ("start", "2024-02-28"), ("end", "2024-03-01")],
        &["\"2024-02-28\"", "\"2024-02-29\"", "\"2024-03-01\""],
    )
    .await;
    check(timestamp_type(), &[], &["\"2023-11-14T22:13:20\""; 4]).await;
    check(Utf8, &[("kind", "choice"), ("values", "only")], &["\"only\""; 4]).await;
    check(Int8, &[("kind", "random"), ("min", "-3"), ("max", "-3")], &["-3"; 4]).await;
    check(Int8, &[("null_rate", "1")], &["null"; 4]).await;
    check(Float64, &[("min", "7.25"), ("max", "7.25"), ("decimals", "1")], &["7.3"; 4]).await;
    check(Utf8, &[("length", "0")], &["\"\""; 4]).await;
}

#[tokio::test]
async fn values_depend_on_seed_and_row_alone() {
    let columns = table(&[("a", Int64), ("b", Int64), ("s", Utf8), ("u", Utf8)]);
    let rows = async |pairs: &[(&str, &str)]| {
        let mut all = vec![("number_of_rows", "50"), ("fields.u.kind", "uuid"), ("fields.a.null_rate", "0.3")];
        all.extend(pairs);
        let mut rows = rows_of(&DatagenConnector, &all, &columns).await;
        rows.sort();
        rows
    };
    let usual = rows(&[]).await;
    assert_eq!(usual, rows(&[]).await);
    assert_eq!(usual, rows(&[("shards", "4")]).await, "shards share the same rows");
    assert_ne!(usual, rows(&[("seed", "1")]).await);
    assert_ne!(usual, rows(&[("fields.a.seed", "1")]).await);
    let nulls = usual.iter().filter(|row| row.contains("\"a\":null")).count();
    assert!((5..=25).contains(&nulls), "{nulls}");
    let distinct: std::collections::HashSet<_> = usual.iter().collect();
    assert_eq!(distinct.len(), 50);
    let one = &usual[0];
    let uuid = one.split("\"u\":\"").nth(1).unwrap();
    assert_eq!((&uuid[8..9], &uuid[14..15], uuid.find('"')), ("-", "4", Some(36)), "{one}");
}

#[tokio::test]
async fn event_times_come_from_their_column() {
    let mut spec = table(&[("at", timestamp_type()), ("n", Int64)]);
    spec.event_time = Some(EventTime { column: "at".into(), delay: Duration::ZERO });
    spec.projection = vec![1];
    let pairs = [("number_of_rows", "2"), ("fields.at.kind", "sequence"), ("fields.at.step", "1ms")];
    let source = DatagenConnector.source(&options(&pairs), &spec, &source_context()).unwrap();
    let mut reader = source.open(starts(&*source).await).await.unwrap();
    let Fetched::Rows(rows) = reader.next(LIMIT).await.unwrap() else { panic!("rows") };
    assert_eq!(rows.times.values().as_ref(), [0, 1000]);
    assert_eq!(rows.rows.num_columns(), 1);
    spec.projection = vec![];
    let source = DatagenConnector.source(&options(&pairs), &spec, &source_context()).unwrap();
    let mut reader = source.open(starts(&*source).await).await.unwrap();
    let Fetched::Rows(rows) = reader.next(LIMIT).await.unwrap() else { panic!("rows") };
    assert_eq!((rows.rows.num_rows(), rows.rows.num_columns()), (2, 0));
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let check = |data_type: DataType, pairs: &[(&str, &str)], expected| {
        check_refused(&DatagenConnector, Role::Source, pairs, &table(&[("total", data_type)]), expected);
    };
    check(
        Int64,
        &[("fields.totl.min", "1")],
        "unknown_column: table t has no column totl (hint: did you mean 'fields.total.min'?)",
    );
    check(
        Int64,
        &[("fields.total.lenght", "1")],
        "unknown_option: column total of connector datagen has no option lenght (hint: did you mean length?)",
    );
    check(
        Int64,
        &[("fields.total.kind", "randon")],
        "invalid_option: option kind of column total of connector datagen cannot be 'randon': expected one of \
         sequence, random, choice, uuid, now (hint: did you mean random?)",
    );
    check(
        Int8,
        &[("fields.total.max", "128")],
        "invalid_option: option max of column total of connector datagen cannot be '128': Cast error: Cannot cast string \
         '128' to value of Int8 type",
    );
    check(
        Int8,
        &[("fields.total.min", "5"), ("fields.total.max", "4")],
        "invalid_option: option max of column total of connector datagen cannot be '4': it is below min, or too far above",
    );
    check(
        Int64,
        &[("fields.total.kind", "sequence"), ("fields.total.max", "4")],
        "conflicting_options: option max is not for kind sequence of column total: the column is Int64",
    );
    check(
        Int64,
        &[("fields.total.kind", "choice")],
        "missing_option: column total of connector datagen needs option values",
    );
    check(
        Int64,
        &[("fields.total.kind", "now")],
        "type_mismatch: kind now needs a column of type TIMESTAMP: column total is Int64",
    );
    check(
        Int64,
        &[("rows_per_secnd", "4")],
        "unknown_option: connector datagen has no option rows_per_secnd (hint: did you mean rows_per_second?)",
    );
    check(
        List(Arc::new(Field::new_list_field(Int64, true))),
        &[],
        "not_supported: connector datagen cannot fill column total of type List(Int64)",
    );
    let field = DatagenConnector.check_connection(&options(&[("fields.total.lenght", "1")])).unwrap_err();
    assert_eq!(field.field(), Some("fields.total.lenght"));
}

// --- nexmark ---

fn text(columns: &[&'static str]) -> Vec<(&'static str, DataType)> {
    columns.iter().map(|name| (*name, Utf8)).collect()
}

/// All columns of the kind, in the benchmark's order.
fn columns_of(event: &str) -> Vec<(&'static str, DataType)> {
    let at = |name| (name, timestamp_type());
    match event {
        "person" => {
            let texts = text(&["name", "email_address", "credit_card", "city", "state"]);
            [vec![("id", Int64)], texts, vec![at("date_time"), ("extra", Utf8)]].concat()
        }
        "auction" => [
            vec![("id", Int64), ("item_name", Utf8), ("description", Utf8), ("initial_bid", Int64), ("reserve", Int64)],
            vec![at("date_time"), at("expires"), ("seller", Int64), ("category", Int64), ("extra", Utf8)],
        ]
        .concat(),
        _ => [
            vec![("auction", Int64), ("bidder", Int64), ("price", Int64), ("channel", Utf8), ("url", Utf8)],
            vec![at("date_time"), ("extra", Utf8)],
        ]
        .concat(),
    }
}

#[tokio::test]
async fn one_kind_of_event_is_that_part_of_the_stream() {
    let structs = ["person", "auction", "bid"].map(|kind| {
        let fields = columns_of(kind).into_iter().map(|(name, data_type)| Field::new(name, data_type, true));
        (kind, DataType::Struct(fields.collect()))
    });
    let all = [vec![("event_type", Int32)], structs.to_vec(), vec![("date_time", timestamp_type())]].concat();
    let pairs = [("message_count", "160"), ("seed", "3")];
    let whole = rows_of(&NexmarkConnector, &pairs, &table(&all)).await;
    assert_eq!(whole.len(), 160);
    let null = ",\"auction\":null,\"bid\":null,\"date_time\":\"2015-07-15T00:00:00\"}";
    assert!(
        whole[0].starts_with("{\"event_type\":0,\"person\":{\"id\":1000,") && whole[0].ends_with(null),
        "{}",
        whole[0]
    );
    for (code, kind) in ["person", "auction", "bid"].into_iter().enumerate() {
        let start = format!("\"{kind}\":{{");
        let inside = |row: &String| row.split_once(&start).map(|(_, rest)| rest.split_once('}').unwrap().0.to_string());
        let mut expected: Vec<String> = whole.iter().filter_map(inside).collect();
        assert!(whole.iter().all(|row| row.contains(&start) == row.contains(&format!("\"event_type\":{code},"))));
        expected.sort();
        for shards in ["1", "3"] {
            let flat = [&pairs[..], &[("event", kind), ("shards", shards)]].concat();
            let rows = rows_of(&NexmarkConnector, &flat, &table(&columns_of(kind))).await;
            let mut rows: Vec<String> = rows.iter().map(|row| row.trim_matches(['{', '}']).to_string()).collect();
            rows.sort();
            assert_eq!(rows, expected, "{kind} in {shards} shards");
        }
    }
    let other = rows_of(&NexmarkConnector, &[("message_count", "160"), ("seed", "4")], &table(&all)).await;
    assert_ne!(whole, other);
}

#[tokio::test]
async fn nexmark_times_follow_the_rate_and_their_column() {
    let mut spec = table(&[("expires", timestamp_type()), ("id", Int64)]);
    spec.projection = vec![];
    let pairs = [("event", "auction"), ("event_rate", "4"), ("start_time", "1970-01-01T00:00:01Z")];
    let times = async |spec: &TableSpec| {
        let source = NexmarkConnector.source(&options(&pairs), spec, &source_context()).unwrap();
        let mut reader = source.open(starts(&*source).await).await.unwrap();
        let Fetched::Rows(rows) = reader.next(LIMIT).await.unwrap() else { panic!("rows") };
        rows.times.values().to_vec()
    };
    assert_eq!(times(&spec).await, [1_250_000]);
    spec.event_time = Some(EventTime { column: "expires".into(), delay: Duration::ZERO });
    assert!(times(&spec).await[0] > 400_000_000, "of 1700 events and more later");
}

#[test]
fn nexmark_refuses_columns_that_it_has_not() {
    let check = |pairs: &[(&str, &str)], columns: &[(&str, DataType)], expected| {
        check_refused(&NexmarkConnector, Role::Source, pairs, &table(columns), expected);
    };
    check(
        &[("event", "bid")],
        &[("prize", Int64)],
        "unknown_column: connector nexmark has no column prize (hint: did you mean price?)",
    );
    check(
        &[("event", "bid")],
        &[("price", Float64)],
        "type_mismatch: column price of connector nexmark must be BIGINT: it is DOUBLE",
    );
    check(
        &[],
        &[("price", Int64)],
        "unknown_column: connector nexmark has no column price (hint: for a table of one kind of event add event = 'bid')",
    );
    check(&[], &[("bid", Utf8)], "type_mismatch: column bid of connector nexmark must be STRUCT: it is TEXT");
    check(
        &[],
        &[("bid", DataType::Struct([Arc::new(Field::new("url", Int64, true))].into()))],
        "type_mismatch: column bid.url of connector nexmark must be TEXT: it is BIGINT",
    );
    check(
        &[],
        &[("bid", DataType::Struct([Arc::new(Field::new("seller", Int64, true))].into()))],
        "unknown_column: connector nexmark has no column bid.seller (hint: columns: auction, bidder, price, channel, url, \
         date_time, extra)",
    );
    check(
        &[("event", "bids")],
        &[],
        "invalid_option: option event of connector nexmark cannot be 'bids': expected one of person, auction, bid \
         (hint: did you mean bid?)",
    );
    check(
        &[("event_rate", "-1")],
        &[],
        "invalid_option: option event_rate of connector nexmark cannot be '-1': expected a number above 0",
    );
    assert_eq!(check_table_code(&NexmarkConnector, Role::Sink), Code::NotSupported);
}
