//! Records that begin with the id of their schema.
//!
//! A field's number is what it is, in every version of a schema; so all records are read with one schema, the table's own: that of
//! `protobuf.schema`, or the newest of the subject when the job starts, whose first message it is unless `protobuf.message` says
//! another. Fields that a record's writer did not know have their defaults, those that the table does not know are stepped over, and a
//! field may have got another name.
//!
//! The record's id is asked for all the same, once: which message it is stands in its schema, and a record that is another message,
//! or that no one registered, is a bad record.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use laminar_core::table::Column;
use laminar_core::{Code, Result};
use prost_reflect::MessageDescriptor;

use super::decode::tombstone;
use super::message::MessageReader;
use super::plan;
use super::schema::Schema;
use super::wire::Wire;
use crate::fault::{Fault, fault, outage};
use crate::options::{FormatOptions, TimestampFormat};
use crate::record::ValueDecoder;
use crate::registry::{Framed, Framing, MessageIndex, Programs, SchemaKind, TableRegistry};

/// Messages of one file whose names are kept.
const MAX_NAMES: usize = 256;

/// A framed message a record.
pub(crate) struct FramedDecoder {
    table: Table,
    writers: Programs<Writer>,
    reader: Option<Reader>,
}

/// What a reader is made for.
struct Table {
    registry: TableRegistry,
    columns: Vec<Field>,
    wanted: Vec<usize>,
    format: TimestampFormat,
    message: Option<String>,
}

/// The schema that a record was written with.
struct Writer {
    schema: Schema,
    /// The full name of the message whose index is one byte 00, once one came: nearly all are.
    first: Option<Arc<str>>,
    /// Of the others that came.
    names: Vec<(MessageIndex, Arc<str>)>,
}

struct Reader {
    name: Arc<str>,
    message: MessageReader,
}

impl FramedDecoder {
    /// Errors as [`ProtobufDecoder::new`](super::ProtobufDecoder::new), if the options have a schema; else what does not fit is said
    /// when the first record comes.
    pub fn new(
        options: &FormatOptions,
        columns: &[Column],
        wanted: &[usize],
        registry: &TableRegistry,
    ) -> Result<Self> {
        let columns: Vec<Field> = columns.iter().map(Column::field).collect();
        let table = Table {
            registry: registry.clone(),
            columns,
            wanted: wanted.to_vec(),
            format: options.timestamp_format(),
            message: options.protobuf_message_name()?.map(str::to_string),
        };
        let reader = match &options.protobuf_schema {
            Some(_) => Some(table.reader(&options.protobuf_descriptor()?)?),
            None => None,
        };
        let writers = Programs::new(Arc::clone(&registry.registry), SchemaKind::Protobuf);
        Ok(Self { table, writers, reader })
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Self { table, writers, reader } = self;
        let framing = writers.framing();
        let Framed { program: writer, bytes, at: body } = writers.of_record(bytes, |schema| {
            Ok(Writer { schema: Schema::registered(schema)?, first: None, names: Vec::new() })
        })?;
        let (name, at) = writer.name(bytes, body, framing)?;
        let reader = match reader {
            Some(reader) => reader,
            // What is wrong here is wrong with the table or the registry, not with this record.
            none => none.insert(table.ask(&name, &writer.schema).map_err(outage)?),
        };
        if reader.name != name {
            return Err(fault(body, format!("the record is a {name}, the table reads {}", reader.name)));
        }
        reader.message.read(Wire::new(bytes).moved_to(at))
    }
}

impl Table {
    fn reader(&self, message: &MessageDescriptor) -> Result<Reader> {
        let reader = plan::reader(message, &self.columns, &self.wanted, self.format)?;
        Ok(Reader { name: message.full_name().into(), message: reader })
    }

    /// The reader of the newest schema: of the message that the table names, else of the schema's first, as a sink without a name
    /// writes it. A record, whose message is `name`, says no more than under which subject to look, where those are named after messages.
    #[cold]
    fn ask(&self, name: &str, own: &Schema) -> Result<Reader> {
        let message = self.message.as_deref();
        let latest = match self.registry.registry.latest(&self.registry.subject(message.unwrap_or(name))) {
            Ok(schema) if schema.kind == SchemaKind::Protobuf => Schema::registered(&schema)?,
            Ok(_) => own.clone(),
            // Registered under a subject that we do not know of.
            Err(error) if error.code() == Code::UnknownSchema => own.clone(),
            Err(error) => return Err(error),
        };
        self.reader(&latest.message_or_first(message)?)
    }
}

impl Writer {
    /// The full name of the message, and the index at which it starts.
    fn name(&mut self, bytes: &[u8], at: usize, framing: Framing) -> Result<(Arc<str>, usize), Fault> {
        if bytes.get(at) == Some(&0)
            && let Some(name) = &self.first
        {
            return Ok((Arc::clone(name), at + 1));
        }
        let (index, end) = framing.read_message_index(bytes, at)?;
        if let Some((_, name)) = self.names.iter().find(|(known, _)| *known == index) {
            return Ok((Arc::clone(name), end));
        }
        let message = self.schema.message_at(&index).map_err(|error| fault(at, error.to_string()))?;
        let name: Arc<str> = message.full_name().into();
        if bytes.get(at) == Some(&0) {
            self.first = Some(Arc::clone(&name));
        } else if self.names.len() < MAX_NAMES {
            self.names.push((index, Arc::clone(&name)));
        }
        Ok((name, end))
    }
}

impl ValueDecoder for FramedDecoder {
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Fault> {
        let Some(bytes) = value else { return Err(tombstone()) };
        let rows = self.reader.as_ref().map_or(0, |reader| reader.message.rows());
        let read = self.read(bytes);
        if read.is_err() {
            self.truncate(rows);
        }
        read
    }
    fn truncate(&mut self, rows: usize) {
        if let Some(reader) = &mut self.reader {
            reader.message.truncate(rows);
        }
    }
    fn end_batch(&mut self) {
        self.writers.end_batch();
    }
    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        match &mut self.reader {
            Some(reader) => reader.message.finish(),
            // A batch has rows, so a record was read.
            None => Err(crate::internal("a batch without a schema")),
        }
    }
}
