//! Rows to records: one Avro datum a row, framed with the id of its schema where there is a registry.

use std::sync::Arc;

use apache_avro::Schema;
use arrow::array::RecordBatch;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Code, Error, Result};

use super::schema::Parsed;
use super::types::schema_of;
use super::write::{Put, plan_record};
use crate::internal;
use crate::json::refuse_changes;
use crate::registry::{SchemaKind, SchemaText, TableRegistry, write_frame};
use crate::upsert::RowEncoder;

/// Writes one datum a row.
pub(crate) struct AvroEncoder {
    columns: usize,
    fields: Vec<Put>,
    name: String,
    text: String,
    registry: Option<TableRegistry>,
    /// Known once rows were written: the id that frames them.
    id: Option<u32>,
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
        let (columns, name) = (table.columns.len(), parsed.full_name());
        Ok(Self { columns, fields, name, text, registry: registry.cloned(), id: None })
    }

    /// The id under which the registry has the schema; asked for once.
    fn id(&mut self) -> Result<Option<u32>> {
        if let (Some(registry), None) = (&self.registry, self.id) {
            let schema = SchemaText { kind: SchemaKind::Avro, text: self.text.clone() };
            self.id = Some(registry.id_for_writing(&self.name, &schema)?);
        }
        Ok(self.id)
    }

    /// Writes one datum a row, whatever the row does.
    fn write_rows(&mut self, rows: &RecordBatch, out: &mut EncodedValues) -> Result<()> {
        if rows.num_columns() != self.columns {
            return Err(internal("the rows have other columns than the sink"));
        }
        let id = self.id()?;
        let columns: Vec<_> = rows.columns().iter().map(Arc::clone).collect();
        let fields = self.fields.iter().map(|field| field.bind(&columns)).collect::<Result<Vec<_>>>()?;
        for row in 0..rows.num_rows() {
            if let Some(id) = id {
                write_frame(id, &mut out.bytes);
            }
            for field in &fields {
                field.write(row, &mut out.bytes)?;
            }
            out.end_value();
        }
        Ok(())
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
