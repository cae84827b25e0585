//! Any bytes as CSV: a record is accepted or refused, never half; what is accepted is written and read back the same.

use arrow::datatypes::DataType;
use laminar_core::Position;
use laminar_core::format::{Decoder, EncodedValues};
use laminar_core::options::Options;
use laminar_core::source::{RawRecord, TimestampType};
use laminar_core::table::{Column, TableSpec, timestamp_type};
use laminar_formats::{FormatOptions, decoder, encoder};

fn table() -> TableSpec {
    let types = [DataType::Utf8, DataType::Int64, DataType::Float64, timestamp_type(), DataType::Boolean];
    let column = |(at, data_type): (usize, DataType)| Column {
        name: format!("c{at}"),
        data_type,
        nullable: true,
        json: false,
        metadata: None,
    };
    let columns: Vec<Column> = types.into_iter().enumerate().map(column).collect();
    let projection = (0..columns.len()).collect();
    TableSpec { name: "t".into(), columns, projection, event_time: None, primary_key: Vec::new() }
}

fn push(decoder: &mut dyn Decoder, value: &[u8]) -> bool {
    let record = RawRecord {
        key: None,
        value: Some(value),
        timestamp_micros: 0,
        timestamp_type: TimestampType::None,
        topic: "t",
        partition: 0,
        position: Position(0),
        batch: None,
    };
    decoder.push(&record).is_ok()
}

/// Bytes drawn towards the characters that matter.
fn record(entropy: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in entropy {
        match byte {
            0..64 => out.push(b",\",;\n\r\t'"[usize::from(byte % 8)]),
            64..110 => out.push(b'0' + byte % 10),
            110..140 => {
                out.extend_from_slice([&b"true"[..], b"-1.5", b"2024-01-31T00:00:00Z", b"\"\""][usize::from(byte % 4)])
            }
            _ => out.push(*byte),
        }
    }
    out
}

pub fn check(entropy: &[u8]) {
    let (kind, entropy) = entropy.split_first().unwrap_or((&0, &[]));
    let pairs: &[(&str, &str)] = match kind % 3 {
        0 => &[("format", "csv")],
        1 => &[("format", "csv"), ("csv_delimiter", ";"), ("csv_quote", "'"), ("csv_null", "0")],
        _ => &[("format", "csv"), ("csv_delimiter", "\\t"), ("csv_null", "NULL")],
    };
    let options: FormatOptions = Options::from_pairs(pairs.iter().copied()).parse("format").unwrap();
    let spec = table();
    let mut reader = decoder(&options, &spec).unwrap();
    // A blank line is neither.
    let is_blank = |record: &[u8]| matches!(record, b"" | b"\n" | b"\r" | b"\r\n");
    let records = entropy.chunks(24).map(record).filter(|record| !is_blank(record));
    let accepted = records.filter(|record| push(reader.as_mut(), record)).count();
    let delimiter = [",", ";", "\t"][usize::from(kind % 3)];
    let made = ["text", "17", "2.5", "2024-01-31T12:00:00Z", "true"].join(delimiter);
    assert!(push(reader.as_mut(), made.as_bytes()));
    assert_eq!(reader.len(), accepted + 1);
    let changes = reader.flush().unwrap().unwrap();
    let mut out = EncodedValues::default();
    encoder(&options, &spec).unwrap().encode(&changes, &mut out).unwrap();
    for value in out.iter() {
        assert!(push(reader.as_mut(), value), "refused our own {:?}", String::from_utf8_lossy(value));
    }
    assert_eq!(reader.flush().unwrap().unwrap().rows(), changes.rows());
}
