//! What a sink writes in front of every value.

use laminar_core::Result;
use laminar_core::format::EncodedValues;

use super::zlib::Deflater;
use super::{Body, SchemaId, SchemaText, TableRegistry};
use crate::internal;

/// The frame of a sink's schema. The registry is asked for the schema's id when the first rows come, and once.
pub(crate) struct Frame {
    table: TableRegistry,
    schema: Schema,
    bytes: Vec<u8>,
    /// Of a sink that compresses.
    deflater: Option<Box<Deflater>>,
}

enum Schema {
    /// Full name of the record or message, after which the subject may be named, and its schema.
    Text(String, SchemaText),
    Id(SchemaId),
}

impl Frame {
    pub fn new(table: &TableRegistry, name: impl Into<String>, schema: SchemaText) -> Self {
        Self::with(table, Schema::Text(name.into(), schema))
    }

    /// The frame of a schema that is registered.
    pub fn of(table: &TableRegistry, id: SchemaId) -> Self {
        Self::with(table, Schema::Id(id))
    }

    fn with(table: &TableRegistry, schema: Schema) -> Self {
        let deflater = (table.body() == Body::Zlib).then(|| Box::new(Deflater::new()));
        Self { table: table.clone(), schema, bytes: Vec::new(), deflater }
    }

    /// The frame; registers the schema if the options say so. Errors are the registry's, and the next call asks again.
    pub fn bytes(&mut self) -> Result<&[u8]> {
        if self.bytes.is_empty() {
            let id = match &self.schema {
                Schema::Text(name, schema) => self.table.id_for_writing(name, schema)?,
                Schema::Id(id) => *id,
            };
            self.table.registry.framing().write(id, self.table.body(), &mut self.bytes);
            if self.bytes.is_empty() {
                return Err(internal(format!("schema {id} is of another registry")));
            }
        }
        Ok(&self.bytes)
    }

    /// Ends what was written behind the frame: the values from the one at `first` on.
    pub fn seal(&mut self, out: &mut EncodedValues, first: usize) -> Result<()> {
        let Some(deflater) = &mut self.deflater else { return Ok(()) };
        deflater.bodies(out, first, self.bytes.len()).ok_or_else(|| internal("values could not be compressed"))
    }
}
