//! A record to its rows: the value's columns, the record's own metadata, and the event time.
//!
//! The value goes first, as it is what fails; metadata follows, and if that fails the value's rows are cut off again. So
//! between two pushes all columns have the same length.
//!
//! The event time column is decoded even when the query does not read it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use laminar_core::format::{DecodeError, Decoder};
use laminar_core::source::RawRecord;
use laminar_core::table::{Column, TableSpec, timestamp_type};
use laminar_core::{ChangeKind, Changes, Code, Error, Kinds, Result};

use crate::fault::{Fault, in_column};
use crate::internal;
use crate::metadata::MetadataColumn;

/// Columns filled from a record's value.
pub(crate) trait ValueDecoder: Send {
    /// Appends the record's rows, or leaves nothing behind. `None` is a tombstone.
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), Fault>;
    /// What the last push appended: each row's kind. Known without looking where a record is always one row.
    #[inline(always)]
    fn pushed(&self) -> &'static [ChangeKind] {
        &[ChangeKind::Insert]
    }
    /// Cuts back to `rows` rows.
    fn truncate(&mut self, rows: usize);
    /// A batch ends, also one whose records were all bad: what was found out for it alone is forgotten.
    fn end_batch(&mut self) {}
    /// The columns that were asked for, in that order, and an empty start for the next batch.
    fn finish(&mut self) -> Result<Vec<ArrayRef>>;
}

/// Which columns of a table a decoder fills, and where each comes from.
pub(crate) struct Plan {
    /// Columns in the value, in table order, used by the query or not: their names decide what a field means.
    pub value_columns: Vec<Column>,
    /// Indices into `value_columns` of what is decoded, each once.
    pub wanted: Vec<usize>,
    /// What is read from the record itself.
    metadata: Vec<Column>,
    /// Where each column of the output comes from.
    output: Vec<From>,
    event_time: Option<From>,
    schema: SchemaRef,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// Position in `wanted`.
    Value(usize),
    /// Position in `metadata`.
    Metadata(usize),
}

impl Plan {
    pub fn new(table: &TableSpec) -> Result<Self> {
        let mut plan = Plan {
            value_columns: table.columns.iter().filter(|c| c.metadata.is_none()).cloned().collect(),
            wanted: Vec::new(),
            metadata: Vec::new(),
            output: Vec::new(),
            event_time: None,
            schema: table.projected_schema(),
        };
        for index in &table.projection {
            let column = table.columns.get(*index);
            let column = column.ok_or_else(|| internal(format!("table {} has no column {index}", table.name)))?;
            let from = plan.place(column)?;
            plan.output.push(from);
        }
        if let Some(event_time) = &table.event_time {
            let column = table.columns.iter().find(|c| c.name == event_time.column).ok_or_else(|| {
                Error::new(Code::UnknownColumn, format!("table {} has no column {}", table.name, event_time.column))
            })?;
            if !matches!(column.data_type, arrow::datatypes::DataType::Timestamp(_, _)) {
                return Err(Error::new(Code::TypeMismatch, format!("event time {} is not a TIMESTAMP", column.name)));
            }
            plan.event_time = Some(plan.place(column)?);
        }
        Ok(plan)
    }

    fn place(&mut self, column: &Column) -> Result<From> {
        if column.metadata.is_some() {
            let at = self.metadata.iter().position(|c| c.name == column.name);
            return Ok(From::Metadata(at.unwrap_or_else(|| {
                self.metadata.push(column.clone());
                self.metadata.len() - 1
            })));
        }
        let index = self.value_columns.iter().position(|c| c.name == column.name);
        let index = index.ok_or_else(|| internal(format!("column {} is nowhere", column.name)))?;
        let at = self.wanted.iter().position(|i| *i == index);
        Ok(From::Value(at.unwrap_or_else(|| {
            self.wanted.push(index);
            self.wanted.len() - 1
        })))
    }
}

/// Decodes whole records, their values by `V`.
pub(crate) struct RecordDecoder<V> {
    values: V,
    metadata: Vec<MetadataColumn>,
    /// The timestamp of each row's record: the event time where the table's column has none.
    record_times: Vec<i64>,
    /// Each row's kind; empty while all are inserts.
    kinds: Vec<ChangeKind>,
    output: Vec<From>,
    event_time: Option<From>,
    schema: SchemaRef,
}

impl<V: ValueDecoder> RecordDecoder<V> {
    pub fn new(values: V, plan: Plan) -> Result<Self> {
        Ok(Self {
            values,
            metadata: plan.metadata.iter().map(MetadataColumn::new).collect::<Result<_>>()?,
            record_times: Vec::new(),
            kinds: Vec::new(),
            output: plan.output,
            event_time: plan.event_time,
            schema: plan.schema,
        })
    }

    fn push_metadata(&mut self, record: &RawRecord<'_>, rows: usize) -> Result<(), Fault> {
        for column in &mut self.metadata {
            for _ in 0..rows {
                column.push(record).map_err(|fault| in_column(fault, column.name()))?;
            }
        }
        Ok(())
    }

    fn push_kinds(&mut self, kinds: &[ChangeKind]) {
        if self.kinds.is_empty() {
            if kinds.iter().all(|kind| *kind == ChangeKind::Insert) {
                return;
            }
            self.kinds.resize(self.record_times.len(), ChangeKind::Insert);
        }
        self.kinds.extend_from_slice(kinds);
    }

    fn event_times(&self, column: Option<ArrayRef>, record_times: Vec<i64>) -> Result<TimestampMicrosecondArray> {
        let Some(column) = column else { return Ok(record_times.into()) };
        let column = cast(&column, &timestamp_type())?;
        let times = column.as_any().downcast_ref::<TimestampMicrosecondArray>();
        let times = times.ok_or_else(|| internal("event times are not timestamps"))?;
        let Some(known) = times.nulls().filter(|nulls| nulls.null_count() > 0).cloned() else {
            return Ok(TimestampMicrosecondArray::new(times.values().clone(), None));
        };
        let values = times.iter().zip(record_times).map(|(time, record)| time.unwrap_or(record)).collect::<Vec<_>>();
        Ok(TimestampMicrosecondArray::new(values.into(), Some(known)))
    }
}

impl<V: ValueDecoder> Decoder for RecordDecoder<V> {
    fn push(&mut self, record: &RawRecord<'_>) -> Result<(), DecodeError> {
        self.values.push(record.value).map_err(|fault| *fault)?;
        let kinds = self.values.pushed();
        if !self.metadata.is_empty()
            && let Err(fault) = self.push_metadata(record, kinds.len())
        {
            let rows = self.record_times.len();
            self.values.truncate(rows);
            self.metadata.iter_mut().for_each(|column| column.truncate(rows));
            return Err(*fault);
        }
        self.push_kinds(kinds);
        self.record_times.extend(kinds.iter().map(|_| record.timestamp_micros));
        Ok(())
    }

    fn len(&self) -> usize {
        self.record_times.len()
    }

    fn flush(&mut self) -> Result<Option<Changes>> {
        self.values.end_batch();
        let rows = self.record_times.len();
        if rows == 0 {
            return Ok(None);
        }
        let record_times = std::mem::replace(&mut self.record_times, Vec::with_capacity(rows));
        let kinds = std::mem::take(&mut self.kinds);
        let kinds = (!kinds.is_empty()).then(|| kinds.into_iter().collect::<Kinds>());
        let values = self.values.finish()?;
        let metadata = self.metadata.iter_mut().map(MetadataColumn::finish).collect::<Result<Vec<_>>>()?;
        let column = |from: &From| match from {
            From::Value(at) => values.get(*at).map(Arc::clone),
            From::Metadata(at) => metadata.get(*at).map(Arc::clone),
        };
        let columns: Option<Vec<ArrayRef>> = self.output.iter().map(column).collect();
        let columns = columns.ok_or_else(|| internal("a decoded column is missing"))?;
        let times = self.event_times(self.event_time.as_ref().and_then(column), record_times)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Changes::new(batch, times, kinds).map(Some)
    }
}
