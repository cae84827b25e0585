//! Every kind of poison fails as its own record, in bounded time and memory, and no good neighbour is lost or changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod poison;

use arrow::datatypes::DataType;
use laminar_core::Position;
use laminar_core::format::{DecodeError, Decoder};
use laminar_core::options::Options;
use laminar_core::source::{RawRecord, TimestampType};
use laminar_core::table::{Column, TableSpec};
use laminar_formats::decoder;

const SCHEMA: &str = "syntax = 'proto3'; message M { int64 id = 1; string name = 2; double price = 3; }";

/// `id BIGINT NOT NULL, name TEXT, price DOUBLE`
fn table() -> TableSpec {
    let column = |name: &str, data_type: DataType, nullable| Column {
        name: name.into(),
        data_type,
        nullable,
        json: false,
        metadata: None,
    };
    let columns = vec![
        column("id", DataType::Int64, false),
        column("name", DataType::Utf8, true),
        column("price", DataType::Float64, true),
    ];
    TableSpec { name: "t".into(), columns, projection: vec![0, 1, 2], event_time: None, primary_key: Vec::new() }
}

fn push(decoder: &mut dyn Decoder, value: Option<&[u8]>) -> Result<(), DecodeError> {
    decoder.push(&RawRecord {
        key: None,
        value,
        timestamp_micros: 0,
        timestamp_type: TimestampType::None,
        topic: "t",
        partition: 0,
        position: Position(0),
        batch: None,
    })
}

/// Good, poison, good, for each kind; what is left is what there would be without the poison.
fn check(pairs: &[(&str, &str)], good: &[u8]) {
    let format = pairs.first().map(|(_, format)| *format).unwrap();
    let options = Options::from_pairs(pairs.iter().copied()).parse("format").unwrap();
    let mut clean = decoder(&options, &table()).unwrap();
    let mut poisoned = decoder(&options, &table()).unwrap();
    let mut lonely = decoder(&options, &table()).unwrap();
    let mut bad = 0;
    for poison in poison::of(format, good) {
        let value = poison.value.as_deref();
        let alone = push(lonely.as_mut(), value);
        lonely.flush().unwrap();
        push(poisoned.as_mut(), Some(good)).unwrap();
        push(clean.as_mut(), Some(good)).unwrap();
        let error = push(poisoned.as_mut(), value);
        assert_eq!(error.is_err(), alone.is_err(), "{}: neighbours decide whether it is good", poison.name);
        match error {
            Err(error) => {
                bad += 1;
                assert!(!error.message.is_empty() && error.message.len() < 500, "{}: {error}", poison.name);
                assert!(
                    error.offset.is_none_or(|at| at <= value.unwrap_or_default().len()),
                    "{}: {error:?}",
                    poison.name
                );
            }
            // Damaged, and yet a record, as a prefix of a Protobuf message is.
            Ok(()) => push(clean.as_mut(), value).unwrap(),
        }
        push(poisoned.as_mut(), Some(good)).unwrap();
        push(clean.as_mut(), Some(good)).unwrap();
    }
    assert!(bad >= 200, "only {bad} kinds of poison for {format}");
    assert_eq!(poisoned.len(), clean.len());
    let (poisoned, clean) = (poisoned.flush().unwrap().unwrap(), clean.flush().unwrap().unwrap());
    assert_eq!(poisoned.rows(), clean.rows());
}

#[test]
fn json() {
    check(
        &[("format", "json")],
        br#"{"id":1234567890,"name":"an \"escaped\" \u00e9 name of some length","price":-12.5e-3}"#,
    );
}

#[test]
fn csv() {
    let good = format!("1234567890,\"a \"\"quoted\"\", {} name\",-12.5e-3", "very ".repeat(30));
    check(&[("format", "csv")], good.as_bytes());
}

#[test]
fn protobuf() {
    let mut good = b"\x08\xd2\x85\xd8\xcc\x04".to_vec();
    // 120 letters: cut anywhere within, the length says more than there is.
    good.extend(b"\x12\x78");
    good.extend(b"name ".repeat(24));
    good.extend(b"\x19\x9a\x99\x99\x99\x99\x99\x89\xbf");
    check(&[("format", "protobuf"), ("protobuf.schema", SCHEMA)], &good);
}
