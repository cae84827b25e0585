//! prost-reflect as the judge of our Protobuf decoder and encoder.
//!
//! From a string of bytes ("entropy") come messages, legal, unusual and damaged ones; [`check`] decodes them with both and compares:
//! which are refused, and which value each column has. What was read is written again and must mean the same to prost-reflect.
//! The same body runs under proptest, over random seeds, and under cargo-fuzz.
//!
//! Where prost-reflect knows less (a Timestamp that is no time, JSON's lack of NaN, a map's entry laid out oddly), no claim is made.

#[path = "../support/mod.rs"]
mod support;

use std::cell::Cell;
use std::sync::OnceLock;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Fields, Float32Type, Float64Type, Int32Type, Int64Type, IntervalMonthDayNanoType,
    IntervalUnit, TimestampMicrosecondType,
};
use laminar_core::format::{Decoder, EncodedValues, Encoder};
use laminar_core::options::Options;
use laminar_core::table::{Column, TYPE_KEY, TableSpec, timestamp_type};
use laminar_formats::{FormatOptions, decoder, encoder};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};

use support::push;

const SCHEMA: &str = r#"
    syntax = "proto3";
    package t;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/duration.proto";
    import "google/protobuf/struct.proto";
    import "google/protobuf/wrappers.proto";
    enum Colour { NONE = 0; RED = 1; BLUE = -7; }
    message Inner { int32 n = 1; string s = 2; repeated sint64 r = 3; optional bool b = 4; Colour c = 300; }
    message All {
      int32 a = 1; int64 b = 2; uint32 c = 3; uint64 d = 4; sint32 e = 5; sint64 f = 6; bool g = 7;
      fixed32 h = 8; fixed64 i = 9; sfixed32 j = 10; sfixed64 k = 11; float l = 12; double m = 13;
      string n = 14; bytes o = 15; Colour p = 16; Inner q = 17;
      optional int32 oa = 21; optional string on = 22; optional Colour op = 23; optional uint64 od = 24;
      repeated int32 ra = 31; repeated string rn = 32; repeated Inner rq = 33; repeated double rm = 34;
      repeated bool rg = 35 [packed = false]; repeated Colour rp = 36; repeated fixed32 rh = 37;
      map<string, int64> sm = 41; map<int32, Inner> im = 42; map<bool, string> bm = 43; map<sint64, Colour> cm = 44;
      oneof choice { int32 xa = 51; string xn = 52; Inner xq = 53; Colour xp = 1000; }
      google.protobuf.Timestamp wt = 61; google.protobuf.Duration wd = 62;
      google.protobuf.Int64Value wi = 63; google.protobuf.StringValue ws = 64; google.protobuf.DoubleValue wf = 65;
      google.protobuf.Struct wj = 66; google.protobuf.Value wv = 67;
    }
"#;

fn message_type() -> &'static MessageDescriptor {
    static TYPE: OnceLock<MessageDescriptor> = OnceLock::new();
    TYPE.get_or_init(|| {
        struct Text;
        impl protox::file::FileResolver for Text {
            fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
                match name {
                    "t.proto" => protox::file::File::from_source(name, SCHEMA),
                    other => protox::file::GoogleFileResolver::new().open_file(other),
                }
            }
        }
        let mut compiler = protox::Compiler::with_file_resolver(Text);
        compiler.open_file("t.proto").unwrap();
        let pool: DescriptorPool = compiler.descriptor_pool();
        pool.get_message_by_name("t.All").unwrap()
    })
}

fn options() -> FormatOptions {
    let pairs = [("format", "protobuf"), ("protobuf.message", "t.All"), ("protobuf.schema", SCHEMA)];
    Options::from_pairs(pairs).parse("format").unwrap()
}

/// The column that holds every value of the field.
fn column_of(field: &FieldDescriptor) -> Field {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { unreachable!() };
        let key = single(&entry.map_entry_key_field(), "key").with_nullable(false);
        let entries = Fields::from(vec![key, single(&entry.map_entry_value_field(), "value")]);
        let entries = Field::new("entries", DataType::Struct(entries), false);
        return Field::new(field.name(), DataType::Map(entries.into(), false), true);
    }
    match field.is_list() {
        true => Field::new(field.name(), DataType::List(single(field, "item").into()), true),
        false => single(field, field.name()),
    }
}

fn single(field: &FieldDescriptor, name: &str) -> Field {
    let (data_type, json) = match field.kind() {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => (DataType::Int32, false),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint32 | Kind::Fixed32 => (DataType::Int64, false),
        Kind::Uint64 | Kind::Fixed64 => (DataType::Decimal128(20, 0), false),
        Kind::Bool => (DataType::Boolean, false),
        Kind::Float => (DataType::Float32, false),
        Kind::Double => (DataType::Float64, false),
        Kind::String | Kind::Enum(_) => (DataType::Utf8, false),
        Kind::Bytes => (DataType::Binary, false),
        Kind::Message(message) => match message.name() {
            "Timestamp" => (timestamp_type(), false),
            "Duration" => (DataType::Interval(IntervalUnit::MonthDayNano), false),
            "Int64Value" => (DataType::Int64, false),
            "StringValue" => (DataType::Utf8, false),
            "DoubleValue" => (DataType::Float64, false),
            "Struct" | "Value" => (DataType::Utf8, true),
            _ => (DataType::Struct(message.fields().map(|field| column_of(&field)).collect()), false),
        },
    };
    let field = Field::new(name, data_type, true);
    if json { field.with_metadata([(TYPE_KEY.to_string(), "json".to_string())].into()) } else { field }
}

fn table() -> TableSpec {
    let columns: Vec<Column> = message_type()
        .fields()
        .map(|field| {
            let column = column_of(&field);
            let json = !column.metadata().is_empty();
            let data_type = column.data_type().clone();
            Column { name: column.name().clone(), data_type, nullable: true, json, metadata: None }
        })
        .collect();
    let projection = (0..columns.len()).collect();
    TableSpec { name: "t".into(), columns, projection, event_time: None, primary_key: Vec::new() }
}

/// Bytes that decide what is generated; zeros when they run out.
struct Entropy<'a>(&'a [u8]);

impl Entropy<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }
    fn word(&mut self) -> u64 {
        let word = (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()));
        word >> self.below(64)
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn delimited(body: &[u8], out: &mut Vec<u8>) {
    varint(body.len() as u64, out);
    out.extend_from_slice(body);
}

/// One value without its tag, mostly of the field's kind.
fn value(entropy: &mut Entropy<'_>, field: &FieldDescriptor, depth: usize, out: &mut Vec<u8>) {
    match field.kind() {
        Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => out.extend((entropy.word() as u32).to_le_bytes()),
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => out.extend(entropy.word().to_le_bytes()),
        Kind::String | Kind::Bytes => {
            let length = entropy.below(20);
            let mut text: Vec<u8> = (0..length).map(|_| entropy.byte() % 128).collect();
            match entropy.byte() {
                0..4 => text.push(0xff),
                4..30 => text.extend("é€😀".as_bytes()),
                _ => {}
            }
            delimited(&text, out);
        }
        Kind::Message(message) => {
            let mut body = Vec::new();
            if depth > 0 {
                fields(entropy, &message, depth - 1, 4, &mut body);
            }
            delimited(&body, out);
        }
        _ => match entropy.byte() {
            // A varint with more bytes than it needs.
            0..8 => out.extend([0x80 | entropy.byte(), 0x80, 0]),
            8..100 => varint(entropy.word(), out),
            byte => varint(u64::from(byte % 4), out),
        },
    }
}

fn wire_type(kind: &Kind) -> u64 {
    match kind {
        Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => 5,
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => 1,
        Kind::String | Kind::Bytes | Kind::Message(_) => 2,
        _ => 0,
    }
}

fn fields(entropy: &mut Entropy<'_>, message: &MessageDescriptor, depth: usize, most: usize, out: &mut Vec<u8>) {
    let all: Vec<FieldDescriptor> = message.fields().collect();
    for _ in 0..entropy.below(most + 1) {
        let Some(field) = all.get(entropy.below(all.len().max(1))) else { return };
        match entropy.byte() {
            // Of no schema.
            0..6 => {
                varint(2_000 << 3 | 2, out);
                delimited(b"unknown", out);
            }
            6..9 => out.extend([0xa3, 0x7d, 0x08, 0x01, 0xa4, 0x7d]),
            // Many in one value.
            9..60 if field.is_list() && wire_type(&field.kind()) != 2 => {
                let mut body = Vec::new();
                (0..entropy.below(5)).for_each(|_| value(entropy, field, depth, &mut body));
                varint(u64::from(field.number()) << 3 | 2, out);
                delimited(&body, out);
            }
            60..62 => varint(u64::from(field.number()) << 3 | (entropy.word() & 7), out),
            _ => {
                varint(u64::from(field.number()) << 3 | wire_type(&field.kind()), out);
                value(entropy, field, depth, out);
            }
        }
    }
}

fn message(entropy: &mut Entropy<'_>) -> Vec<u8> {
    let kind = entropy.byte();
    if kind >= 248 {
        return std::mem::take(&mut entropy.0).to_vec();
    }
    let mut out = Vec::new();
    fields(entropy, message_type(), 4, 24, &mut out);
    let at = (entropy.word() % (out.len() as u64 + 1)) as usize;
    match kind {
        0..180 => {}
        180..200 => out.truncate(at),
        200..215 => out.insert(at, entropy.byte()),
        215..230 => out.get_mut(at).into_iter().for_each(|place| *place = entropy.byte()),
        230..240 if at < out.len() => drop(out.remove(at)),
        _ => out.extend_from_within(..),
    }
    out
}

/// Is there a map entry of which the two decoders need not say the same?
fn is_odd(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let varint = |rest: &mut &[u8]| match prost_reflect::prost::encoding::decode_varint(rest) {
        Ok(value) => value,
        Err(_) => {
            *rest = &[];
            0
        }
    };
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let is_map = (41..=44).contains(&(tag >> 3));
        if is_map && tag & 7 != 2 {
            return true;
        }
        match tag & 7 {
            0 => drop(varint(&mut rest)),
            1 => rest = rest.get(8..).unwrap_or_default(),
            5 => rest = rest.get(4..).unwrap_or_default(),
            2 => {
                let length = varint(&mut rest) as usize;
                let body = rest.get(..length).unwrap_or_default();
                rest = rest.get(length..).unwrap_or_default();
                if is_map && repeats(body) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

/// Does its key or its value stand in it twice?
fn repeats(body: &[u8]) -> bool {
    let (mut rest, mut counts) = (body, [0; 2]);
    let varint = |rest: &mut &[u8]| match prost_reflect::prost::encoding::decode_varint(rest) {
        Ok(value) => value,
        Err(_) => {
            *rest = &[];
            0
        }
    };
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        counts[0] += usize::from(tag >> 3 == 1);
        counts[1] += usize::from(tag >> 3 == 2);
        match tag & 7 {
            0 => drop(varint(&mut rest)),
            1 => rest = rest.get(8..).unwrap_or_default(),
            5 => rest = rest.get(4..).unwrap_or_default(),
            2 => {
                let length = varint(&mut rest) as usize;
                rest = rest.get(length..).unwrap_or_default();
            }
            _ => return true,
        }
    }
    counts.iter().any(|count| *count > 1)
}

/// How often one of the tags may stand in it.
fn count(bytes: &[u8], tags: &[[u8; 2]]) -> usize {
    bytes.windows(2).filter(|pair| tags.iter().any(|tag| tag == pair)).count()
}

/// Two parts of a Timestamp or Duration.
fn parts(message: &DynamicMessage) -> (i64, i32) {
    let part = |name: &str| message.get_field_by_name(name).unwrap().into_owned();
    (part("seconds").as_i64().unwrap(), part("nanos").as_i32().unwrap())
}

/// May we refuse a value that prost-reflect takes?
fn is_strict(value: &Value) -> bool {
    match value {
        Value::Message(message) => match message.descriptor().full_name() {
            "google.protobuf.Timestamp" => {
                let (seconds, nanos) = parts(message);
                !(0..1_000_000_000).contains(&nanos) || !(-(1 << 43)..1 << 43).contains(&seconds)
            }
            "google.protobuf.Duration" => {
                let (seconds, nanos) = parts(message);
                nanos.unsigned_abs() >= 1_000_000_000
                    || seconds.unsigned_abs() > 1 << 33
                    || (seconds > 0 && nanos < 0)
                    || (seconds < 0 && nanos > 0)
            }
            "google.protobuf.Value" => message.fields().any(|(field, value)| match field.name() {
                "number_value" => !value.as_f64().unwrap().is_finite(),
                _ => is_strict(value),
            }),
            _ => message.fields().any(|(_, value)| is_strict(value)),
        },
        Value::List(items) => items.iter().any(is_strict),
        Value::Map(entries) => entries.values().any(is_strict),
        _ => false,
    }
}

fn json(message: &DynamicMessage) -> serde_json::Value {
    let field = |name: &str| message.get_field_by_name(name).unwrap().into_owned();
    match message.descriptor().name() {
        "Struct" => {
            let fields = field("fields");
            let entry =
                |(key, value): (&MapKey, &Value)| (key.as_str().unwrap().into(), json(value.as_message().unwrap()));
            serde_json::Value::Object(fields.as_map().unwrap().iter().map(entry).collect())
        }
        "ListValue" => {
            field("values").as_list().unwrap().iter().map(|value| json(value.as_message().unwrap())).collect()
        }
        _ => match message.fields().next() {
            Some((kind, value)) => match kind.name() {
                "number_value" => value.as_f64().unwrap().into(),
                "string_value" => value.as_str().unwrap().into(),
                "bool_value" => value.as_bool().unwrap().into(),
                "struct_value" | "list_value" => json(value.as_message().unwrap()),
                _ => serde_json::Value::Null,
            },
            None => serde_json::Value::Null,
        },
    }
}

/// Numbers are doubles, however they are written.
fn same_json(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::*;
    match (a, b) {
        (Number(a), Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            // serde_json reads some doubles a few units off; we wrote them right.
            a == b || a.to_bits().abs_diff(b.to_bits()) <= 4 || (a - b).abs() < 1e-306
        }
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_json(a, b)))
        }
        _ => a == b,
    }
}

fn same(array: &dyn Array, row: usize, kind: &Kind, value: &Value) -> bool {
    if array.is_null(row) {
        return false;
    }
    match value {
        Value::Bool(value) => array.as_boolean().value(row) == *value,
        Value::I32(value) => array.as_primitive::<Int32Type>().value(row) == *value,
        Value::I64(value) => array.as_primitive::<Int64Type>().value(row) == *value,
        Value::U32(value) => array.as_primitive::<Int64Type>().value(row) == i64::from(*value),
        Value::U64(value) => array.as_primitive::<Decimal128Type>().value(row) == i128::from(*value),
        Value::F32(value) => array.as_primitive::<Float32Type>().value(row).to_bits() == value.to_bits(),
        Value::F64(value) => array.as_primitive::<Float64Type>().value(row).to_bits() == value.to_bits(),
        Value::String(value) => array.as_string::<i32>().value(row) == value,
        Value::Bytes(value) => array.as_binary::<i32>().value(row) == value,
        Value::EnumNumber(number) => {
            let Kind::Enum(names) = kind else { return false };
            let name = names.get_value(*number).map_or(number.to_string(), |value| value.name().to_string());
            array.as_string::<i32>().value(row) == name
        }
        Value::List(items) => {
            let found = array.as_list::<i32>().value(row);
            found.len() == items.len() && items.iter().enumerate().all(|(at, item)| same(&found, at, kind, item))
        }
        Value::Map(entries) => {
            let Kind::Message(entry) = kind else { return false };
            let found = array.as_map().value(row);
            let (keys, values) = (found.column(0), found.column(1));
            let kinds = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            found.len() == entries.len()
                && (0..found.len()).all(|at| {
                    entries.iter().any(|(key, value)| {
                        same(keys, at, &kinds.0, &Value::from(key.clone())) && same(values, at, &kinds.1, value)
                    })
                })
        }
        Value::Message(message) => match message.descriptor().name() {
            "Timestamp" => {
                let (seconds, nanos) = parts(message);
                let micros = seconds * 1_000_000 + i64::from(nanos) / 1_000;
                array.as_primitive::<TimestampMicrosecondType>().value(row) == micros
            }
            "Duration" => {
                let (seconds, nanos) = parts(message);
                let found = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
                found.nanoseconds == seconds * 1_000_000_000 + i64::from(nanos)
            }
            "Int64Value" | "StringValue" | "DoubleValue" => {
                let field = message.descriptor().get_field(1).unwrap();
                same(array, row, &field.kind(), &message.get_field(&field))
            }
            "Struct" | "Value" => {
                let text = array.as_string::<i32>().value(row);
                serde_json::from_str(text).is_ok_and(|found| same_json(&found, &json(message)))
            }
            _ => {
                let columns = array.as_struct().columns();
                message
                    .descriptor()
                    .fields()
                    .zip(columns)
                    .all(|(field, column)| same_field(column, row, &field, message))
            }
        },
    }
}

fn same_field(array: &dyn Array, row: usize, field: &FieldDescriptor, message: &DynamicMessage) -> bool {
    if field.supports_presence() && !message.has_field(field) {
        return array.is_null(row);
    }
    same(array, row, &field.kind(), &message.get_field(field))
}

type Codec = (Box<dyn Decoder>, Box<dyn Encoder>);

/// Generates messages from `entropy`, decodes them with one decoder, compares with prost-reflect; and the way back.
pub fn check(entropy: &[u8]) {
    let mut entropy = Entropy(entropy);
    // Compiling the schema takes longer than all that is tested here. After a failure both are made anew.
    thread_local! {
        static CODEC: Cell<Option<Codec>> = const { Cell::new(None) };
    }
    let (mut decoder, mut encoder) = CODEC.take().unwrap_or_else(|| {
        let spec = table();
        (decoder(&options(), &spec).unwrap(), encoder(&options(), &spec).unwrap())
    });
    check_with(&mut entropy, decoder.as_mut(), encoder.as_mut());
    CODEC.set(Some((decoder, encoder)));
}

fn check_with(entropy: &mut Entropy<'_>, decoder: &mut dyn Decoder, encoder: &mut dyn Encoder) {
    let mut accepted = Vec::new();
    for _ in 0..1 + entropy.below(5) {
        let bytes = message(entropy);
        let expected = DynamicMessage::decode(message_type().clone(), bytes.as_slice());
        let taken = push(decoder, &bytes).is_ok();
        let odd = is_odd(&bytes);
        match &expected {
            Ok(message) => {
                // The first of several Timestamps, Durations and Values may be none, though all together are one.
                let repeated = [[0xea, 0x03], [0xf2, 0x03], [0x92, 0x04], [0x9a, 0x04]];
                let repeated = repeated.iter().any(|tag| count(&bytes, &[*tag]) > 1);
                let strict = odd || repeated || is_strict(&Value::Message(message.clone()));
                assert!(taken || strict, "refused {bytes:02x?}: {message}");
            }
            // What a later value replaces is not looked at within wrappers and JSON.
            Err(_) if count(&bytes, &[[0x82, 0x04], [0x92, 0x04], [0x9a, 0x04]]) > 0 => {}
            Err(error) => assert!(!taken || odd, "accepted {bytes:02x?}: {error}"),
        }
        if taken {
            accepted.push((bytes, expected.ok().filter(|_| !odd)));
        }
    }
    assert_eq!(decoder.len(), accepted.len());
    let Some(changes) = decoder.flush().unwrap() else { return };
    for (row, (bytes, message)) in accepted.iter().enumerate() {
        let Some(message) = message else { continue };
        for (field, column) in message_type().fields().zip(changes.rows().columns()) {
            assert!(same_field(column, row, &field, message), "{bytes:02x?}: {} is {column:?}", field.name());
        }
    }
    let mut out = EncodedValues::default();
    encoder.encode(&changes, &mut out).unwrap();
    assert_eq!(out.len(), accepted.len());
    for (row, bytes) in out.iter().enumerate() {
        let again = DynamicMessage::decode(message_type().clone(), bytes).unwrap();
        for (field, column) in message_type().fields().zip(changes.rows().columns()) {
            assert!(same_field(column, row, &field, &again), "written as {bytes:02x?}: {} is {column:?}", field.name());
        }
    }
}
