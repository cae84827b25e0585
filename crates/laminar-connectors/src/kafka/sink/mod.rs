//! Kafka topics as a sink.
//!
//! ```text
//!  write: changes ─► columns of the value ─► encoder or template ─► values end to end ─┐
//!                 ├► columns of the key, see `key` ────────────────────────────────────┼─► topic by topic, 1024 rows
//!                 └► partition, timestamp, topic, headers, see `fields` ───────────────┘   at a time ─► `outlet`
//!  flush: all rows acknowledged: inside the open transaction (exactly-once), or visible (at-least-once)
//! ```
//!
//! Rows of one key go to one partition in the order written: they are handed over in order, the partition follows from the
//! key alone (as the Java client's default does it; other partitioners say what they do), and a retried request keeps its
//! place (idempotent producer).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use laminar_core::connector::SinkContext;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::sink::{ChangeSupport, Committer, Delivery, Sink, SinkWriter};
use laminar_core::table::TableSpec;
use laminar_core::{ChangeKind, Changes, Code, Epoch, Error, Health, Result, TaskId};
use laminar_formats::FormatContext;

use crate::kafka::encoding::decode_values;
use crate::kafka::producer::Producer;
use crate::kafka::producer::record::{ANY_PARTITION, Carries, Record};
use crate::kafka::producer::shared::SharedProducer;
use crate::kafka::producer::transaction::Transactions;
use crate::schema_registry::Patience;
use fields::{Fields, RowFields};
use key::{KeyMaker, Keys};
use options::{Acks, Encoding, Partitioner, SinkSettings};
use outlet::Outlet;
use template::Renderer;
use topics::Topics;

pub(super) mod dead_letters;
pub(super) mod fields;
pub(super) mod headers;
mod key;
pub(super) mod options;
mod outlet;
mod spool;
mod template;
mod topics;

/// Rows handed to librdkafka between two looks at the bounds of what is on its way.
pub(crate) const SLICE: usize = 1024;

/// Settings of a client whose rows may be lost: they may also change places.
const LOOSE: &[(&str, &str)] = &[("enable.idempotence", "false")];

/// How often the partitions of a topic are counted, unless the user says it.
const RECOUNT: Duration = Duration::from_secs(300);

pub(crate) struct KafkaSink {
    settings: Arc<SinkSettings>,
    table: TableSpec,
    fields: Fields,
    producer: Arc<SharedProducer>,
    formats: FormatContext,
    /// Where rows wait that do so on disk.
    spool_dir: PathBuf,
}

impl KafkaSink {
    /// `delivery` is what was decided from the table, the pipeline and the cluster.
    pub fn new(
        settings: SinkSettings,
        table: &TableSpec,
        delivery: Delivery,
        ctx: &SinkContext,
        transactions: &Arc<Transactions>,
        spool_dir: PathBuf,
    ) -> Result<Self> {
        let fields = Fields::new(&settings, table)?;
        let producer = match (delivery, settings.producer.acks) {
            (Delivery::ExactlyOnce, _) => SharedProducer::InTransaction(transactions.get(&settings.cluster, ctx)?),
            (Delivery::AtLeastOnce, Acks::All) => SharedProducer::at_once(&settings.cluster, &[]),
            (Delivery::AtLeastOnce, Acks::Leader | Acks::None) => SharedProducer::at_once(&settings.cluster, LOOSE),
        };
        let (producer, formats) = (Arc::new(producer), settings.formats(Patience::Job)?);
        Ok(Self { settings: Arc::new(settings), table: table.clone(), fields, producer, formats, spool_dir })
    }

    fn upserts(&self) -> bool {
        self.fields.upserts(&self.settings, &self.table)
    }

    fn renderer(&self, template: Option<&template::Template>) -> Result<Option<Renderer>> {
        let Some(template) = template else { return Ok(None) };
        let (fields, format) = (&self.fields, &self.settings.format);
        Renderer::new(template, &self.table, &fields.value, &fields.value_indices(), format).map(Some)
    }

    fn values(&self) -> Result<ValueMaker> {
        if let Some(renderer) = self.renderer(self.fields.template.as_ref())? {
            return Ok(ValueMaker::Template(renderer));
        }
        let (format, value) = (&self.settings.format, &self.fields.value);
        let encoder = match self.upserts() {
            true => laminar_formats::upsert_encoder_with(format, value, &self.formats)?,
            false => laminar_formats::tombstone_encoder_with(format, value, &self.formats)?,
        };
        Ok(match self.settings.encoding.value {
            Encoding::None => ValueMaker::Format(encoder),
            Encoding::Base64 => ValueMaker::Base64(encoder),
        })
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn open(&self, task: &TaskId) -> Result<Box<dyn SinkWriter>> {
        let producer = self.producer.get().await?;
        let mut topics = Topics::new(Arc::clone(&producer), Arc::clone(&self.settings), self.upserts());
        let topic = match &self.settings.topic {
            Some(name) => Some(topics.open(name).await?),
            None => None,
        };
        if let Some(topic) = topic {
            topics.get(topic)?.start_turns_at(task.index);
        }
        let key = &self.fields.key;
        let outlet = Outlet::new(Arc::clone(&producer), topics, &self.settings.buffer, self.spool_dir.clone());
        outlet.bound();
        Ok(Box::new(Writer {
            outlet,
            topic,
            producer,
            shared: Arc::clone(&self.producer),
            fields: self.fields.clone(),
            makes: self.values()?,
            keys: KeyMaker::new(key, self.renderer(key.template.as_ref())?, &self.table, &self.formats)?,
            values: EncodedValues::default(),
            partitions: Vec::new(),
            settings: Arc::clone(&self.settings),
        }))
    }

    fn delivery(&self) -> Delivery {
        self.producer.delivery()
    }

    fn changes(&self) -> ChangeSupport {
        match (self.upserts(), &self.fields.template) {
            (true, _) => ChangeSupport::Changes,
            (false, Some(_)) => ChangeSupport::InsertOnly,
            (false, None) => self.settings.format.changes(),
        }
    }

    fn committer(&self) -> Option<Arc<dyn Committer>> {
        self.producer.committer()
    }
}

/// What makes the values of records.
enum ValueMaker {
    Format(Box<dyn Encoder>),
    /// What the format makes is text that stands for bytes.
    Base64(Box<dyn Encoder>),
    Template(Renderer),
}

struct Writer {
    outlet: Outlet,
    /// Where rows go whose topic no column says.
    topic: Option<usize>,
    producer: Arc<Producer>,
    shared: Arc<SharedProducer>,
    fields: Fields,
    makes: ValueMaker,
    keys: KeyMaker,
    /// Reused from batch to batch.
    values: EncodedValues,
    /// Of the records that are being sent, where they are not left to the partitioner.
    partitions: Vec<i32>,
    settings: Arc<SinkSettings>,
}

#[async_trait]
impl SinkWriter for Writer {
    async fn write(&mut self, changes: &Changes) -> Result<()> {
        self.encode(changes)?;
        let keys = self.keys.keys(changes)?;
        let fields = self.fields.of(changes)?;
        let sent = self.send_all(&keys, &fields).await;
        self.shared.explain(sent).await
    }

    fn health(&self) -> Option<Arc<dyn Health>> {
        self.producer.health()
    }

    async fn flush(&mut self, _: Epoch) -> Result<()> {
        let emptied = self.outlet.empty().await;
        let settled = match emptied {
            Ok(()) => self.shared.settle(&self.producer).await,
            failed => failed,
        };
        self.shared.explain(settled).await
    }
}

/// Which of a batch's values go to one topic.
#[derive(Clone, Copy)]
enum Chosen<'a> {
    All(usize),
    Some(&'a [usize]),
}

impl Chosen<'_> {
    fn len(&self) -> usize {
        match self {
            Self::All(count) => *count,
            Self::Some(values) => values.len(),
        }
    }
    /// The value that is the `index`th of them.
    fn at(&self, index: usize) -> usize {
        match self {
            Self::All(_) => index,
            Self::Some(values) => values.get(index).copied().unwrap_or(usize::MAX),
        }
    }
}

impl Writer {
    /// Fills `values`.
    fn encode(&mut self, changes: &Changes) -> Result<()> {
        self.values.clear();
        let value = self.fields.value_of(changes)?;
        let value = value.as_ref().unwrap_or(changes);
        match &mut self.makes {
            ValueMaker::Format(encoder) => encoder.encode(value, &mut self.values)?,
            ValueMaker::Base64(encoder) => {
                encoder.encode(value, &mut self.values)?;
                self.values = decode_values(std::mem::take(&mut self.values), "value")?;
            }
            ValueMaker::Template(renderer) => {
                only_adds(changes)?;
                renderer.render(changes, &mut self.values)?;
            }
        }
        let one_each = self.values.rows.is_empty() && !self.values.is_empty();
        if one_each && self.values.len() != changes.num_rows() {
            let what = format!("{} rows became {} values", changes.num_rows(), self.values.len());
            return Err(Error::internal(what));
        }
        Ok(())
    }

    async fn send_all(&mut self, keys: &Keys, fields: &RowFields) -> Result<()> {
        let all = Chosen::All(self.values.len());
        if let (Some(topic), false) = (self.topic, self.fields.has_topics()) {
            return self.send(topic, all, keys, fields).await;
        }
        for (topic, values) in self.by_topic(fields).await? {
            self.send(topic, Chosen::Some(&values), keys, fields).await?;
        }
        Ok(())
    }

    /// The values that go to each topic, in order; topics in the order in which they first come.
    async fn by_topic(&mut self, fields: &RowFields) -> Result<Vec<(usize, Vec<usize>)>> {
        let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut group_of: HashMap<usize, usize> = HashMap::new();
        // Rows of one topic often follow each other.
        let mut last: Option<(&str, usize)> = None;
        for at in 0..self.values.len() {
            let row = self.values.row(at);
            let topic = match (fields.topic(row), last) {
                (Some(name), Some((last_name, topic))) if name == last_name => topic,
                (Some(name), _) => {
                    let opened = self.open(name).await?;
                    last = Some((name, opened));
                    opened
                }
                (None, _) => self.topic.ok_or_else(no_topic)?,
            };
            let group = *group_of.entry(topic).or_insert_with(|| {
                groups.push((topic, Vec::new()));
                groups.len() - 1
            });
            if let Some((_, values)) = groups.get_mut(group) {
                values.push(at);
            }
        }
        Ok(groups)
    }

    async fn open(&mut self, name: &str) -> Result<usize> {
        let before = self.outlet.topics.partitions();
        let topic = self.outlet.topics.open_for_rows(name, self.shared.patience()).await?;
        if self.outlet.topics.partitions() != before {
            self.outlet.bound();
        }
        Ok(topic)
    }

    /// Hands values of one topic over, a slice at a time.
    async fn send(&mut self, topic: usize, chosen: Chosen<'_>, keys: &Keys, fields: &RowFields) -> Result<()> {
        self.assign(topic, chosen, fields).await?;
        let carries = if fields.needs_more() { Carries::Everything } else { Carries::Plain };
        let (values, partitions) = (&self.values, &self.partitions);
        let record = |index: usize| {
            let at = chosen.at(index);
            let row = values.row(at);
            Record {
                key: keys.get(row),
                value: (!values.is_tombstone(at)).then(|| values.get(at)),
                partition: partitions.get(index).copied().unwrap_or(ANY_PARTITION),
                timestamp: fields.timestamp(row).unwrap_or(0),
                headers: fields.headers(row),
            }
        };
        for start in (0..chosen.len()).step_by(SLICE) {
            let end = chosen.len().min(start + SLICE);
            let records = (start..end).map(record);
            let bytes = match (chosen, carries) {
                (Chosen::All(_), Carries::Plain) => {
                    let of_keys = records.clone().filter_map(|record| record.key).map(<[u8]>::len);
                    end_of(values, end) - end_of(values, start) + of_keys.sum::<usize>()
                }
                _ => records.clone().map(|record| record.len() + record.headers.size()).sum(),
            };
            self.outlet.send(topic, records, carries, end - start, bytes).await?;
        }
        Ok(())
    }

    /// Fills `partitions`, unless the partitioner chooses for every record.
    async fn assign(&mut self, topic: usize, chosen: Chosen<'_>, fields: &RowFields) -> Result<()> {
        self.partitions.clear();
        let round_robin = self.settings.producer.partitioner == Partitioner::RoundRobin;
        if fields.partitions.is_none() && !round_robin {
            return Ok(());
        }
        let every = self.settings.producer.partition_count_refresh_interval.map_or(RECOUNT, |interval| interval.0);
        let topics = &mut self.outlet.topics;
        topics.count(topic, every).await?;
        let said = |index| fields.partition(self.values.row(chosen.at(index)));
        let highest = (0..chosen.len()).filter_map(said).max();
        if highest.is_some_and(|highest| topics.get(topic).is_ok_and(|open| highest >= open.partitions)) {
            topics.count(topic, Duration::ZERO).await?;
        }
        let open = topics.get(topic)?;
        if let Some(highest) = highest.filter(|highest| *highest >= open.partitions) {
            let what = format!("topic {} has no partition {highest}", open.name);
            return Err(Error::new(Code::InvalidValue, what)
                .with_detail(format!("it has {}, from 0 on", open.partitions))
                .with_hint("partition_field and _kafka_partition name partitions that are there; null lets the partitioner choose"));
        }
        for index in 0..chosen.len() {
            let partition = match (said(index), round_robin) {
                (Some(partition), _) => partition,
                (None, true) => open.next_turn(),
                (None, false) => ANY_PARTITION,
            };
            self.partitions.push(partition);
        }
        Ok(())
    }
}

/// A text made of a row says nothing of what became of the row.
fn only_adds(changes: &Changes) -> Result<()> {
    match changes.kinds().is_some_and(|kinds| kinds.iter().any(|kind| kind != ChangeKind::Insert)) {
        true => Err(Error::new(Code::NotSupported, "sink.value cannot carry updates and deletes")
            .with_hint("the query must only add rows")),
        false => Ok(()),
    }
}

/// Bytes of the first `count` values.
fn end_of(values: &EncodedValues, count: usize) -> usize {
    count.checked_sub(1).and_then(|last| values.ends.get(last)).copied().unwrap_or(0)
}

fn no_topic() -> Error {
    Error::new(Code::InvalidValue, "a row has no topic")
        .with_detail("the column of its topic is null, and the table has no option topic")
        .with_hint("add topic = '…' to the table for such rows, or filter them out")
}
