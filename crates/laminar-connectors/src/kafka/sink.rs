//! A Kafka topic as a sink.
//!
//! ```text
//!  write: changes ─► encoder ─► values end to end in one buffer ─┬─► 1024 rows at a time ─► librdkafka (copies)
//!                         key columns, see `key` ────────────────┘
//!  flush: all rows acknowledged: inside the open transaction (exactly-once), or visible (at-least-once)
//! ```
//!
//! Rows of one key go to one partition in the order written: they are handed over in order, the partition follows from the
//! key alone (as the Java client's default does it), and a retried request keeps its place (idempotent producer).

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::connector::SinkContext;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::sink::{ChangeSupport, Committer, Delivery, Sink, SinkWriter};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Epoch, Error, Result, TaskId};
use laminar_formats::FormatContext;

use super::admin;
use super::key::{KeyColumns, KeyMaker, Keys};
use super::native::Topic;
use super::options::SinkSettings;
use super::producer::{Producer, settle};
use super::transaction::{Transaction, Transactions};

/// Rows handed to librdkafka between two looks at the bounds of what is on its way.
const SLICE: usize = 1024;

/// How long an at-least-once sink waits for acknowledgements before the job starts over: librdkafka gives a row up after
/// five minutes.
pub(super) const ACKNOWLEDGED: Duration = Duration::from_secs(310);

pub(super) struct KafkaSink {
    settings: SinkSettings,
    table: TableSpec,
    key: KeyColumns,
    way: Way,
    formats: FormatContext,
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
        let key = KeyColumns::of(settings.key_field.as_deref(), table)?;
        let way = match delivery {
            Delivery::ExactlyOnce => Way::Transaction(transactions.get(&settings.cluster, ctx)?),
            Delivery::AtLeastOnce => Way::AtOnce(Mutex::new(Weak::new())),
        };
        let formats = settings.formats()?;
        Ok(Self { settings, table: table.clone(), key, way, formats })
    }

    /// Changes are written as rows and tombstones under their key: only if that key is the primary one, else a deleted row
    /// would take others with it.
    fn upserts(&self) -> bool {
        self.settings.format.upserts(&self.table) && self.key.is_primary(&self.table)
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

#[async_trait]
impl Sink for KafkaSink {
    async fn open(&self, _: &TaskId) -> Result<Box<dyn SinkWriter>> {
        admin::ensure_sink_topic(&self.settings.cluster, &self.settings.topic).await?;
        let producer = self.producer()?;
        let topic = producer.topic(&self.settings.topic)?;
        let encoder = match self.upserts() {
            true => laminar_formats::upsert_encoder_with(&self.settings.format, &self.table, &self.formats)?,
            false => laminar_formats::encoder_with(&self.settings.format, &self.table, &self.formats)?,
        };
        let keys = KeyMaker::new(&self.key, &self.table)?;
        let (transaction, patience) = match &self.way {
            Way::Transaction(transaction) => (Some(Arc::clone(transaction)), transaction.timeout()),
            Way::AtOnce(_) => (None, ACKNOWLEDGED),
        };
        let values = EncodedValues::default();
        Ok(Box::new(Writer { topic, producer, transaction, encoder, keys, values, patience }))
    }

    fn delivery(&self) -> Delivery {
        match &self.way {
            Way::Transaction(_) => Delivery::ExactlyOnce,
            Way::AtOnce(_) => Delivery::AtLeastOnce,
        }
    }

    fn changes(&self) -> ChangeSupport {
        if self.upserts() { ChangeSupport::Changes } else { self.settings.format.changes() }
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
    keys: KeyMaker,
    /// Reused from batch to batch.
    values: EncodedValues,
    patience: Duration,
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, changes: &Changes) -> Result<()> {
        self.values.clear();
        self.encoder.encode(changes, &mut self.values)?;
        let one_each = self.values.rows.is_empty() && !self.values.is_empty();
        if one_each && self.values.len() != changes.num_rows() {
            let what = format!("{} rows became {} values", changes.num_rows(), self.values.len());
            return Err(Error::internal(what));
        }
        let keys = self.keys.keys(changes)?;
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
        let values = &self.values;
        for start in (0..values.len()).step_by(SLICE) {
            self.producer.room().await?;
            let end = values.len().min(start + SLICE);
            let first_byte = start.checked_sub(1).and_then(|i| values.ends.get(i)).copied().unwrap_or(0);
            let value_bytes = values.ends.get(end - 1).copied().unwrap_or(0) - first_byte;
            let key = |at: usize| keys.get(values.row(at));
            let key_bytes: usize = (start..end).filter_map(key).map(<[u8]>::len).sum();
            let value = |at: usize| (!values.is_tombstone(at)).then(|| values.get(at));
            let rows = (start..end).map(|at| (key(at), value(at)));
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
