//! Rows to records that apache-avro reads.

use std::sync::Arc;

use apache_avro::types::Value;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use laminar_core::Code;
use laminar_formats::FormatContext;
use laminar_formats::registry::RegistryOptions;

use crate::support::*;

fn batch(columns: Vec<(&str, ArrayRef, bool)>) -> RecordBatch {
    let fields = columns.iter().map(|(name, array, nullable)| Field::new(*name, array.data_type().clone(), *nullable));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array, _)| array).collect()).unwrap()
}

fn registered(batch: &RecordBatch, pairs: &[(&str, &str)]) -> (Vec<Vec<u8>>, String) {
    let registry = Arc::new(Memory::default());
    let ctx = registry.context(RegistryOptions { register: true, ..RegistryOptions::default() });
    let values = encode(batch, pairs, &ctx).unwrap();
    (values, registry.texts().remove("t-value").unwrap())
}

#[test]
fn a_table_makes_its_schema() {
    let structs = StructArray::from(vec![(
        Arc::new(Field::new("x", DataType::Int32, true)),
        Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef,
    )]);
    let rows = batch(vec![
        ("id", Arc::new(Int64Array::from(vec![1, -2])), false),
        ("name", Arc::new(StringArray::from(vec![Some("a"), None])), true),
        ("ok", Arc::new(BooleanArray::from(vec![true, false])), false),
        ("f", Arc::new(Float64Array::from(vec![0.5, -1.0])), false),
        ("raw", Arc::new(BinaryArray::from(vec![b"\x01".as_slice(), b""])), false),
        ("d", Arc::new(Date32Array::from(vec![1, 2])), false),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![3, -4])), false),
        ("m", Arc::new(Decimal128Array::from(vec![1234, -129]).with_precision_and_scale(10, 2).unwrap()), false),
        (
            "l",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), Some(vec![])])),
            false,
        ),
        ("s", Arc::new(structs), false),
    ]);
    let (values, schema) = registered(&rows, &[]);
    assert_eq!(values.len(), 2);
    let read: Vec<Value> = values
        .iter()
        .map(|value| {
            assert_eq!(value[..5], [0, 0, 0, 0, 0]);
            read_by_them(&schema, &value[5..])
        })
        .collect();
    let some = |value| Value::Union(1, Box::new(value));
    let null = || Value::Union(0, Box::new(Value::Null));
    let decimal = |bytes: &[u8]| Value::Decimal(apache_avro::Decimal::from(bytes));
    assert_eq!(
        read[0],
        record(&[
            ("id", Value::Long(1)),
            ("name", some(Value::String("a".into()))),
            ("ok", Value::Boolean(true)),
            ("f", Value::Double(0.5)),
            ("raw", Value::Bytes(vec![1])),
            ("d", Value::Date(1)),
            ("at", Value::TimestampMicros(3)),
            ("m", decimal(&[0x04, 0xd2])),
            ("l", Value::Array(vec![some(Value::Long(1)), null()])),
            ("s", record(&[("x", some(Value::Int(1)))])),
        ])
    );
    assert_eq!(
        read[1],
        record(&[
            ("id", Value::Long(-2)),
            ("name", null()),
            ("ok", Value::Boolean(false)),
            ("f", Value::Double(-1.0)),
            ("raw", Value::Bytes(vec![])),
            ("d", Value::Date(2)),
            ("at", Value::TimestampMicros(-4)),
            ("m", decimal(&[0xff, 0x7f])),
            ("l", Value::Array(vec![])),
            ("s", record(&[("x", null())])),
        ])
    );
}

fn given(rows: &RecordBatch, fields: &str) -> Result<Value, (Code, String)> {
    let schema = format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#);
    let values = encode(rows, &[("avro.schema", &schema)], &FormatContext::default());
    let values = values.map_err(|error| (error.code(), format!("{error} ({})", error.field().unwrap_or_default())))?;
    Ok(read_by_them(&schema, &values[0]))
}

#[test]
fn a_given_schema_is_written() {
    let rows = batch(vec![("a", Arc::new(Int64Array::from(vec![5])), true)]);
    let int = |value| Value::Int(value);
    assert_eq!(given(&rows, r#"{"name":"a","type":"int"}"#), Ok(record(&[("a", int(5))])));
    assert_eq!(
        given(&rows, r#"{"name":"b","type":"string","default":"x"},{"name":"A","type":["string","int","null"]}"#),
        Ok(record(&[("b", Value::String("x".into())), ("A", Value::Union(1, Box::new(int(5))))]))
    );
    let text = batch(vec![("e", Arc::new(StringArray::from(vec!["Y"])), true)]);
    let symbols = r#"{"name":"e","type":{"type":"enum","name":"e","symbols":["X","Y"]}}"#;
    assert_eq!(given(&text, symbols), Ok(record(&[("e", Value::Enum(1, "Y".into()))])));
    let times = batch(vec![("at", Arc::new(TimestampMicrosecondArray::from(vec![-1])), true)]);
    let millis = r#"{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}"#;
    assert_eq!(given(&times, millis), Ok(record(&[("at", Value::TimestampMillis(-1))])));
}

#[test]
fn what_does_not_fit_a_given_schema_is_said() {
    let a = |value: Option<i64>| batch(vec![("a", Arc::new(Int64Array::from(vec![value])), true)]);
    let error = |rows: &RecordBatch, fields: &str| given(rows, fields).unwrap_err();
    assert_eq!(error(&a(Some(1)), r#"{"name":"b","type":["null","int"],"default":null}"#).0, Code::UnknownColumn);
    assert_eq!(error(&a(Some(1)), r#"{"name":"a","type":"string"}"#).0, Code::TypeMismatch);
    let missing = r#"{"name":"a","type":"long"},{"name":"b","type":"int"}"#;
    assert_eq!(error(&a(Some(1)), missing).0, Code::InvalidSchema);
    let (code, text) = error(&a(Some(1 << 40)), r#"{"name":"a","type":"int"}"#);
    assert_eq!(
        (code, text.as_str()),
        (Code::InvalidValue, "column a cannot be written as Avro: 1099511627776 is out of range (a)")
    );
    let large = batch(vec![("u", Arc::new(UInt64Array::from(vec![1 << 63])), true)]);
    let (code, text) = error(&large, r#"{"name":"u","type":"long"}"#);
    assert_eq!(
        (code, text.as_str()),
        (Code::InvalidValue, "column u cannot be written as Avro: 9223372036854775808 is out of range (u)")
    );
    let unsigned = batch(vec![("u", Arc::new(UInt64Array::from(vec![(1 << 63) - 1])), true)]);
    let long = Value::Long(i64::MAX);
    assert_eq!(given(&unsigned, r#"{"name":"u","type":"long"}"#), Ok(record(&[("u", long)])));
    let (code, text) = error(&a(None), r#"{"name":"a","type":"long"}"#);
    assert_eq!(code, Code::InvalidValue);
    assert!(text.contains("it is null"), "{text}");
    let named = batch(vec![("user id", Arc::new(Int64Array::from(vec![1])), true)]);
    let error = encode(&named, &[], &FormatContext::default()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidName);
}
