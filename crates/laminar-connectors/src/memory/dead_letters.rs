//! Dead letters in a log: one JSON object each, its bytes as text.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use laminar_core::dead_letter;
use laminar_core::sink::{Committer, Delivery, Sink, SinkWriter};
use laminar_core::table::{Column, TableSpec};
use laminar_core::{Changes, Epoch, Error, Result, TaskId};

/// Columns of a letter in a log; a record of a log has no headers.
fn columns() -> impl Iterator<Item = (usize, Field)> {
    let fields = dead_letter::schema().fields().clone();
    let kept = (0..fields.len()).filter_map(move |at| fields.get(at).map(|field| (at, field.as_ref().clone())));
    kept.filter(|(_, field)| field.name() != "headers").map(|(at, field)| match field.data_type() {
        DataType::Binary => (at, field.with_data_type(DataType::Utf8)),
        _ => (at, field),
    })
}

/// The log as a sink's table.
pub(super) fn table(name: &str) -> TableSpec {
    let column = |(_, field): (usize, Field)| Column {
        name: field.name().clone(),
        data_type: field.data_type().clone(),
        nullable: field.is_nullable(),
        json: false,
        metadata: None,
    };
    let columns: Vec<Column> = columns().map(column).collect();
    let projection = (0..columns.len()).collect();
    TableSpec { name: name.to_string(), columns, projection, event_time: None, primary_key: Vec::new() }
}

/// Writes letters to a sink of [`table`].
pub(super) struct DeadLetterSink(pub Arc<dyn Sink>);

#[async_trait]
impl Sink for DeadLetterSink {
    async fn open(&self, task: &TaskId) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Writer(self.0.open(task).await?)))
    }
    fn delivery(&self) -> Delivery {
        self.0.delivery()
    }
    fn committer(&self) -> Option<Arc<dyn Committer>> {
        self.0.committer()
    }
}

struct Writer(Box<dyn SinkWriter>);

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, changes: &Changes) -> Result<()> {
        self.0.write(&as_text(changes)?).await
    }
    async fn flush(&mut self, epoch: Epoch) -> Result<()> {
        self.0.flush(epoch).await
    }
}

fn as_text(letters: &Changes) -> Result<Changes> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::<ArrayRef>::new());
    for (at, field) in columns() {
        let array = letters.rows().columns().get(at).ok_or_else(|| Error::internal("a dead letter lacks a column"))?;
        arrays.push(match array.as_binary_opt::<i32>() {
            Some(bytes) => Arc::new(bytes.iter().map(|b| b.map(String::from_utf8_lossy)).collect::<StringArray>()),
            None => Arc::clone(array),
        });
        fields.push(field);
    }
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    letters.clone().with_rows(RecordBatch::try_new(schema, arrays)?)
}
