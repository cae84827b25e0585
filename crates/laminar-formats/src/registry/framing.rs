//! What a sink writes in front of every value.

use laminar_core::Result;

use super::{SchemaText, TableRegistry, write_frame};

/// The frame of a sink's schema. The registry is asked for the schema's id when the first rows come, and once.
pub(crate) struct Frame {
    table: TableRegistry,
    /// Full name of the record or message, after which the subject may be named.
    name: String,
    schema: SchemaText,
    bytes: Vec<u8>,
}

impl Frame {
    pub fn new(table: &TableRegistry, name: impl Into<String>, schema: SchemaText) -> Self {
        Self { table: table.clone(), name: name.into(), schema, bytes: Vec::new() }
    }

    /// The frame; registers the schema if the options say so. Errors are the registry's, and the next call asks again.
    pub fn bytes(&mut self) -> Result<&[u8]> {
        if self.bytes.is_empty() {
            write_frame(self.table.id_for_writing(&self.name, &self.schema)?, &mut self.bytes);
        }
        Ok(&self.bytes)
    }
}
