//! apache-avro as the judge: random schemas and values. What it writes we read, and write again byte for byte; that it
//! says the same of those bytes is its own affair.

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use laminar_core::format::EncodedValues;
use laminar_core::table::Column;
use laminar_formats::registry::avro_columns;
use laminar_formats::{FormatContext, decoder_with, encoder_with};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::support::*;

/// A type, and values of it.
#[derive(Clone, Debug)]
enum Type {
    Simple(&'static str, &'static str),
    Decimal(u8),
    Fixed(usize),
    Enum,
    Nullable(Box<Type>),
    Array(Box<Type>),
    Map(Box<Type>),
    Record(Vec<Type>),
}

fn types() -> impl Strategy<Value = Type> {
    let simple = prop::sample::select(vec![
        ("boolean", ""),
        ("int", ""),
        ("long", ""),
        ("float", ""),
        ("double", ""),
        ("bytes", ""),
        ("string", ""),
        ("int", "date"),
        ("long", "time-micros"),
        ("long", "timestamp-micros"),
    ]);
    let leaf = prop_oneof![
        8 => simple.prop_map(|(base, logical)| Type::Simple(base, logical)),
        1 => (1u8..=38).prop_map(Type::Decimal),
        1 => (1usize..20).prop_map(Type::Fixed),
        1 => Just(Type::Enum),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| match inner {
                Type::Nullable(_) => inner,
                other => Type::Nullable(Box::new(other)),
            }),
            inner.clone().prop_map(|inner| Type::Array(Box::new(inner))),
            inner.clone().prop_map(|inner| Type::Map(Box::new(inner))),
            prop::collection::vec(inner, 1..4).prop_map(Type::Record),
        ]
    })
}

impl Type {
    fn schema(&self, name: &str) -> Json {
        match self {
            Self::Simple(base, "") => json!(base),
            Self::Simple(base, logical) => json!({"type": base, "logicalType": logical}),
            Self::Decimal(precision) => {
                json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": precision / 2})
            }
            Self::Fixed(size) => json!({"type": "fixed", "name": name, "size": size}),
            Self::Enum => json!({"type": "enum", "name": name, "symbols": ["A", "B", "C"]}),
            Self::Nullable(inner) => json!(["null", inner.schema(name)]),
            Self::Array(inner) => json!({"type": "array", "items": inner.schema(name)}),
            Self::Map(inner) => json!({"type": "map", "values": inner.schema(name)}),
            Self::Record(fields) => {
                let field = |(at, field): (usize, &Type)| json!({"name": format!("f{at}"), "type": field.schema(&format!("{name}_{at}"))});
                json!({"type": "record", "name": name, "fields": fields.iter().enumerate().map(field).collect::<Vec<_>>()})
            }
        }
    }

    fn value(&self, random: &mut impl FnMut() -> u64) -> Value {
        match self {
            Self::Simple("boolean", _) => Value::Boolean(random().is_multiple_of(2)),
            Self::Simple("int", "date") => Value::Date(random() as i32),
            Self::Simple("int", _) => Value::Int(random() as i32 >> (random() % 32)),
            Self::Simple("long", "time-micros") => Value::TimeMicros((random() % 86_400_000_000) as i64),
            Self::Simple("long", "timestamp-micros") => Value::TimestampMicros(random() as i64),
            Self::Simple("long", _) => Value::Long(random() as i64 >> (random() % 64)),
            Self::Simple("float", _) => Value::Float(f32::from_bits(random() as u32)),
            Self::Simple("double", _) => Value::Double(f64::from_bits(random())),
            Self::Simple("bytes", _) => Value::Bytes(bytes(random)),
            Self::Simple(..) => Value::String(String::from_utf8_lossy(&bytes(random)).into_owned()),
            Self::Decimal(precision) => {
                let limit = 10i128.pow(u32::from(*precision));
                let value = (i128::from(random() as i64) << 60 | i128::from(random())) % limit;
                let all = value.to_be_bytes();
                let redundant = |at: usize| {
                    let fill = if value < 0 { 0xff } else { 0 };
                    all[at] == fill && (all[at + 1] & 0x80 != 0) == (value < 0)
                };
                let start = (0..15).find(|at| !redundant(*at)).unwrap_or(15);
                Value::Decimal(apache_avro::Decimal::from(&all[start..]))
            }
            Self::Fixed(size) => Value::Fixed(*size, (0..*size).map(|_| random() as u8).collect()),
            Self::Enum => {
                let at = (random() % 3) as u32;
                Value::Enum(at, ["A", "B", "C"][at as usize].into())
            }
            Self::Nullable(_) if random().is_multiple_of(3) => Value::Union(0, Box::new(Value::Null)),
            Self::Nullable(inner) => Value::Union(1, Box::new(inner.value(random))),
            Self::Array(inner) => Value::Array((0..random() % 4).map(|_| inner.value(random)).collect()),
            Self::Map(inner) => {
                Value::Map((0..random() % 4).map(|at| (format!("k{at}"), inner.value(random))).collect())
            }
            Self::Record(fields) => Value::Record(
                fields.iter().enumerate().map(|(at, field)| (format!("f{at}"), field.value(random))).collect(),
            ),
        }
    }
}

fn bytes(random: &mut impl FnMut() -> u64) -> Vec<u8> {
    (0..random() % 40).map(|_| random() as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_apache_avro_writes_comes_back_byte_for_byte(
        fields in prop::collection::vec(types(), 1..5),
        seed in any::<u64>(),
        wanted in any::<u8>(),
    ) {
        let top = Type::Record(fields);
        let text = top.schema("r").to_string();
        let schema = Schema::parse_str(&text).unwrap();
        let mut state = seed | 1;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let writer = GenericDatumWriter::builder(&schema).build().unwrap();
        let records: Vec<Vec<u8>> =
            (0..5).map(|_| writer.write_value_to_vec(top.value(&mut random)).unwrap()).collect();

        let columns: Vec<Column> = avro_columns(&text).unwrap();
        let pairs = [("avro.schema", text.as_str())];
        let all = table(columns);
        let mut decoder = decoder_with(&options(&pairs), &all, &FormatContext::default()).unwrap();
        records.iter().for_each(|bytes| push(decoder.as_mut(), Some(bytes)).unwrap());
        let changes = decoder.flush().unwrap().unwrap();

        let mut encoder = encoder_with(&options(&pairs), &all, &FormatContext::default()).unwrap();
        let mut out = EncodedValues::default();
        encoder.encode(&changes, &mut out).unwrap();
        for (record, ours) in records.iter().zip(out.iter()) {
            prop_assert_eq!(record.as_slice(), ours);
        }

        // The columns that some of are skipped for are the same.
        let mut some = all.clone();
        some.projection.retain(|index| wanted >> (index % 8) & 1 == 1);
        let mut decoder = decoder_with(&options(&pairs), &some, &FormatContext::default()).unwrap();
        records.iter().for_each(|bytes| push(decoder.as_mut(), Some(bytes)).unwrap());
        let rows = decoder.flush().unwrap().unwrap();
        for (at, index) in some.projection.iter().enumerate() {
            prop_assert_eq!(rows.rows().column(at).to_data(), changes.rows().column(*index).to_data());
        }
    }
}
