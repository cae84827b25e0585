//! Writers and committer over a [`Target`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use laminar_core::sink::{ChangeSupport, Committer, Delivery, Marker, Sink, SinkWriter, SourceProgress};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Epoch, Result, TaskId};
use laminar_formats::FormatOptions;

use super::target::Target;
use crate::files::blocking;
use crate::files::line_encoder::LineEncoder;

/// Lines gathered before they are handed to the file system.
const BUFFER_BYTES: usize = 256 << 10;

pub struct FileSink {
    committer: Arc<FileCommitter>,
    format: FormatOptions,
    table: TableSpec,
    delivery: Delivery,
}

impl FileSink {
    pub fn new(target: Arc<Target>, format: FormatOptions, table: TableSpec, delivery: Delivery) -> Self {
        let id = format!("single_file:{}", target.path().display());
        let committer = Arc::new(FileCommitter { id, target, generation: AtomicU64::new(0) });
        Self { committer, format, table, delivery }
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn open(&self, _task: &TaskId) -> Result<Box<dyn SinkWriter>> {
        let encoder = LineEncoder::new(&self.format, &self.table)?;
        let target = self.committer.target.clone();
        let generation = blocking(move || target.current()).await?;
        let target = self.committer.target.clone();
        Ok(Box::new(FileWriter { target, generation, encoder, lines: Vec::new(), delivery: self.delivery }))
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

struct FileCommitter {
    id: String,
    target: Arc<Target>,
    /// The one that `recover` began; 0 before.
    generation: AtomicU64,
}

#[async_trait]
impl Committer for FileCommitter {
    fn id(&self) -> &str {
        &self.id
    }
    async fn recover(&self) -> Result<Option<Marker>> {
        let target = self.target.clone();
        let (generation, marker) = blocking(move || target.begin()).await?;
        self.generation.store(generation, Ordering::SeqCst);
        Ok(marker)
    }
    async fn commit(&self, marker: &Marker, _sources: &[SourceProgress]) -> Result<()> {
        let (target, generation, marker) =
            (self.target.clone(), self.generation.load(Ordering::SeqCst), marker.clone());
        blocking(move || target.publish(generation, Some(&marker))).await
    }
}

struct FileWriter {
    target: Arc<Target>,
    generation: u64,
    encoder: LineEncoder,
    lines: Vec<u8>,
    delivery: Delivery,
}

impl FileWriter {
    async fn append(&mut self) -> Result<()> {
        let (target, generation, lines) = (self.target.clone(), self.generation, std::mem::take(&mut self.lines));
        blocking(move || target.append(generation, &lines)).await
    }
}

#[async_trait]
impl SinkWriter for FileWriter {
    async fn write(&mut self, changes: &Changes) -> Result<()> {
        let lines = self.encoder.encode(changes)?;
        self.lines.extend_from_slice(&lines.bytes);
        if self.lines.len() >= BUFFER_BYTES { self.append().await } else { Ok(()) }
    }

    async fn flush(&mut self, _epoch: Epoch) -> Result<()> {
        self.append().await?;
        match self.delivery {
            Delivery::ExactlyOnce => Ok(()),
            Delivery::AtLeastOnce => {
                let (target, generation) = (self.target.clone(), self.generation);
                blocking(move || target.publish(generation, None)).await
            }
        }
    }
}
