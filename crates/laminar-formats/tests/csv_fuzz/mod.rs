//! Any bytes as CSV: a record is accepted or refused, never half; what is accepted is written and read back the same.

#[path = "../support/mod.rs"]
mod support;

use arrow::datatypes::DataType;
use laminar_core::format::EncodedValues;
use laminar_core::options::Options;
use laminar_core::table::{TableSpec, timestamp_type};
use laminar_formats::{FormatOptions, decoder, encoder};
use support::{column, push};

fn table() -> TableSpec {
    let types = [DataType::Utf8, DataType::Int64, DataType::Float64, timestamp_type(), DataType::Boolean];
    let columns = types.into_iter().enumerate().map(|(at, data_type)| column(&format!("c{at}"), data_type));
    support::table(columns.collect())
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
    let accepted = records.filter(|record| push(reader.as_mut(), record).is_ok()).count();
    let delimiter = [",", ";", "\t"][usize::from(kind % 3)];
    let made = ["text", "17", "2.5", "2024-01-31T12:00:00Z", "true"].join(delimiter);
    assert!(push(reader.as_mut(), made.as_bytes()).is_ok());
    assert_eq!(reader.len(), accepted + 1);
    let changes = reader.flush().unwrap().unwrap();
    let mut out = EncodedValues::default();
    encoder(&options, &spec).unwrap().encode(&changes, &mut out).unwrap();
    for value in out.iter() {
        assert!(push(reader.as_mut(), value).is_ok(), "refused our own {:?}", String::from_utf8_lossy(value));
    }
    assert_eq!(reader.flush().unwrap().unwrap().rows(), changes.rows());
}
