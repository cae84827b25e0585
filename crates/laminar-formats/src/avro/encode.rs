//! Rows to records: one Avro datum a row, framed with the id of its schema where there is a registry.

use apache_avro::Schema;
use arrow::array::RecordBatch;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Code, Error, Result};

use super::schema::Parsed;
use super::types::{envelope_of, schema_of};
use super::wire_out::{write_bytes, write_long};
use super::write::{Put, plan_record};
use crate::internal;
use crate::json::refuse_changes;
use crate::net::{Net, net_by_key, net_of_pairs};
use crate::registry::{Frame, SchemaKind, SchemaText, TableRegistry};
use crate::upsert::{KeyEncoder, RowEncoder};

/// Writes one datum a row.
pub(crate) struct AvroEncoder {
    columns: usize,
    fields: Vec<Put>,
    frame: Option<Frame>,
}

impl AvroEncoder {
    /// `schema` is what the user gives; without it the columns make one. No I/O.
    ///
    /// Errors: `invalid_schema`, `type_mismatch`, `unknown_column`, `not_supported`, `invalid_name`.
    pub fn new(table: &TableSpec, schema: Option<&str>, registry: Option<&TableRegistry>) -> Result<Self> {
        let fields = table.schema();
        let (parsed, text) = match schema {
            Some(text) => {
                let parsed = Parsed::text(text, "option avro.schema");
                (parsed.map_err(|error| error.with_field("avro.schema"))?, text.to_string())
            }
            None => {
                let text = schema_of(&table.name, fields.fields().iter().map(AsRef::as_ref))?.to_string();
                (Parsed::text(&text, "the schema of the table")?, text)
            }
        };
        let names = parsed.names()?;
        let Schema::Record(record) = &parsed.root else {
            return Err(Error::new(Code::InvalidSchema, "option avro.schema is not a record").with_field("avro.schema"));
        };
        let fields = plan_record(record, &names, fields.fields())?;
        let frame = registry
            .map(|registry| Frame::new(registry, parsed.full_name(), SchemaText { kind: SchemaKind::Avro, text }));
        Ok(Self { columns: table.columns.len(), fields, frame })
    }

    /// Writes one datum a row, whatever the row does.
    fn write_rows(&mut self, rows: &RecordBatch, out: &mut EncodedValues) -> Result<()> {
        if rows.num_columns() != self.columns {
            return Err(internal("the rows have other columns than the sink"));
        }
        let first = out.len();
        let frame = self.frame.as_mut().map_or(Ok(&[][..]), Frame::bytes)?;
        let fields = self.fields.iter().map(|field| field.bind(rows.columns())).collect::<Result<Vec<_>>>()?;
        for row in 0..rows.num_rows() {
            out.bytes.extend_from_slice(frame);
            for field in &fields {
                field.write(row, &mut out.bytes)?;
            }
            out.end_value();
        }
        self.frame.as_mut().map_or(Ok(()), |frame| frame.seal(out, first))
    }
}

impl RowEncoder for AvroEncoder {
    fn write(&mut self, rows: &RecordBatch, out: &mut EncodedValues) -> Result<()> {
        self.write_rows(rows, out)
    }
}

impl Encoder for AvroEncoder {
    fn encode(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        refuse_changes(changes, "avro")?;
        self.write_rows(changes.rows(), out)
    }
}

/// Writes one envelope of Debezium a change. With a primary key, changes of one key in one call become one.
pub(crate) struct ChangeEncoder {
    /// Writes the rows, without a frame.
    format: AvroEncoder,
    keys: Option<KeyEncoder>,
    frame: Option<Frame>,
    /// The rows as they are written, reused from call to call.
    rows: EncodedValues,
}

impl ChangeEncoder {
    /// No I/O. Errors: `not_supported`, `invalid_name`, `conflicting_options`.
    pub fn new(table: &TableSpec, schema: Option<&str>, registry: Option<&TableRegistry>) -> Result<Self> {
        if schema.is_some() {
            let message = "option avro.schema is for sources only, where the format is debezium_avro";
            return Err(Error::new(Code::ConflictingOptions, message)
                .with_hint("remove it: the envelope is made from the table's columns")
                .with_field("avro.schema"));
        }
        let keys = (!table.primary_key.is_empty()).then(|| KeyEncoder::new(table)).transpose()?;
        let text = envelope_of(&table.name, table.schema().fields().iter().map(AsRef::as_ref))?.to_string();
        let name = Parsed::text(&text, "the schema of the table")?.full_name();
        let format = AvroEncoder::new(table, None, None)?;
        let frame = registry.map(|registry| Frame::new(registry, name, SchemaText { kind: SchemaKind::Avro, text }));
        Ok(Self { format, keys, frame, rows: EncodedValues::default() })
    }
}

impl Encoder for ChangeEncoder {
    fn encode(&mut self, changes: &Changes, out: &mut EncodedValues) -> Result<()> {
        let first = out.len();
        let frame = self.frame.as_mut().map_or(Ok(&[][..]), Frame::bytes)?;
        self.rows.clear();
        self.format.write_rows(changes.rows(), &mut self.rows)?;
        let net = match (changes.kinds(), &mut self.keys) {
            (None, _) => {
                let count = u32::try_from(changes.num_rows()).map_err(internal)?;
                (0..count).map(|row| Net { before: None, after: Some(row) }).collect()
            }
            (Some(kinds), None) => net_of_pairs(kinds, &self.rows),
            (Some(kinds), Some(keys)) => net_by_key(kinds, keys.of(changes.rows())?, &self.rows),
        };
        for net in net {
            out.bytes.extend_from_slice(frame);
            for row in [net.before, net.after] {
                write_long(i64::from(row.is_some()), &mut out.bytes);
                out.bytes.extend_from_slice(row.map_or(&[], |row| self.rows.get(row as usize)));
            }
            let op = match (net.before, net.after) {
                (_, None) => b"d",
                (None, _) => b"c",
                _ => b"u",
            };
            write_bytes(op, &mut out.bytes);
            out.end_value();
            out.rows.extend(net.after.or(net.before));
        }
        self.frame.as_mut().map_or(Ok(()), |frame| frame.seal(out, first))
    }
}
