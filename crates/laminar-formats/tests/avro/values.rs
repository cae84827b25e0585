//! What each column type makes of a value of each Avro type: one line a case.

use apache_avro::types::Value;
use apache_avro::{Days, Decimal, Millis, Months};
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use laminar_core::table::{Column, timestamp_type};
use std::sync::Arc;

use crate::support::*;

/// The cell that a field `a` of this type gives, or the error.
fn read(column: Column, avro: &str, value: Value) -> String {
    let schema = format!(r#"{{"type":"record","name":"r","fields":[{{"name":"a","type":{avro}}}]}}"#);
    let mut decoder = match plain(vec![column], &schema) {
        Ok(decoder) => decoder,
        Err(error) => return format!("refused: {error} ({})", error.field().unwrap_or_default()),
    };
    match push(decoder.as_mut(), Some(&theirs(&schema, record(&[("a", value)])))) {
        Ok(()) => cell(&rows(decoder.as_mut()), 0, 0),
        Err(error) => {
            assert!(decoder.flush().unwrap().is_none());
            format!("error: {error}")
        }
    }
}

#[track_caller]
fn check(data_type: DataType, avro: &str, value: Value, expected: &str) {
    assert_eq!(read(column("a", data_type), avro, value), expected, "{avro}");
}

#[test]
fn numbers() {
    use DataType::*;
    check(Int64, r#""long""#, Value::Long(i64::MIN), "-9223372036854775808");
    check(Int64, r#""int""#, Value::Int(-7), "-7");
    check(Int32, r#""long""#, Value::Long(2_147_483_647), "2147483647");
    check(Int32, r#""long""#, Value::Long(2_147_483_648), "error: 2147483648 is out of range for INT (column a)");
    check(Int8, r#""int""#, Value::Int(-129), "error: -129 is out of range for TINYINT (column a)");
    check(UInt64, r#""long""#, Value::Long(-1), "error: -1 is out of range for BIGINT UNSIGNED (column a)");
    check(Float64, r#""int""#, Value::Int(3), "3.0");
    check(Float64, r#""float""#, Value::Float(0.5), "0.5");
    check(Float32, r#""float""#, Value::Float(f32::NAN), "NaN");
    check(Float64, r#""double""#, Value::Double(-0.1), "-0.1");
    check(Decimal128(10, 2), r#""long""#, Value::Long(-12), "-12.00");
    check(Boolean, r#""boolean""#, Value::Boolean(true), "true");
    check(
        Int64,
        r#""boolean""#,
        Value::Boolean(true),
        "refused: an Avro boolean cannot fill a column of type BIGINT (a)",
    );
}

#[test]
fn text_and_bytes() {
    use DataType::*;
    check(Utf8, r#""string""#, Value::String("čaj \u{1F375}".into()), "čaj \u{1F375}");
    check(Binary, r#""string""#, Value::String("ab".into()), "6162");
    check(Binary, r#""bytes""#, Value::Bytes(vec![0, 255]), "00ff");
    check(Utf8, r#""bytes""#, Value::Bytes(b"ab\xff".to_vec()), "error: the string is not UTF-8 (column a)");
    check(Binary, r#"{"type":"fixed","name":"f","size":2}"#, Value::Fixed(2, vec![1, 2]), "0102");
    check(Utf8, r#"{"type":"enum","name":"e","symbols":["X","Y"]}"#, Value::Enum(1, "Y".into()), "Y");
    let json = || Column { json: true, ..column("a", Utf8) };
    assert_eq!(read(json(), r#""string""#, Value::String(r#"{"b": 1}"#.into())), r#"{"b": 1}"#);
    let error = read(json(), r#""string""#, Value::String(r#"{"b": "#.into()));
    assert!(error.starts_with("error: the text is not JSON"), "{error}");
}

#[test]
fn logical_types() {
    use DataType::*;
    let logical = |base: &str, name: &str| format!(r#"{{"type":"{base}","logicalType":"{name}"}}"#);
    let micros = timestamp_type();
    check(Date32, &logical("int", "date"), Value::Date(19_000), "2022-01-08");
    check(Time64(TimeUnit::Microsecond), &logical("int", "time-millis"), Value::TimeMillis(1), "00:00:00.001");
    check(Time64(TimeUnit::Microsecond), &logical("long", "time-micros"), Value::TimeMicros(1), "00:00:00.000001");
    let day = Value::TimeMicros(86_400_000_000);
    let over = "error: 86400000000 is out of range for TIME (column a)";
    check(Time64(TimeUnit::Microsecond), &logical("long", "time-micros"), day, over);
    for (name, value) in
        [("timestamp-millis", Value::TimestampMillis(-1)), ("local-timestamp-millis", Value::LocalTimestampMillis(-1))]
    {
        check(micros.clone(), &logical("long", name), value, "1969-12-31T23:59:59.999");
    }
    for (name, value) in [
        ("timestamp-micros", Value::TimestampMicros(1)),
        ("local-timestamp-micros", Value::LocalTimestampMicros(1)),
        ("timestamp-nanos", Value::TimestampNanos(1999)),
        ("local-timestamp-nanos", Value::LocalTimestampNanos(1999)),
    ] {
        check(micros.clone(), &logical("long", name), value, "1970-01-01T00:00:00.000001");
    }
    check(micros.clone(), r#""long""#, Value::Long(1500), "1970-01-01T00:00:01.500");
    let far = Value::TimestampMillis(i64::MAX);
    let out = "error: 9223372036854775807 is out of range for TIMESTAMP (column a)";
    check(micros, &logical("long", "timestamp-millis"), far, out);
    let uuid = Value::Uuid("67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap());
    check(Utf8, &logical("string", "uuid"), uuid.clone(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
    let fixed = r#"{"type":"fixed","name":"u","size":16,"logicalType":"uuid"}"#;
    check(Utf8, fixed, uuid, "67e55044-10b1-426f-9247-bb680e5fe0c8");
    let duration = Value::Duration(apache_avro::Duration::new(Months::new(1), Days::new(2), Millis::new(3004)));
    let fixed = r#"{"type":"fixed","name":"d","size":12,"logicalType":"duration"}"#;
    check(Utf8, fixed, duration.clone(), "P1M2DT3.004S");
    check(Interval(IntervalUnit::MonthDayNano), fixed, duration, "1 mons 2 days 3.004000000 secs");
}

#[test]
fn decimals() {
    use DataType::Decimal128;
    let bytes = r#"{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}"#;
    let fixed = r#"{"type":"fixed","name":"f","size":6,"logicalType":"decimal","precision":10,"scale":2}"#;
    let of = |value: i64| Value::Decimal(Decimal::from(&value.to_be_bytes()[2..]));
    for avro in [bytes, fixed] {
        check(Decimal128(10, 2), avro, of(1234), "12.34");
        check(Decimal128(10, 2), avro, of(-1234), "-12.34");
        check(Decimal128(12, 4), avro, of(1234), "12.3400");
        check(Decimal128(10, 1), avro, of(1235), "12.4");
        check(Decimal128(10, 1), avro, of(-1235), "-12.4");
        check(Decimal128(3, 2), avro, of(1234), "error: the decimal is out of range for DECIMAL(3, 2) (column a)");
    }
}

#[test]
fn nested() {
    use DataType::*;
    let list = List(Arc::new(Field::new("item", Int64, true)));
    let array = r#"{"type":"array","items":["null","long"]}"#;
    let some = |value| Value::Union(1, Box::new(value));
    let null = Value::Union(0, Box::new(Value::Null));
    check(list.clone(), array, Value::Array(vec![some(Value::Long(1)), null]), "[1, NULL]");
    check(list, array, Value::Array(vec![]), "[]");
    let entries = Fields::from(vec![Field::new("keys", Utf8, false), Field::new("values", Int64, true)]);
    let map = Map(Arc::new(Field::new("entries", Struct(entries), false)), false);
    let value = Value::Map([("k".to_string(), Value::Long(1))].into());
    check(map, r#"{"type":"map","values":"long"}"#, value, "{k: 1}");
    let inner = r#"{"type":"record","name":"i","fields":[{"name":"x","type":"string"},{"name":"b","type":"int"}]}"#;
    let value = || record(&[("x", Value::String("no".into())), ("b", Value::Int(5))]);
    let fields = |all: &[(&str, DataType)]| {
        Struct(all.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect())
    };
    check(fields(&[("b", Int32)]), inner, value(), "{b: 5}");
    check(fields(&[("b", Int32), ("c", Utf8)]), inner, value(), "{b: 5, c: NULL}");
    let refused = "refused: an Avro int cannot fill a column of type TEXT (a.b)";
    check(fields(&[("b", Utf8)]), inner, value(), refused);
}

/// As in JSON and Protobuf: the last wins, in the place of the first.
#[test]
fn keys_of_a_map_that_come_twice() {
    let entries =
        Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Int64, true)]);
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false);
    let schema = r#"{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"map","values":"long"}}]}"#;
    let mut decoder = plain(vec![column("a", map)], schema).unwrap();
    let twice = b"\x04\x02k\x02\x02l\x04\x02\x02k\x06\0";
    push(decoder.as_mut(), Some(b"\x02\x02k\x02\0")).unwrap();
    push(decoder.as_mut(), Some(twice)).unwrap();
    push(decoder.as_mut(), Some(&[twice.as_slice(), b"\0"].concat())).unwrap_err();
    push(decoder.as_mut(), Some(b"\x02\x02l\x08\0")).unwrap();
    assert_eq!(text(&rows(decoder.as_mut())), "{k: 1}; {k: 3, l: 2}; {l: 4}");
}

#[test]
fn unions() {
    use DataType::*;
    let null = Value::Union(0, Box::new(Value::Null));
    check(Int64, r#"["null","long"]"#, null.clone(), "NULL");
    let required = Column { nullable: false, ..column("a", Int64) };
    assert_eq!(read(required, r#"["null","long"]"#, null), "error: null in a NOT NULL column (column a)");
    check(Int64, r#"["long","null"]"#, Value::Union(0, Box::new(Value::Long(4))), "4");
    let many = r#"["null","int","string","long"]"#;
    check(Int64, many, Value::Union(1, Box::new(Value::Int(4))), "4");
    check(Int64, many, Value::Union(3, Box::new(Value::Long(5))), "5");
    let text = Value::Union(2, Box::new(Value::String("x".into())));
    check(Utf8, many, text.clone(), "x");
    check(Int64, many, text, "error: an Avro string cannot fill a column of type BIGINT (column a)");
}
