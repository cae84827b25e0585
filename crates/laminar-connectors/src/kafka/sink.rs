//! A Kafka topic as a sink.
//!
//! ```text
//!  write: changes ─► encoder ─► values end to end in one buffer ─┬─► 1024 rows at a time ─► librdkafka (copies)
//!                         key column ────────────────────────────┘
//!  flush: all rows acknowledged: inside the open transaction (exactly-once), or visible (at-least-once)
//! ```
//!
//! Rows of one key go to one partition in the order written: they are handed over in order, the partition follows from the
//! key alone (as the Java client's default does it), and a retried request keeps its place (idempotent producer).

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use laminar_core::connector::SinkContext;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::sink::{Committer, Delivery, Sink, SinkWriter};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Code, Epoch, Error, Result, TaskId};

use super::admin;
use super::native::Topic;
use super::options::SinkSettings;
use super::producer::{Producer, settle};
use super::transaction::{Transaction, Transactions};

/// Rows handed to librdkafka between two looks at the bounds of what is on its way.
const SLICE: usize = 1024;

/// How long an at-least-once sink waits for acknowledgements before the job starts over: librdkafka gives a row up after
/// five minutes.
const ACKNOWLEDGED: Duration = Duration::from_secs(310);

pub(super) struct KafkaSink {
    settings: SinkSettings,
    schema: SchemaRef,
    key: Option<usize>,
    way: Way,
}

/// How rows become visible.
enum Way {
    /// With the transaction that all sinks of the pipeline into this cluster share.
    Transaction(Arc<Transaction>),
    /// At once, through a producer that the sink's writers share while there are any.
    AtOnce(Mutex<Weak<Producer>>),
}

impl KafkaSink {
    /// `delivery` is what was decided from the table, the pipeline and the cluster.
    pub fn new(
        settings: SinkSettings,
        table: &TableSpec,
        delivery: Delivery,
        ctx: &SinkContext,
        transactions: &Arc<Transactions>,
    ) -> Result<Self> {
        let key = key_column(&settings, table)?;
        let way = match delivery {
            Delivery::ExactlyOnce => Way::Transaction(transactions.get(&settings.cluster, ctx)?),
            Delivery::AtLeastOnce => Way::AtOnce(Mutex::new(Weak::new())),
        };
        Ok(Self { settings, schema: table.schema(), key, way })
    }

    fn producer(&self) -> Result<Arc<Producer>> {
        match &self.way {
            Way::Transaction(transaction) => transaction.producer(),
            Way::AtOnce(shared) => {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(producer) = shared.upgrade() {
                    return Ok(producer);
                }
                let producer = Arc::new(Producer::new(&self.settings.cluster, &[])?);
                *shared = Arc::downgrade(&producer);
                Ok(producer)
            }
        }
    }
}

/// Index of the column that keys the records; `None`: they have no key.
///
/// Errors: `unknown_column`, `type_mismatch`, `not_supported` for a primary key of several columns.
pub(super) fn key_column(settings: &SinkSettings, table: &TableSpec) -> Result<Option<usize>> {
    let name = match (&settings.key_field, table.primary_key.as_slice()) {
        (Some(name), _) => name,
        (None, []) => return Ok(None),
        (None, [column]) => column,
        (None, _) => {
            let what = format!("the primary key of table {} has several columns", table.name);
            return Err(
                Error::new(Code::NotSupported, what).with_hint("name the column of the record's key with key_field")
            );
        }
    };
    let found = table.columns.iter().position(|c| c.name == *name);
    let found = found.or_else(|| table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name)));
    let Some((index, column)) = found.and_then(|i| Some((i, table.columns.get(i)?))) else {
        let names = table.columns.iter().map(|c| c.name.as_str());
        let error = Error::new(Code::UnknownColumn, format!("table {} has no column {name}", table.name))
            .with_field("key_field");
        return Err(match laminar_core::options::nearest(name, names) {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None => error,
        });
    };
    match &column.data_type {
        DataType::Utf8 | DataType::Binary => Ok(Some(index)),
        kind if kind.is_integer() => Ok(Some(index)),
        _ => Err(Error::new(Code::TypeMismatch, format!("column {name} cannot be the record's key"))
            .with_detail("a key is text, an integer or bytes")
            .with_field("key_field")),
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn open(&self, _: &TaskId) -> Result<Box<dyn SinkWriter>> {
        admin::ensure_sink_topic(&self.settings.cluster, &self.settings.topic).await?;
        let producer = self.producer()?;
        let topic = producer.topic(&self.settings.topic)?;
        let encoder = laminar_formats::encoder(&self.settings.format, Arc::clone(&self.schema))?;
        let (transaction, patience) = match &self.way {
            Way::Transaction(transaction) => (Some(Arc::clone(transaction)), transaction.timeout()),
            Way::AtOnce(_) => (None, ACKNOWLEDGED),
        };
        let values = EncodedValues::default();
        Ok(Box::new(Writer { topic, producer, transaction, encoder, key: self.key, values, patience }))
    }

    fn delivery(&self) -> Delivery {
        match &self.way {
            Way::Transaction(_) => Delivery::ExactlyOnce,
            Way::AtOnce(_) => Delivery::AtLeastOnce,
        }
    }

    fn committer(&self) -> Option<Arc<dyn Committer>> {
        match &self.way {
            Way::Transaction(transaction) => Some(transaction.take() as Arc<dyn Committer>),
            Way::AtOnce(_) => None,
        }
    }
}

struct Writer {
    topic: Topic,
    producer: Arc<Producer>,
    /// `None`: at least once.
    transaction: Option<Arc<Transaction>>,
    encoder: Box<dyn Encoder>,
    key: Option<usize>,
    /// Reused from batch to batch.
    values: EncodedValues,
    patience: Duration,
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, changes: &Changes) -> Result<()> {
        self.values.clear();
        self.encoder.encode(changes, &mut self.values)?;
        if self.values.len() != changes.num_rows() {
            let what = format!("{} rows became {} values", changes.num_rows(), self.values.len());
            return Err(Error::internal(what));
        }
        let keys = Keys::of(changes.rows(), self.key)?;
        let sent = self.send(&keys).await;
        self.explain(sent).await
    }

    async fn flush(&mut self, _: Epoch) -> Result<()> {
        let settled = settle(&self.producer, self.patience).await;
        self.explain(settled).await
    }
}

impl Writer {
    /// Hands the encoded values over, a slice at a time, as the bounds allow.
    async fn send(&mut self, keys: &Keys) -> Result<()> {
        let mut values = self.values.iter();
        for start in (0..self.values.len()).step_by(SLICE) {
            self.producer.room().await?;
            let end = self.values.len().min(start + SLICE);
            let first_byte = start.checked_sub(1).and_then(|i| self.values.ends.get(i)).copied().unwrap_or(0);
            let value_bytes = self.values.ends.get(end - 1).copied().unwrap_or(0) - first_byte;
            let key_bytes: usize = (start..end).filter_map(|row| keys.get(row)).map(<[u8]>::len).sum();
            let rows = (start..end).map(|row| keys.get(row)).zip(values.by_ref());
            self.producer.produce(&mut self.topic, rows, end - start, value_bytes + key_bytes)?;
        }
        Ok(())
    }

    async fn explain(&mut self, outcome: Result<()>) -> Result<()> {
        match (outcome, &self.transaction) {
            (Err(error), Some(transaction)) => Err(transaction.explain(error).await),
            (outcome, _) => outcome,
        }
    }
}

/// The keys of a batch's rows.
enum Keys {
    None,
    Text(StringArray),
    Bytes(BinaryArray),
}

impl Keys {
    fn of(rows: &RecordBatch, key: Option<usize>) -> Result<Self> {
        let Some(index) = key else { return Ok(Self::None) };
        let column: &ArrayRef =
            rows.columns().get(index).ok_or_else(|| Error::internal("the column of the record's key is missing"))?;
        Ok(match column.data_type() {
            DataType::Binary => Self::Bytes(column.as_binary::<i32>().clone()),
            DataType::Utf8 => Self::Text(column.as_string::<i32>().clone()),
            _ => Self::Text(cast(column, &DataType::Utf8)?.as_string::<i32>().clone()),
        })
    }

    fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Text(keys) if keys.is_valid(row) => Some(keys.value(row).as_bytes()),
            Self::Bytes(keys) if keys.is_valid(row) => Some(keys.value(row)),
            _ => None,
        }
    }
}
