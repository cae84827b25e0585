//! Arrow rows as JSON text, each row an array or an object.
//!
//! Numbers keep all their digits, timestamps are ISO 8601 without a zone (UTC), bytes are hex. A column of type JSON is
//! written as the JSON it holds. No row contains a line break, which NDJSON and Server-Sent Events rely on.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use laminar_core::Result;
use laminar_core::table::TYPE_KEY;
use laminar_planner::SqlType;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ColumnInfo {
    pub name: String,
    /// SQL type.
    #[serde(rename = "type")]
    pub data_type: String,
}

pub fn columns(schema: &Schema) -> Vec<ColumnInfo> {
    let data_type = |field: &Field| SqlType::from_arrow(field).as_str().to_string();
    schema.fields().iter().map(|field| ColumnInfo { name: field.name().clone(), data_type: data_type(field) }).collect()
}

/// How a row is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `[1,"a"]`: as the columns are ordered, and two of one name both appear.
    Array,
    /// `{"id":1,"name":"a"}`
    Object,
}

/// Appends the batch's rows, with `separator` between them.
pub fn write_rows(batch: &RecordBatch, shape: Shape, separator: u8, out: &mut Vec<u8>) -> Result<()> {
    let options = EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(Values));
    let schema = batch.schema();
    let (open, close) = match shape {
        Shape::Array => (b'[', b']'),
        Shape::Object => (b'{', b'}'),
    };
    let mut encoders = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let name = match shape {
            Shape::Array => Vec::new(),
            Shape::Object => key(field.name()),
        };
        encoders.push((name, make_encoder(field, column.as_ref(), &options)?));
    }
    for row in 0..batch.num_rows() {
        if row > 0 {
            out.push(separator);
        }
        out.push(open);
        for (index, (name, encoder)) in encoders.iter_mut().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            if encoder.is_null(row) {
                out.extend_from_slice(b"null");
            } else {
                encoder.encode(row, out);
            }
        }
        out.push(close);
    }
    Ok(())
}

/// `name` → `"name":`
fn key(name: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len() + 3);
    push_string(name, &mut text);
    text.push(b':');
    text
}

fn push_string(text: &str, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail, and a str is always a JSON string.
    let _ = serde_json::to_writer(out, text);
}

/// What differs from arrow-json's own way.
#[derive(Debug)]
struct Values;

impl EncoderFactory for Values {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let json = field.metadata().get(TYPE_KEY).is_some_and(|kind| kind == "json");
        if let (true, Some(texts)) = (json, array.as_string_opt::<i32>()) {
            return Ok(Some(NullableEncoder::new(Box::new(JsonText(texts)), array.nulls().cloned())));
        }
        match array.data_type() {
            DataType::Union(_, _) | DataType::Interval(_) => {
                let shown = ArrayFormatter::try_new(array, &DISPLAY)?;
                Ok(Some(NullableEncoder::new(Box::new(Displayed(shown)), array.logical_nulls())))
            }
            _ => Ok(None),
        }
    }
}

const DISPLAY: FormatOptions<'static> = FormatOptions::new().with_display_error(true);

/// JSON that is already JSON; text that is not becomes a string.
struct JsonText<'a>(&'a StringArray);

impl Encoder for JsonText<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let text = self.0.value(row);
        if serde_json::from_str::<IgnoredAny>(text).is_err() {
            return push_string(text, out);
        }
        // In valid JSON a raw line break is white space between tokens.
        out.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    }
}

/// Values that JSON has no kind for, as text.
struct Displayed<'a>(ArrayFormatter<'a>);

impl Encoder for Displayed<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        push_string(&self.0.value(row).to_string(), out);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, TimestampMicrosecondArray};

    use super::*;

    fn check(column: ArrayRef, field: Field, expected: &str) {
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap();
        let mut out = Vec::new();
        write_rows(&batch, Shape::Array, b' ', &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    fn field(data_type: DataType) -> Field {
        Field::new("c", data_type, true)
    }

    #[test]
    fn values_keep_their_meaning() {
        check(
            Arc::new(Int64Array::from(vec![Some(i64::MAX), None])),
            field(DataType::Int64),
            "[9223372036854775807] [null]",
        );
        check(Arc::new(Float64Array::from(vec![0.1, f64::NAN])), field(DataType::Float64), "[0.1] [null]");
        check(Arc::new(BinaryArray::from_vec(vec![b"\x00\xff"])), field(DataType::Binary), "[\"00ff\"]");
        check(
            Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_123_456])),
            field(laminar_core::table::timestamp_type()),
            "[\"2023-11-14T22:13:20.123456\"]",
        );
        check(Arc::new(StringArray::from(vec!["a\"\n"])), field(DataType::Utf8), r#"["a\"\n"]"#);
    }

    #[test]
    fn json_columns_are_json_on_one_line() {
        let json = field(DataType::Utf8).with_metadata([(TYPE_KEY.to_string(), "json".to_string())].into());
        check(Arc::new(StringArray::from(vec!["{\"a\":\n 1.00}", "oops"])), json, "[{\"a\":  1.00}] [\"oops\"]");
    }

    #[test]
    fn objects_have_their_column_names() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_from_iter([("a\"b", column.clone()), ("c", column)]).unwrap();
        let mut out = Vec::new();
        write_rows(&batch, Shape::Object, b'\n', &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"a\\\"b\":1,\"c\":1}\n{\"a\\\"b\":2,\"c\":2}");
    }
}
