//! A table as a connector sees it: columns, the ones that the query uses, and where its event time comes from.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// Marks a text column whose content is JSON: the field's metadata has this key with the value `json`.
pub const TYPE_KEY: &str = "laminar.type";

#[derive(Clone, Debug, PartialEq)]
pub struct TableSpec {
    pub name: String,
    /// Columns stored outside or filled from metadata; generated columns are the planner's, not here.
    pub columns: Vec<Column>,
    /// Indices into `columns`: what the query reads, in the order of the rows that the source yields. For a sink: all.
    pub projection: Vec<usize>,
    pub event_time: Option<EventTime>,
    /// Names of the primary key's columns; empty if none.
    pub primary_key: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
    pub nullable: bool,
    /// Text that holds JSON, copied from the message as written.
    pub json: bool,
    /// `Some("offset")`: filled from the record's metadata under this key, not from its value.
    pub metadata: Option<String>,
}

impl Column {
    pub fn field(&self) -> Field {
        let field = Field::new(&self.name, self.data_type.clone(), self.nullable);
        if self.json { field.with_metadata([(TYPE_KEY.to_string(), "json".to_string())].into()) } else { field }
    }
}

/// Which column says when a row happened, and how far behind it the watermark stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTime {
    /// Name of a TIMESTAMP column of the table.
    pub column: String,
    pub delay: Duration,
}

impl TableSpec {
    /// Schema of all columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(Column::field).collect::<Vec<_>>()))
    }
    /// Schema of the rows a source yields: the projected columns in projection order.
    pub fn projected_schema(&self) -> SchemaRef {
        let fields = self.projection.iter().filter_map(|i| self.columns.get(*i)).map(Column::field);
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
    /// The same table, all of whose columns are read.
    pub fn whole(&self) -> Self {
        Self { projection: (0..self.columns.len()).collect(), ..self.clone() }
    }

    /// Has a record that is a key alone no event time? Without such a column it is the record's own timestamp.
    pub fn keys_are_timeless(&self) -> bool {
        let Some(time) = &self.event_time else { return false };
        let is_of_value = |c: &Column| c.name == time.column && c.metadata.is_none();
        self.columns.iter().any(is_of_value) && !self.primary_key.contains(&time.column)
    }
}

/// The type of event times and of SQL's `TIMESTAMP`: microseconds, no zone (UTC).
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}
