//! Rows to records: one JSON object a row.
//!
//! How each type is written stands in `write`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Fields, Schema, SchemaRef, TimeUnit};
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::{ChangeKind, Changes, Code, Error, Result};

use crate::columns::map_fields;
use crate::internal;
use crate::json::out::Out;
use crate::json::pretty::write_indented;
use crate::json::write::{Style, Writer, write_fields, write_object};
use crate::options::{FormatOptions, TimestampFormat};
use laminar_core::sql_name::sql_name;

/// Refuses rows that update or delete others: a plain record can only add.
pub(crate) fn refuse_changes(changes: &Changes, format: &str) -> Result<()> {
    match changes.kinds() {
        Some(kinds) if kinds.iter().any(|kind| kind != ChangeKind::Insert) => {
            let message = format!("format {format} cannot carry updates and deletes");
            Err(Error::new(Code::NotSupported, message).with_hint("the query must only add rows"))
        }
        _ => Ok(()),
    }
}

/// Writes one object a row.
pub(crate) struct JsonEncoder {
    schema: SchemaRef,
    style: Style,
    pretty: bool,
    /// One compact object, on its way to being indented.
    compact: Vec<u8>,
}

impl JsonEncoder {
    /// Errors with `not_supported` if a column's type cannot be written.
    pub fn new(schema: &Schema, options: &FormatOptions) -> Result<Self> {
        for field in schema.fields() {
            if !can_write(field.data_type()) {
                let message = format!(
                    "column {} of type {} cannot be written as JSON",
                    field.name(),
                    sql_name(field.data_type())
                );
                return Err(Error::new(Code::NotSupported, message).with_field(field.name()));
            }
        }
        let timestamps = options.timestamp_format();
        let style = Style {
            include_nulls: options.json_include_nulls.unwrap_or(true),
            timestamps: (timestamps != TimestampFormat::Rfc3339).then_some(timestamps),
        };
        let pretty = options.json_pretty.unwrap_or(false);
        Ok(Self { schema: Arc::new(schema.clone()), style, pretty, compact: Vec::new() })
    }

    pub fn style(&self) -> Style {
        self.style
    }

    /// The columns, ready to be written row by row.
    pub fn fields(&self, rows: &RecordBatch) -> Result<Vec<Writer>> {
        if rows.num_columns() != self.schema.fields().len() {
            return Err(internal("the rows have other columns than the sink"));
        }
        write_fields(self.schema.fields(), rows.columns(), self.style)
    }

    /// Writes one object a row, whatever the row does.
    pub fn write(&mut self, rows: &RecordBatch, out: &mut EncodedValues) -> Result<()> {
        self.write_behind(&[], rows, out)
    }

    /// The same, with `frame` in front of each object.
    pub fn write_behind(&mut self, frame: &[u8], rows: &RecordBatch, out: &mut EncodedValues) -> Result<()> {
        let mut fields = self.fields(rows)?;
        if !self.pretty {
            let mut bytes = Out::new(&mut out.bytes);
            for row in 0..rows.num_rows() {
                bytes.slice(frame);
                write_object(&mut bytes, &mut fields, row, self.style);
                out.ends.push(bytes.len());
            }
            return Ok(());
        }
        for row in 0..rows.num_rows() {
            out.bytes.extend_from_slice(frame);
            self.compact.clear();
            write_object(&mut Out::new(&mut self.compact), &mut fields, row, self.style);
            write_indented(&mut out.bytes, &self.compact);
            out.end_value();
        }
        Ok(())
    }
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        refuse_changes(changes, "json")?;
        self.write(changes.rows(), out)
    }
}

/// The type that a column is cast to before it is written: one of those that [`Values`] knows.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    use DataType::*;
    match data_type {
        Null
        | Boolean
        | Int8
        | Int16
        | Int32
        | Int64
        | UInt8
        | UInt16
        | UInt32
        | UInt64
        | Float32
        | Float64
        | Utf8
        | Binary
        | Date32
        | Timestamp(_, _)
        | Decimal128(_, _)
        | Struct(_)
        | List(_) => data_type.clone(),
        Float16 => Float32,
        LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Date64 => Date32,
        Time32(_) | Time64(_) => Time64(TimeUnit::Nanosecond),
        Decimal32(precision, scale) | Decimal64(precision, scale) => Decimal128(*precision, *scale),
        LargeList(item) | FixedSizeList(item, _) | ListView(item) | LargeListView(item) => List(Arc::clone(item)),
        Dictionary(_, value) => plain_type(value),
        Map(entries, sorted) => match entries.data_type() {
            Struct(fields) => match fields.iter().as_slice() {
                [key, _] if *key.data_type() == Utf8 => data_type.clone(),
                [key, value] => {
                    let key = Arc::new(key.as_ref().clone().with_data_type(Utf8));
                    let fields = Struct(Fields::from(vec![key, Arc::clone(value)]));
                    Map(Arc::new(entries.as_ref().clone().with_data_type(fields)), *sorted)
                }
                _ => Utf8,
            },
            _ => Utf8,
        },
        _ => Utf8,
    }
}

/// Can a column of the type be written?
pub(crate) fn can_write(data_type: &DataType) -> bool {
    let plain = plain_type(data_type);
    let castable = plain == *data_type || can_cast_types(data_type, &plain);
    castable
        && match &plain {
            DataType::List(item) => can_write(item.data_type()),
            DataType::Struct(fields) => fields.iter().all(|field| can_write(field.data_type())),
            DataType::Map(entries, _) => map_fields(entries).is_some_and(|(_, value)| can_write(value.data_type())),
            _ => true,
        }
}
