//! Writing to a log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::sink::{ChangeSupport, Committer, Delivery, Marker, Sink, SinkWriter, SourceProgress};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Epoch, PipelineId, Result, TaskId};
use laminar_formats::FormatOptions;

use super::log::Log;

pub struct LogSink {
    committer: Arc<LogCommitter>,
    format: FormatOptions,
    table: TableSpec,
    delivery: Delivery,
}

impl LogSink {
    pub fn new(
        log: Arc<Log>,
        pipeline: PipelineId,
        format: FormatOptions,
        table: TableSpec,
        delivery: Delivery,
    ) -> Self {
        let id = format!("memory:{}", log.name());
        let committer = Arc::new(LogCommitter { id, log, pipeline, generation: AtomicU64::new(0) });
        Self { committer, format, table, delivery }
    }
}

#[async_trait]
impl Sink for LogSink {
    async fn open(&self, _task: &TaskId) -> Result<Box<dyn SinkWriter>> {
        let (log, pipeline) = (self.committer.log.clone(), self.committer.pipeline.clone());
        let generation = log.current(&pipeline);
        let encoder = laminar_formats::encoder(&self.format, &self.table)?;
        let delivery = self.delivery;
        Ok(Box::new(LogWriter { log, pipeline, generation, encoder, values: EncodedValues::default(), delivery }))
    }
    fn delivery(&self) -> Delivery {
        self.delivery
    }
    fn changes(&self) -> ChangeSupport {
        self.format.changes()
    }
    fn committer(&self) -> Option<Arc<dyn Committer>> {
        (self.delivery == Delivery::ExactlyOnce).then(|| self.committer.clone() as Arc<dyn Committer>)
    }
}

struct LogCommitter {
    id: String,
    log: Arc<Log>,
    pipeline: PipelineId,
    /// The one that `recover` began; 0 before.
    generation: AtomicU64,
}

#[async_trait]
impl Committer for LogCommitter {
    fn id(&self) -> &str {
        &self.id
    }
    async fn recover(&self) -> Result<Option<Marker>> {
        let (generation, marker) = self.log.begin(&self.pipeline);
        self.generation.store(generation, Ordering::SeqCst);
        Ok(marker)
    }
    async fn commit(&self, marker: &Marker, _sources: &[SourceProgress]) -> Result<()> {
        self.log.publish(&self.pipeline, self.generation.load(Ordering::SeqCst), Some(marker))
    }
}

struct LogWriter {
    log: Arc<Log>,
    pipeline: PipelineId,
    generation: u64,
    encoder: Box<dyn Encoder>,
    values: EncodedValues,
    delivery: Delivery,
}

#[async_trait]
impl SinkWriter for LogWriter {
    async fn write(&mut self, changes: &Changes) -> Result<()> {
        self.values.clear();
        self.encoder.encode(changes, &mut self.values)?;
        let records = self.values.iter().map(Bytes::copy_from_slice).collect();
        self.log.write(&self.pipeline, self.generation, records)
    }

    async fn flush(&mut self, _epoch: Epoch) -> Result<()> {
        match self.delivery {
            Delivery::ExactlyOnce => Ok(()),
            Delivery::AtLeastOnce => self.log.publish(&self.pipeline, self.generation, None),
        }
    }
}
