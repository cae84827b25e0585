//! Records that a pipeline could not use, as rows: what a dead-letter sink takes.
//!
//! A letter has the record's key, value and headers byte for byte, and says where the record stands and why it is here. Letters
//! are ordinary changes of the schema below, so the runner holds, flushes and commits them like the rows of any sink.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int32Array, Int32Builder, Int64Array, Int64Builder,
    ListArray, ListBuilder, RecordBatch, StringArray, StringBuilder, StructBuilder, TimestampMicrosecondArray,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};

use crate::source::RawRecord;
use crate::table::timestamp_type;
use crate::{Changes, Code, Error, Result};

/// Names of the headers that a letter adds to its record's own begin with this.
pub const HEADER_PREFIX: &str = "__laminar.errors.";

/// A record that was put back has a header of this name: which record it was, as `topic/partition/offset`.
pub const REPLAYED_HEADER: &str = "__laminar.replayed";

/// Where a row was when it turned out to be of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The record is not what its format says.
    Decode,
    /// A NOT NULL column has no value.
    Constraint,
    /// A value cannot be computed: a cast, a division by zero.
    Expression,
    /// The row is behind the watermark.
    Late,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Constraint => "constraint",
            Self::Expression => "expression",
            Self::Late => "late",
        }
    }
}

/// Why a record is a dead letter.
#[derive(Clone, Copy, Debug)]
pub struct Reason<'a> {
    pub stage: Stage,
    pub code: Code,
    pub message: &'a str,
}

/// Columns of a letter, in the order of [`schema`].
const COLUMNS: [&str; 12] = [
    "pipeline",
    "table",
    "topic",
    "partition",
    "offset",
    "timestamp",
    "stage",
    "code",
    "message",
    "key",
    "value",
    "headers",
];

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Binary, true)])
}

fn header_item() -> Field {
    Field::new_list_field(DataType::Struct(header_fields()), false)
}

/// `pipeline`, `table`, `topic`, `stage`, `code`, `message` TEXT; `partition` INT; `offset` BIGINT; `timestamp` TIMESTAMP (the
/// record's own); `key`, `value` BYTEA or null; `headers`, a list of `name` and `value`, in the record's order.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let data_type = |name: &str| match name {
            "partition" => DataType::Int32,
            "offset" => DataType::Int64,
            "timestamp" => timestamp_type(),
            "key" | "value" => DataType::Binary,
            "headers" => DataType::List(Arc::new(header_item())),
            _ => DataType::Utf8,
        };
        let field = |name: &&str| Field::new(*name, data_type(name), matches!(*name, "key" | "value"));
        Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()))
    });
    Arc::clone(&SCHEMA)
}

/// Letters of one pipeline and table, not yet written.
pub struct LetterBuilder {
    pipeline: String,
    table: String,
    topics: StringBuilder,
    partitions: Int32Builder,
    offsets: Int64Builder,
    timestamps: TimestampMicrosecondBuilder,
    stages: StringBuilder,
    codes: StringBuilder,
    messages: StringBuilder,
    keys: BinaryBuilder,
    values: BinaryBuilder,
    headers: ListBuilder<StructBuilder>,
    bytes: usize,
}

impl LetterBuilder {
    pub fn new(pipeline: &str, table: &str) -> Self {
        let of_header = StructBuilder::from_fields(header_fields(), 0);
        Self {
            pipeline: pipeline.to_string(),
            table: table.to_string(),
            topics: StringBuilder::new(),
            partitions: Int32Builder::new(),
            offsets: Int64Builder::new(),
            timestamps: TimestampMicrosecondBuilder::new(),
            stages: StringBuilder::new(),
            codes: StringBuilder::new(),
            messages: StringBuilder::new(),
            keys: BinaryBuilder::new(),
            values: BinaryBuilder::new(),
            headers: ListBuilder::new(of_header).with_field(header_item()),
            bytes: 0,
        }
    }

    /// Copies the record: its batch may be gone when the letter can be written.
    pub fn push(&mut self, record: &RawRecord<'_>, reason: Reason<'_>) {
        self.topics.append_value(record.topic);
        self.partitions.append_value(record.partition);
        self.offsets.append_value(i64::try_from(record.position.0).unwrap_or(i64::MAX));
        self.timestamps.append_value(record.timestamp_micros);
        self.stages.append_value(reason.stage.as_str());
        self.codes.append_value(reason.code.as_str());
        self.messages.append_value(reason.message);
        self.keys.append_option(record.key);
        self.values.append_option(record.value);
        let mut bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let headers = self.headers.values();
        record.headers(&mut |name, value| {
            bytes += name.len() + value.map_or(0, <[u8]>::len);
            headers.append(true);
            // The builder was made with these two.
            if let Some(names) = headers.field_builder::<StringBuilder>(0) {
                names.append_value(name);
            }
            if let Some(values) = headers.field_builder::<BinaryBuilder>(1) {
                values.append_option(value);
            }
        });
        self.headers.append(true);
        self.bytes += bytes;
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn len(&self) -> usize {
        arrow::array::ArrayBuilder::len(&self.offsets)
    }
    /// Of keys, values and headers.
    pub fn num_bytes(&self) -> usize {
        self.bytes
    }

    /// The letters pushed since the last call; `None` if there are none.
    pub fn finish(&mut self) -> Result<Option<Changes>> {
        let count = self.len();
        if count == 0 {
            return Ok(None);
        }
        self.bytes = 0;
        let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; count])) };
        let timestamps = self.timestamps.finish();
        let columns: Vec<ArrayRef> = vec![
            same(&self.pipeline),
            same(&self.table),
            Arc::new(self.topics.finish()),
            Arc::new(self.partitions.finish()),
            Arc::new(self.offsets.finish()),
            Arc::new(timestamps.clone()),
            Arc::new(self.stages.finish()),
            Arc::new(self.codes.finish()),
            Arc::new(self.messages.finish()),
            Arc::new(self.keys.finish()),
            Arc::new(self.values.finish()),
            Arc::new(self.headers.finish()),
        ];
        Changes::inserts(RecordBatch::try_new(schema(), columns)?, timestamps).map(Some)
    }
}

/// One letter, borrowed from a batch.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    pub pipeline: &'a str,
    pub table: &'a str,
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    /// The record's own, µs since 1970 UTC.
    pub timestamp_micros: i64,
    pub stage: &'a str,
    pub code: &'a str,
    pub message: &'a str,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    headers: (&'a ListArray, usize),
}

impl Letter<'_> {
    /// Calls `visit` with the record's own headers, in order.
    pub fn headers(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let (lists, at) = self.headers;
        let of_letter = lists.value(at);
        let Some(pairs) = of_letter.as_struct_opt() else { return };
        let [names, values] = pairs.columns() else { return };
        let (Some(names), Some(values)) = (names.as_string_opt::<i32>(), values.as_binary_opt::<i32>()) else { return };
        for at in 0..pairs.len() {
            visit(names.value(at), values.is_valid(at).then(|| values.value(at)));
        }
    }
}

/// The letters of a batch, typed.
pub struct Letters<'a> {
    texts: [&'a StringArray; 6],
    partitions: &'a Int32Array,
    offsets: &'a Int64Array,
    timestamps: &'a TimestampMicrosecondArray,
    keys: &'a BinaryArray,
    values: &'a BinaryArray,
    headers: &'a ListArray,
}

impl<'a> Letters<'a> {
    /// Errors: `internal` if the batch is not of [`schema`].
    pub fn of(rows: &'a RecordBatch) -> Result<Self> {
        let typed = || {
            let column = |name: &str| rows.column_by_name(name);
            let text = |name: &str| column(name)?.as_string_opt::<i32>();
            Some(Self {
                texts: [
                    text("pipeline")?,
                    text("table")?,
                    text("topic")?,
                    text("stage")?,
                    text("code")?,
                    text("message")?,
                ],
                partitions: column("partition")?.as_primitive_opt::<Int32Type>()?,
                offsets: column("offset")?.as_primitive_opt::<Int64Type>()?,
                timestamps: column("timestamp")?.as_primitive_opt::<TimestampMicrosecondType>()?,
                keys: column("key")?.as_binary_opt::<i32>()?,
                values: column("value")?.as_binary_opt::<i32>()?,
                headers: column("headers")?.as_list_opt::<i32>()?,
            })
        };
        typed().ok_or_else(|| Error::internal("rows that are no dead letters came to a sink of them"))
    }

    pub fn iter(&self) -> impl Iterator<Item = Letter<'a>> + '_ {
        let [pipelines, tables, topics, stages, codes, messages] = self.texts;
        let bytes = |array: &'a BinaryArray, at: usize| array.is_valid(at).then(|| array.value(at));
        (0..self.offsets.len()).map(move |at| Letter {
            pipeline: pipelines.value(at),
            table: tables.value(at),
            topic: topics.value(at),
            partition: self.partitions.value(at),
            offset: self.offsets.value(at),
            timestamp_micros: self.timestamps.value(at),
            stage: stages.value(at),
            code: codes.value(at),
            message: messages.value(at),
            key: bytes(self.keys, at),
            value: bytes(self.values, at),
            headers: (self.headers, at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;
    use crate::source::{RawRecords, TimestampType};

    struct WithHeaders;

    impl RawRecords for WithHeaders {
        fn len(&self) -> usize {
            1
        }
        fn get(&self, index: usize) -> RawRecord<'_> {
            RawRecord {
                key: None,
                value: Some(b"\xff{"),
                timestamp_micros: 5_000,
                timestamp_type: TimestampType::CreateTime,
                topic: "orders",
                partition: 3,
                position: Position(17),
                batch: Some((self, index)),
            }
        }
        fn headers(&self, _: usize, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
            visit("a", Some(b"\x00"));
            visit("a", None);
        }
    }

    #[test]
    fn a_letter_has_its_record_byte_for_byte() {
        let mut letters = LetterBuilder::new("pipe", "t");
        assert!(letters.finish().unwrap().is_none());
        let reason = Reason { stage: Stage::Decode, code: Code::BadData, message: "no" };
        letters.push(&WithHeaders.get(0), reason);
        letters.push(&WithHeaders.get(0), Reason { stage: Stage::Late, ..reason });
        assert_eq!((letters.len(), letters.num_bytes()), (2, 10));
        let written = letters.finish().unwrap().unwrap();
        assert!(letters.is_empty());
        let read = Letters::of(written.rows()).unwrap();
        let [first, second] = read.iter().collect::<Vec<_>>()[..] else { panic!("two letters") };
        assert_eq!((first.stage, second.stage), ("decode", "late"));
        assert_eq!((first.topic, first.partition, first.offset, first.timestamp_micros), ("orders", 3, 17, 5_000));
        assert_eq!((first.key, first.value), (None, Some(b"\xff{".as_slice())));
        let mut headers = Vec::new();
        second.headers(&mut |name, value| headers.push((name.to_string(), value.map(<[u8]>::to_vec))));
        assert_eq!(headers, [("a".to_string(), Some(vec![0])), ("a".to_string(), None)]);
    }
}
