//! One record, one row: the decoder of whole Avro values, framed or plain.

use arrow::array::ArrayRef;
use laminar_core::table::Column;
use laminar_core::{ChangeKind, Code, Error, Result};

use super::columns::Columns;
use super::compile::{Target, compile, lacks_columns};
use super::envelope::Envelope;
use super::program::Program;
use super::schema::Parsed;
use crate::fault::{Fault, fault_of_record, outage};
use crate::record::ValueDecoder;
use crate::registry::{Framed, Programs, RegisteredSchema, SchemaKind, TableRegistry};

/// A record's value fills a row.
pub(crate) struct AvroDecoder {
    columns: Columns,
    all: Vec<String>,
    digits: u32,
    content: Content,
    schemas: Schemas,
    pushed: &'static [ChangeKind],
}

/// What a record's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A row.
    Row,
    /// A change, in an envelope.
    Change,
}

/// What is compiled for one schema.
enum Compiled {
    Rows(Program),
    Changes(Box<Envelope>),
}

impl Compiled {
    fn new(content: Content, writer: &Parsed, reader: Option<&Parsed>, target: &Target<'_>) -> Result<Self> {
        match content {
            Content::Row => compile(writer, reader, target).map(Self::Rows),
            Content::Change => Envelope::compile(writer, reader, target).map(|all| Self::Changes(Box::new(all))),
        }
    }

    #[inline]
    fn rows(&self, bytes: &[u8], at: usize, columns: &mut Columns) -> Result<&'static [ChangeKind], Fault> {
        match self {
            Self::Rows(program) => program.row(bytes, at, columns).map(|()| [ChangeKind::Insert].as_slice()),
            Self::Changes(envelope) => envelope.rows(bytes, at, columns),
        }
    }
}

/// Where a record's schema comes from.
#[allow(clippy::large_enum_variant)] // there is one a decoder
enum Schemas {
    /// All records have this one.
    Given(Compiled),
    /// Each record says its own.
    Registered { programs: Programs<Compiled>, reader: Reader, table: TableRegistry },
}

/// The schema whose aliases and defaults count for columns that a record's own lacks.
enum Reader {
    Given(Box<Parsed>),
    /// The newest of the subject, asked for when it is first needed; `None`: the subject has none.
    Newest(Option<Option<Box<Parsed>>>),
}

impl AvroDecoder {
    /// `columns` are all that the table has in its value; `wanted` says which are decoded, in which order.
    ///
    /// `schema` is what the user gives: the schema of plain records, or the reader's of framed ones. Errors: `missing_option`,
    /// `invalid_schema`, `not_supported`, `type_mismatch`.
    pub fn new(
        columns: &[Column],
        wanted: &[usize],
        content: Content,
        digits: u32,
        schema: Option<&str>,
        registry: Option<&TableRegistry>,
    ) -> Result<Self> {
        let fields: Vec<_> = wanted.iter().filter_map(|index| columns.get(*index)).map(Column::field).collect();
        let all = columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let columns = Columns::new(&fields)?;
        let given = schema.map(|text| Parsed::text(text, "option avro.schema")).transpose();
        let given = given.map_err(|error| error.with_field("avro.schema"))?;
        let target = Target { all: &all, columns: &columns, digits };
        let schemas = match (registry, given) {
            (Some(table), given) => Schemas::Registered {
                programs: Programs::new(std::sync::Arc::clone(&table.registry), SchemaKind::Avro),
                reader: given.map_or(Reader::Newest(None), |given| Reader::Given(Box::new(given))),
                table: table.clone(),
            },
            (None, Some(given)) => Schemas::Given(Compiled::new(content, &given, Some(&given), &target)?),
            (None, None) => {
                return Err(Error::new(Code::MissingOption, "format avro needs the schema of its records")
                    .with_hint("add 'avro.schema' = '…', or 'schema_registry.endpoint' = 'http://…' if they are framed")
                    .with_field("avro.schema"));
            }
        };
        Ok(Self { columns, all, digits, content, schemas, pushed: &[] })
    }

    fn read(&mut self, bytes: &[u8]) -> Result<&'static [ChangeKind], Fault> {
        let Self { columns, all, digits, content, schemas, .. } = self;
        let (programs, reader, table) = match schemas {
            Schemas::Given(program) => return program.rows(bytes, 0, columns),
            Schemas::Registered { programs, reader, table } => (programs, reader, table),
        };
        let mut down = None;
        let target = Target { all, columns, digits: *digits };
        let found = programs.of_record(bytes, |schema| {
            compile_registered(*content, schema, reader, table, &target).inspect_err(|error| {
                if is_outage(error) {
                    down = Some(error.clone());
                }
            })
        });
        match (found, down) {
            (_, Some(error)) => {
                programs.end_batch();
                Err(outage(error))
            }
            (Ok(Framed { program, bytes, at }), None) => program.rows(bytes, at, columns),
            (Err(fault), None) => Err(fault),
        }
    }
}

fn compile_registered(
    content: Content,
    schema: &RegisteredSchema,
    reader: &mut Reader,
    table: &TableRegistry,
    target: &Target<'_>,
) -> Result<Compiled> {
    let writer = Parsed::registered(schema)?;
    match reader {
        Reader::Given(reader) => Compiled::new(content, &writer, Some(reader), target),
        Reader::Newest(newest) if content == Content::Change || lacks_columns(&writer, target) => {
            let newest = match newest {
                Some(newest) => newest,
                None => newest.insert(newest_schema(table, &writer)?),
            };
            Compiled::new(content, &writer, newest.as_deref(), target)
        }
        Reader::Newest(_) => Compiled::new(content, &writer, None, target),
    }
}

fn newest_schema(table: &TableRegistry, writer: &Parsed) -> Result<Option<Box<Parsed>>> {
    match table.registry.latest(&table.subject(&writer.full_name())) {
        Ok(schema) if schema.kind == SchemaKind::Avro => {
            Parsed::registered(&schema).map(|parsed| Some(Box::new(parsed)))
        }
        Ok(_) => Ok(None),
        Err(error) if error.code() == Code::UnknownSchema => Ok(None),
        Err(error) => Err(error),
    }
}

/// The registry gave no answer; everything else is about the schema.
fn is_outage(error: &Error) -> bool {
    !matches!(
        error.code(),
        Code::InvalidSchema | Code::TypeMismatch | Code::NotSupported | Code::UnknownSchema | Code::Internal
    )
}

impl ValueDecoder for AvroDecoder {
    #[inline]
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Fault> {
        self.pushed = &[];
        let Some(bytes) = value else {
            // Debezium writes a tombstone after a delete, for Kafka's compaction.
            if self.content == Content::Change {
                return Ok(());
            }
            return Err(fault_of_record("the record has no value (a tombstone), so it is not Avro"));
        };
        let rows = self.columns.rows();
        match self.read(bytes) {
            Ok(pushed) => {
                self.pushed = pushed;
                Ok(())
            }
            Err(fault) => {
                self.columns.truncate(rows);
                Err(fault)
            }
        }
    }
    fn pushed(&self) -> &'static [ChangeKind] {
        self.pushed
    }
    fn truncate(&mut self, rows: usize) {
        self.columns.truncate(rows);
    }
    fn end_batch(&mut self) {
        if let Schemas::Registered { programs, .. } = &mut self.schemas {
            programs.end_batch();
        }
    }
    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.columns.finish()
    }
}
