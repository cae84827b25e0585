//! Changes in Debezium's envelope: golden records both ways, bad ones among good ones, and whatever is written is read again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use laminar_core::connector::Role;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::options::Options;
use laminar_core::sink::ChangeSupport;
use laminar_core::source::{RawRecord, TimestampType};
use laminar_core::table::{Column, EventTime, TableSpec, timestamp_type};
use laminar_core::{ChangeKind, Changes, Code, Position};
use laminar_formats::{FormatOptions, decoder, encoder, upsert_encoder};
use proptest::prelude::*;

fn options(pairs: &[(&str, &str)]) -> FormatOptions {
    Options::from_pairs(pairs.iter().copied()).parse("format").unwrap()
}

fn debezium() -> FormatOptions {
    options(&[("format", "debezium_json")])
}

/// `id BIGINT NOT NULL, name TEXT, at TIMESTAMP`.
fn table(primary_key: &[&str]) -> TableSpec {
    let column = |(name, data_type, nullable): (&str, DataType, bool)| Column {
        name: name.into(),
        data_type,
        nullable,
        json: false,
        metadata: None,
    };
    let columns = [("id", DataType::Int64, false), ("name", DataType::Utf8, true), ("at", timestamp_type(), true)];
    TableSpec {
        name: "t".into(),
        columns: columns.map(column).to_vec(),
        projection: vec![0, 1, 2],
        event_time: None,
        primary_key: primary_key.iter().map(|name| name.to_string()).collect(),
    }
}

fn record(value: Option<&str>) -> RawRecord<'_> {
    RawRecord {
        key: None,
        value: value.map(str::as_bytes),
        timestamp_micros: 7,
        timestamp_type: TimestampType::CreateTime,
        topic: "t",
        partition: 3,
        position: Position(0),
        batch: None,
    }
}

/// `+` insert, `<` update before, `>` update after, `-` delete, then the row's values.
fn show(changes: &Changes) -> Vec<String> {
    let sign = |row| match changes.kinds().map_or(ChangeKind::Insert, |kinds| kinds.get(row)) {
        ChangeKind::Insert => '+',
        ChangeKind::UpdateBefore => '<',
        ChangeKind::UpdateAfter => '>',
        ChangeKind::Delete => '-',
    };
    let value = |column: &ArrayRef, row| match column.is_null(row) {
        true => "null".to_string(),
        false => array_value_to_string(column, row).unwrap(),
    };
    let values = |row| changes.rows().columns().iter().map(|c| value(c, row)).collect::<Vec<_>>().join(" ");
    (0..changes.num_rows()).map(|row| format!("{}{}", sign(row), values(row))).collect()
}

/// The rows of the records, and the messages of those that failed.
fn decode(table: &TableSpec, records: &[Option<&str>]) -> (Vec<String>, Vec<String>) {
    let mut decoder = decoder(&debezium(), table).unwrap();
    let mut faults = Vec::new();
    for value in records {
        let before = decoder.len();
        if let Err(fault) = decoder.push(&record(*value)) {
            faults.push(fault.to_string());
            assert_eq!(decoder.len(), before, "{value:?}");
        }
    }
    let rows = decoder.flush().unwrap().as_ref().map(show).unwrap_or_default();
    (rows, faults)
}

#[track_caller]
fn check(value: &str, expected: &[&str]) {
    assert_eq!(decode(&table(&[]), &[Some(value)]), (expected.iter().map(|row| row.to_string()).collect(), vec![]));
}

#[test]
fn each_op_is_its_rows() {
    check(r#"{"before":null,"after":{"id":1,"name":"a"},"op":"c"}"#, &["+1 a null"]);
    check(r#"{"after":{"id":1,"name":"a"},"op":"r","ts_ms":5}"#, &["+1 a null"]);
    check(r#"{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"b"},"op":"u"}"#, &["<1 a null", ">1 b null"]);
    check(r#"{"before":{"id":1,"name":"a"},"after":null,"op":"d"}"#, &["-1 a null"]);
    check(r#"{"before":{"id":1,"name":"a"},"op":"d"}"#, &["-1 a null"]);
    check("null", &[]);
}

#[test]
fn fields_may_stand_in_any_order_and_layout() {
    check(
        r#" { "op" : "u" , "source":{"op":"x","before":[{}]}, "after":{"name":"b","id":1}, "before":{"ID":"2"} } "#,
        &["<2 null null", ">1 b null"],
    );
    check(r#"{"schema":{"type":"struct"},"payload":{"before":null,"after":{"id":1},"op":"c"}}"#, &["+1 null null"]);
    check(
        r#"{"payload":{"before":{"id":1},"after":{"id":3},"op":"u"},"schema":null}"#,
        &["<1 null null", ">3 null null"],
    );
    check(r#"{"schema":null,"payload":null}"#, &[]);
    check(r#"{"before":{"id":9},"after":{"id":1},"op":"c","op":"c"}"#, &["+1 null null"]);
    check(r#"{"after":{"id":1},"op":"\u0063"}"#, &["+1 null null"]);
}

#[test]
fn a_bare_time_counts_microseconds() {
    check(r#"{"after":{"id":1,"at":1734539354748899},"op":"c"}"#, &["+1 null 2024-12-18T16:29:14.748899"]);
    check(r#"{"after":{"id":1,"at":"2024-12-18T16:29:14Z"},"op":"c"}"#, &["+1 null 2024-12-18T16:29:14"]);
    let options = options(&[("format", "Debezium-JSON"), ("timestamp_format", "unix_millis")]);
    let mut decoder = decoder(&options, &table(&[])).unwrap();
    decoder.push(&record(Some(r#"{"after":{"id":1,"at":1734539354748},"op":"c"}"#))).unwrap();
    assert_eq!(show(&decoder.flush().unwrap().unwrap()), ["+1 null 2024-12-18T16:29:14.748"]);
}

#[test]
fn inserts_alone_have_no_kinds() {
    let mut decoder = decoder(&debezium(), &table(&[])).unwrap();
    let insert = r#"{"after":{"id":1},"op":"c"}"#;
    let delete = r#"{"before":{"id":1},"op":"d"}"#;
    decoder.push(&record(Some(insert))).unwrap();
    decoder.push(&record(None)).unwrap();
    assert_eq!(decoder.len(), 1);
    assert!(decoder.flush().unwrap().unwrap().kinds().is_none());
    decoder.push(&record(Some(insert))).unwrap();
    decoder.push(&record(Some(delete))).unwrap();
    decoder.push(&record(Some(insert))).unwrap();
    assert_eq!(show(&decoder.flush().unwrap().unwrap()), ["+1 null null", "-1 null null", "+1 null null"]);
    decoder.push(&record(Some(insert))).unwrap();
    assert!(decoder.flush().unwrap().unwrap().kinds().is_none());
    decoder.push(&record(None)).unwrap();
    assert!(decoder.flush().unwrap().is_none(), "tombstones alone are nothing");
}

#[test]
fn both_rows_of_an_update_have_metadata_and_a_time() {
    let mut table = table(&["id"]);
    let partition = Column { metadata: Some("partition".into()), ..table.columns[0].clone() };
    table.columns.push(Column { name: "p".into(), data_type: DataType::Int32, ..partition });
    table.projection = vec![3, 1];
    table.event_time = Some(EventTime { column: "at".into(), delay: std::time::Duration::ZERO });
    let mut decoder = decoder(&debezium(), &table).unwrap();
    decoder.push(&record(Some(r#"{"before":{"id":1,"at":5},"after":{"id":1,"name":"b"},"op":"u"}"#))).unwrap();
    let changes = decoder.flush().unwrap().unwrap();
    assert_eq!(show(&changes), ["<3 null", ">3 b"]);
    assert_eq!(changes.times().values().as_ref(), [5, 7]);
}

#[test]
fn bad_envelopes_leave_their_neighbours_alone() {
    let whole = "a row that is updated or deleted must be in it whole, as with PostgreSQL's REPLICA IDENTITY FULL";
    let good = [
        Some(r#"{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"b"},"op":"u"}"#),
        Some(r#"{"before":{"id":1,"name":"b"},"after":null,"op":"d"}"#),
    ];
    let update = |before: &str, after: &str| format!(r#"{{"before":{before},"after":{after},"op":"u"}}"#);
    for key in [vec![], vec!["id"]] {
        let table = table(&key);
        let check = |bad: &str, expected: &str| {
            let (rows, faults) = decode(&table, &[good[0], Some(bad), good[1]]);
            assert_eq!(rows, ["<1 a null", ">1 b null", "-1 b null"], "{bad}");
            assert_eq!(faults, [expected], "{bad}");
        };
        check(&update("null", r#"{"id":1}"#), &format!("op is u and before is missing: {whole}"));
        check(r#"{"after":null,"op":"d"}"#, &format!("op is d and before is missing: {whole}"));
        check(r#"{"before":{"id":1},"op":"u"}"#, "op is u and after is missing");
        check(r#"{"before":{"id":1},"after":null,"op":"c"}"#, "op is c and after is missing");
        check(r#"{"id":1,"name":"a"}"#, "the value has no op, so it is not an envelope of Debezium");
        check(r#"{"schema":{},"payload":{"id":1}}"#, "the value has no op, so it is not an envelope of Debezium");
        check(r#"{"source":{},"op":"t"}"#, r#"op is "t", expected c, r, u or d"#);
        check(r#"{"after":{"id":1},"op":null}"#, "op is null, expected c, r, u or d");
        check(r#"{"after":{"id":1},"op":"c""#, "the value ends where , or } is expected");
        check(r#"{"after":{"id":1},"op":"c"} {}"#, "the value holds more than one JSON object; a record is one object");
        check(r#"[1]"#, "expected an object ({), found [");
        check(r#"{"schema":null,"payload":3}"#, "expected an object ({), found 3");
        check("", "the value is empty");
        check("nul", "expected a value, found nul");
        check(r#"{"after":{"id":1},"op":"c","x":tru}"#, "expected a value, found tru");
        check(r#"{"after":[1],"op":"c"}"#, "in after: expected an object, found [");
        // The row before the update is in by then, and goes again.
        check(
            &update(r#"{"id":1,"name":"x"}"#, r#"{"id":"y"}"#),
            r#"in after: expected BIGINT, found "y" (column id)"#,
        );
        check(&update(r#"{"name":"x"}"#, r#"{"id":2}"#), "in before: no value for a NOT NULL column (column id)");
    }
}

/// The first order of the tutorial's `aggregate_updates.json`, and how it could go on.
const ORDERS: &str = r#"
{"before":null,"after":{"id":3107,"customer_name":"Brenda Garcia","product_name":"Headphones","quantity":3,"price":392.25,"order_date":1734539354748899,"status":"Delivered"},"source":{"version":"2.3.4.Final","connector":"postgresql","sequence":"[\"66756334904\",\"66756335160\"]","xmin":null},"op":"c","ts_ms":1734568155168,"transaction":null}
{"before":{"id":3107,"customer_name":"Brenda Garcia","product_name":"Headphones","quantity":3,"price":392.25,"order_date":1734539354748899,"status":"Delivered"},"after":{"id":3107,"customer_name":"Brenda Garcia","product_name":"Headphones","quantity":3,"price":392.25,"order_date":1734539354748899,"status":"Cancelled"},"source":{"version":"2.3.4.Final"},"op":"u","ts_ms":1734568155168,"transaction":null}
{"before":{"id":3107,"customer_name":"Brenda Garcia","product_name":"Headphones","quantity":3,"price":392.25,"order_date":1734539354748899,"status":"Cancelled"},"after":null,"source":{"version":"2.3.4.Final"},"op":"d","ts_ms":1734568155168,"transaction":null}
"#;

#[test]
fn the_tutorials_orders_are_read() {
    let mut table = table(&["id"]);
    table.columns[1].name = "status".into();
    table.columns[2].name = "order_date".into();
    let lines: Vec<Option<&str>> = ORDERS.lines().filter(|line| !line.is_empty()).map(Some).collect();
    let (rows, faults) = decode(&table, &lines);
    assert_eq!(faults, [""; 0]);
    let at = "2024-12-18T16:29:14.748899";
    let [delivered, cancelled] = ["Delivered", "Cancelled"].map(|status| format!("3107 {status} {at}"));
    let [insert, before] = ["+", "<"].map(|sign| format!("{sign}{delivered}"));
    let [after, delete] = [">", "-"].map(|sign| format!("{sign}{cancelled}"));
    assert_eq!(rows, [insert, before, after, delete]);
}

/// Changes from lines such as `+1 a`; a name of `_` is null.
fn changes(lines: &[&str]) -> Changes {
    let kind = |line: &&str| match &line[..1] {
        "+" => ChangeKind::Insert,
        "-" => ChangeKind::Delete,
        "<" => ChangeKind::UpdateBefore,
        _ => ChangeKind::UpdateAfter,
    };
    let parts: Vec<(i64, &str)> = lines
        .iter()
        .map(|line| line[1..].split_once(' ').unwrap())
        .map(|(id, name)| (id.parse().unwrap(), name))
        .collect();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(parts.iter().map(|(id, _)| *id)));
    let names: ArrayRef =
        Arc::new(parts.iter().map(|(_, name)| (*name != "_").then_some(*name)).collect::<StringArray>());
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(parts.iter().map(|(id, _)| *id)));
    let rows = RecordBatch::try_new(table(&[]).schema(), vec![ids, names, times]).unwrap();
    let kinds = lines.iter().any(|line| !line.starts_with('+')).then(|| lines.iter().map(kind).collect());
    Changes::new(rows, TimestampMicrosecondArray::from(vec![0; lines.len()]), kinds).unwrap()
}

/// Each value, with the row that it is of in front; `-` is a tombstone.
fn written(encoder: &mut dyn Encoder, lines: &[&str]) -> Vec<String> {
    let mut out = EncodedValues::default();
    encoder.encode(&changes(lines), &mut out).unwrap();
    let value =
        |at| if out.is_tombstone(at) { "-".to_string() } else { String::from_utf8(out.get(at).to_vec()).unwrap() };
    (0..out.len()).map(|at| format!("{} {}", out.row(at), value(at))).collect()
}

#[test]
fn changes_are_written_as_envelopes() {
    let row = |id: u32, name: &str| format!(r#"{{"id":{id},"name":"{name}","at":{id}}}"#);
    let [a, b, c] = ["a", "b", "c"].map(|name| row(1, name));
    let created = |at, row: &str| format!(r#"{at} {{"before":null,"after":{row},"op":"c"}}"#);
    let updated = |at, old: &str, new: &str| format!(r#"{at} {{"before":{old},"after":{new},"op":"u"}}"#);
    let deleted = |at, row: &str| format!(r#"{at} {{"before":{row},"after":null,"op":"d"}}"#);
    let check = |key: &[&str], lines: &[&str], expected: &[String]| {
        let mut encoder = encoder(&debezium(), &table(key)).unwrap();
        assert_eq!(written(encoder.as_mut(), lines), expected, "{lines:?}");
    };
    for key in [&[][..], &["id"]] {
        check(key, &["+1 a", "+2 _"], &[created(0, &a), created(1, r#"{"id":2,"name":null,"at":2}"#)]);
        check(key, &["<1 a", ">1 b", "-2 x"], &[updated(1, &a, &b), deleted(2, &row(2, "x"))]);
        check(key, &["<1 a", ">1 a"], &[]);
    }
    check(&["id"], &["-1 a", "+2 x", "+1 b"], &[updated(2, &a, &b), created(1, &row(2, "x"))]);
    check(&["id"], &["+1 a", "-1 a"], &[]);
    check(&["id"], &["<1 a", ">1 b", "<1 b", ">1 c"], &[updated(3, &a, &c)]);
    check(&[], &["-1 a", "+1 b"], &[deleted(0, &a), created(1, &b)]);
}

#[test]
fn under_a_key_the_last_row_is_written() {
    let mut encoder = upsert_encoder(&options(&[]), &table(&["id"])).unwrap();
    let mut check = |lines: &[&str], expected: &[&str]| assert_eq!(written(encoder.as_mut(), lines), expected);
    let at = |id: u32| format!("1970-01-01T00:00:00.00000{id}Z");
    let row = |id: u32, name: &str| format!(r#"{{"id":{id},"name":"{name}","at":"{}"}}"#, at(id));
    let [a, b] = ["a", "b"].map(|name| row(1, name));
    check(&["+1 a", "+1 b"], &[&format!("0 {a}"), &format!("1 {b}")]);
    check(&["<1 a", ">1 b", "-2 x"], &[&format!("1 {b}"), "2 -"]);
    check(&["+1 a", "<1 a", ">1 b", "-1 b"], &[]);
    check(&["-1 a"], &["0 -"]);
    let mut keyed = table(&["id", "name"]);
    keyed.columns[1].nullable = true;
    let error =
        upsert_encoder(&options(&[]), &keyed).unwrap().encode(&changes(&["-1 _"]), &mut EncodedValues::default());
    assert_eq!(
        format!("{:?}", error.unwrap_err()).split(" (").next(),
        Some("invalid_value: column name of the primary key is null")
    );
}

#[test]
fn formats_say_which_changes_they_carry() {
    let check = |pairs: &[(&str, &str)], yields: bool, upserts: bool| {
        let options = options(pairs);
        assert_eq!((options.yields_changes(), options.upserts(&table(&["id"]))), (yields, upserts), "{pairs:?}");
        let support = if yields { ChangeSupport::Changes } else { ChangeSupport::InsertOnly };
        assert_eq!(options.changes(), support);
        assert!(!options.upserts(&table(&[])));
    };
    check(&[], false, true);
    check(&[("json.unstructured", "true")], false, false);
    check(&[("format", "raw")], false, false);
    check(&[("format", "debezium-json")], true, false);
    let refused = |pairs: &[(&str, &str)]| options(pairs).check_table(Role::Sink, &table(&[])).unwrap_err();
    let error = refused(&[("format", "debezium_json"), ("json.pretty", "true")]);
    assert_eq!(format!("{error:?}"), "conflicting_options: option json.pretty is not for format debezium_json");
    let error = refused(&[("format", "debezium_json"), ("json.unstructured", "true")]);
    assert_eq!(error.code(), Code::ConflictingOptions);
    options(&[("format", "debezium_json"), ("json.include_nulls", "false")])
        .check_table(Role::Sink, &table(&[]))
        .unwrap();
}

type Relation = BTreeMap<String, i64>;

fn apply(relation: &mut Relation, lines: &[String]) {
    for line in lines {
        let more = if line.starts_with(['+', '>']) { 1 } else { -1 };
        *relation.entry(line[1..].to_string()).or_default() += more;
    }
    relation.retain(|_, count| *count != 0);
}

/// Random statements on a table with `id` as key, as the changes they make.
fn statements() -> impl Strategy<Value = Vec<Vec<String>>> {
    prop::collection::vec(prop::collection::vec((0i64..4, prop::option::of("[a-c\"\\\\é]{0,2}")), 1..12), 1..5)
        .prop_map(|batches| {
            let mut rows: BTreeMap<i64, String> = BTreeMap::new();
            let mut one = |(id, name): (i64, Option<String>)| -> Vec<String> {
                let new = name.map(|name| format!("{id} {}", if name.is_empty() { "_" } else { &name }));
                match (rows.remove(&id), new) {
                    (None, None) => vec![],
                    (Some(old), None) => vec![format!("-{old}")],
                    (old, Some(new)) => {
                        rows.insert(id, new.clone());
                        match old {
                            None => vec![format!("+{new}")],
                            // Both spellings of an update.
                            Some(old) if id % 2 == 0 => vec![format!("<{old}"), format!(">{new}")],
                            Some(old) => vec![format!("-{old}"), format!("+{new}")],
                        }
                    }
                }
            };
            batches.into_iter().map(|batch| batch.into_iter().flat_map(&mut one).collect()).collect()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_describes_the_same_relation(batches in statements(), keyed: bool, include_nulls: bool) {
        let table = table(if keyed { &["id"] } else { &[] });
        let nulls = if include_nulls { "true" } else { "false" };
        let sink = options(&[("format", "debezium_json"), ("json.include_nulls", nulls)]);
        let mut encoder = encoder(&sink, &table).unwrap();
        let mut decoder = decoder(&debezium(), &table).unwrap();
        let (mut expected, mut found) = (Relation::new(), Relation::new());
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            let changes = changes(&batch.iter().map(String::as_str).collect::<Vec<_>>());
            apply(&mut expected, &show(&changes));
            let mut out = EncodedValues::default();
            encoder.encode(&changes, &mut out).unwrap();
            if keyed {
                prop_assert!(out.len() <= 4, "one change a key");
            }
            for value in out.iter() {
                serde_json::from_slice::<serde_json::Value>(value).unwrap();
                decoder.push(&record(Some(std::str::from_utf8(value).unwrap()))).unwrap();
            }
            if let Some(read) = decoder.flush().unwrap() {
                apply(&mut found, &show(&read));
            }
            prop_assert_eq!(&found, &expected);
        }
    }

    #[test]
    fn under_a_key_the_relation_is_what_the_last_values_say(batches in statements()) {
        let table = table(&["id"]);
        let mut encoder = upsert_encoder(&options(&[]), &table).unwrap();
        let (mut expected, mut log) = (Relation::new(), BTreeMap::new());
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            let changes = changes(&batch.iter().map(String::as_str).collect::<Vec<_>>());
            apply(&mut expected, &show(&changes));
            let mut out = EncodedValues::default();
            encoder.encode(&changes, &mut out).unwrap();
            let ids = changes.rows().column(0).as_primitive::<arrow::datatypes::Int64Type>();
            for at in 0..out.len() {
                let value = (!out.is_tombstone(at)).then(|| out.get(at).to_vec());
                log.insert(ids.value(out.row(at)), value);
            }
        }
        let mut decoder = decoder(&options(&[]), &table).unwrap();
        for value in log.values().flatten() {
            decoder.push(&record(Some(std::str::from_utf8(value).unwrap()))).unwrap();
        }
        let mut found = Relation::new();
        apply(&mut found, &decoder.flush().unwrap().as_ref().map(show).unwrap_or_default());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_bytes_break_the_decoder(mut value in "\\{(\"(op|before|after|payload)\":(\"[curd]\"|null|\\{\"id\":[0-9]\\}|\\{|3|\\{\"op\":\"c\"\\}),?){0,4}\\}?", cut in 0usize..80) {
        value.truncate(cut);
        decode(&table(&[]), &[Some(&value), Some(r#"{"after":{"id":1},"op":"c"}"#)]);
    }
}
