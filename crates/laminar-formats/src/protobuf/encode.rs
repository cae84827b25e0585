//! Rows to records: one message a row, framed with the schema's id where a registry is used.

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Code, Error, Result};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::schema::{Schema, index_of};
use super::source::Source;
use super::write::{Column, FieldWriter, Shape};
use super::{derive, plan};
use crate::columns::map_fields;
use crate::json::refuse_changes;
use crate::options::{FormatOptions, TimestampFormat};
use crate::outside::latest_of;
use crate::registry::{Frame, SchemaKind, SchemaText, TableRegistry};
use crate::upsert::RowEncoder;
use crate::{FormatContext, internal};

/// Writes one message a row.
pub(crate) struct ProtobufEncoder {
    columns: Vec<Field>,
    format: TimestampFormat,
    schema: State,
}

/// What rows are written with.
enum State {
    Ready(Ready),
    /// The registry is asked when the first rows come.
    Asking(Asking),
}

struct Ready {
    fields: Vec<FieldWriter>,
    /// What stands in front of every message: the frame, and which message it is.
    prefix: Vec<u8>,
    frame: Option<Frame>,
}

enum Asking {
    /// For the id of the sink's schema.
    Id { message: MessageDescriptor, registry: TableRegistry, text: SchemaText },
    /// For the newest schema of the subject, and the message in it that the table names.
    Newest { registry: TableRegistry, name: Option<String> },
}

impl ProtobufEncoder {
    /// Errors: `unknown_column`, `type_mismatch`, `not_supported`, each naming the column; `missing_option` without a schema,
    /// `invalid_schema`.
    pub fn new(options: &FormatOptions, table: &TableSpec, ctx: &FormatContext) -> Result<Self> {
        let columns: Vec<Field> = table.columns.iter().map(laminar_core::table::Column::field).collect();
        let format = options.timestamp_format();
        let schema = match options.framing(ctx)? {
            None => State::Ready(Ready::new(&options.protobuf_descriptor()?, &columns)?),
            Some(registry) => {
                let name = options.protobuf_message_name()?.map(str::to_string);
                let text = match &options.protobuf_schema {
                    Some(text) => Some(text.clone()),
                    None if registry.options.register => {
                        Some(derive::schema_of(&columns, name.as_deref(), &table.name)?)
                    }
                    None => None,
                };
                State::Asking(match text {
                    None => Asking::Newest { registry: registry.clone(), name },
                    Some(text) => {
                        let schema = Schema::parse(&text)?;
                        if schema.is_set() {
                            let text = "a descriptor set cannot be registered: the schema registry keeps the text of .proto files";
                            return Err(Error::new(Code::NotSupported, text).with_field("protobuf.schema"));
                        }
                        let message = schema.message(name.as_deref())?;
                        // All that can be wrong is said when the table is made.
                        Ready::new(&message, &columns)?;
                        let text = SchemaText { kind: SchemaKind::Protobuf, text };
                        Asking::Id { message, registry: registry.clone(), text }
                    }
                })
            }
        };
        Ok(Self { columns, format, schema })
    }
}

impl Asking {
    fn ask(&self, columns: &[Field]) -> Result<Ready> {
        let (mut frame, message, registry) = match self {
            Self::Id { message, registry, text } => {
                (Frame::new(registry, message.full_name(), text.clone()), message.clone(), registry)
            }
            Self::Newest { registry, name } => {
                let schema = latest_of(registry, SchemaKind::Protobuf, name.as_deref())?;
                let message = Schema::registered(&schema)?.message_or_first(name.as_deref())?;
                (Frame::of(registry, schema.id), message, registry)
            }
        };
        let mut prefix = frame.bytes()?.to_vec();
        index_of(&message, registry.registry.framing()).write(&mut prefix);
        Ok(Ready { prefix, frame: Some(frame), ..Ready::new(&message, columns)? })
    }
}

impl Ready {
    fn new(message: &MessageDescriptor, columns: &[Field]) -> Result<Self> {
        let fields = fields(message, columns)?;
        let absent =
            message.fields().find(|field| field.is_required() && !fields.iter().any(|f| f.number == field.number()));
        if let Some(absent) = absent {
            let text = format!(
                "field {} of message {} is required, and the table has no column for it",
                absent.name(),
                message.full_name()
            );
            return Err(Error::new(Code::TypeMismatch, text));
        }
        Ok(Self { fields, prefix: Vec::new(), frame: None })
    }
}

fn fields(message: &MessageDescriptor, columns: &[Field]) -> Result<Vec<FieldWriter>> {
    columns
        .iter()
        .map(|column| {
            let field = plan::field_of(message, column.name())?;
            plan::check(&field, column)?;
            Ok(FieldWriter {
                name: column.name().as_str().into(),
                number: field.number(),
                shape: shape(&field, column.data_type())?,
                required: field.is_required(),
                presence: field.supports_presence(),
            })
        })
        .collect()
}

fn shape(field: &FieldDescriptor, data_type: &DataType) -> Result<Shape> {
    match (data_type, field.kind()) {
        (DataType::Map(entries, _), Kind::Message(entry)) if field.is_map() => {
            let (_, value) = map_fields(entries).ok_or_else(|| internal("a MAP without values"))?;
            let key =
                Source::of(&entry.map_entry_key_field().kind()).ok_or_else(|| internal("a map key of no type"))?;
            let value = one(&entry.map_entry_value_field(), value.data_type())?;
            Ok(Shape::Map { key, value: Box::new(value) })
        }
        (DataType::List(item), _) if field.is_list() => {
            let item = one(field, item.data_type())?;
            Ok(Shape::Repeated { item: Box::new(item), packed: field.is_packed() })
        }
        _ => one(field, data_type),
    }
}

fn one(field: &FieldDescriptor, data_type: &DataType) -> Result<Shape> {
    if let Some(source) = Source::of(&field.kind())
        && source.fits(data_type)
    {
        return Ok(Shape::Scalar(source));
    }
    let (Kind::Message(message), DataType::Struct(inner)) = (field.kind(), data_type) else {
        return Err(internal(format!("field {} was not checked", field.name())));
    };
    let inner: Vec<Field> = inner.iter().map(|field| field.as_ref().clone()).collect();
    Ok(Shape::Message(fields(&message, &inner)?))
}

impl Encoder for ProtobufEncoder {
    fn encode(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        refuse_changes(changes, "protobuf")?;
        self.write(changes.rows(), out)
    }
}

impl RowEncoder for ProtobufEncoder {
    fn write(&mut self, rows: &RecordBatch, out: &mut EncodedValues) -> Result<()> {
        if rows.num_columns() != self.columns.len() {
            return Err(internal("the rows have other columns than the sink"));
        }
        if let State::Asking(asking) = &self.schema {
            self.schema = State::Ready(asking.ask(&self.columns)?);
        }
        let State::Ready(ready) = &mut self.schema else { return Err(internal("no schema to write with")) };
        let Ready { fields, prefix, frame } = ready;
        let (prefix, first) = (prefix.as_slice(), out.len());
        let mut columns = Vec::with_capacity(self.columns.len());
        for ((field, declared), column) in fields.iter().zip(&self.columns).zip(rows.columns()) {
            let column = cast(column, declared.data_type())?;
            columns.push(Column::new(field, &column, self.format)?);
        }
        for row in 0..rows.num_rows() {
            out.bytes.extend_from_slice(prefix);
            for column in &columns {
                column.write(row, &mut out.bytes)?;
            }
            out.end_value();
        }
        frame.as_mut().map_or(Ok(()), |frame| frame.seal(out, first))
    }
}
