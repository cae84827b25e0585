//! Writers and committer over a [`Target`].

use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use laminar_core::sink::{ChangeSupport, Committer, Delivery, Marker, Sink, SinkWriter, SourceProgress};
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Epoch, Result, TaskId};
use laminar_formats::FormatOptions;

use super::options::Rolling;
use super::target::{PartFile, Target};
use crate::files::line_encoder::{EncodedLines, LineEncoder};
use crate::files::{blocking, file_error};

const BUFFER_BYTES: usize = 256 << 10;

pub struct FolderSink {
    committer: Arc<FolderCommitter>,
    rolling: Rolling,
    format: FormatOptions,
    table: TableSpec,
    delivery: Delivery,
}

impl FolderSink {
    pub fn new(
        target: Arc<Target>,
        rolling: Rolling,
        format: FormatOptions,
        table: TableSpec,
        delivery: Delivery,
    ) -> Self {
        let id = format!("filesystem:{}", target.folder().display());
        let committer = Arc::new(FolderCommitter { id, target, generation: AtomicU64::new(0) });
        Self { committer, rolling, format, table, delivery }
    }
}

#[async_trait]
impl Sink for FolderSink {
    async fn open(&self, _task: &TaskId) -> Result<Box<dyn SinkWriter>> {
        let encoder = LineEncoder::new(&self.format, &self.table)?;
        let target = self.committer.target.clone();
        let generation = blocking(move || target.current()).await?;
        let target = self.committer.target.clone();
        let parts = Arc::new(Mutex::new(Parts { target, generation, rolling: self.rolling, current: None }));
        Ok(Box::new(FolderWriter { encoder, parts, delivery: self.delivery }))
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

struct FolderCommitter {
    id: String,
    target: Arc<Target>,
    /// The one that `recover` began; 0 before.
    generation: AtomicU64,
}

#[async_trait]
impl Committer for FolderCommitter {
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

struct FolderWriter {
    encoder: LineEncoder,
    parts: Arc<Mutex<Parts>>,
    delivery: Delivery,
}

impl FolderWriter {
    async fn with_parts(&mut self, work: impl FnOnce(&mut Parts) -> Result<()> + Send + 'static) -> Result<()> {
        let parts = self.parts.clone();
        blocking(move || work(&mut parts.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

#[async_trait]
impl SinkWriter for FolderWriter {
    async fn write(&mut self, changes: &Changes) -> Result<()> {
        let lines = self.encoder.encode(changes)?;
        self.with_parts(move |parts| parts.write(&lines)).await
    }

    async fn flush(&mut self, _epoch: Epoch) -> Result<()> {
        let delivery = self.delivery;
        self.with_parts(move |parts| {
            parts.close()?;
            match delivery {
                Delivery::ExactlyOnce => Ok(()),
                Delivery::AtLeastOnce => parts.target.publish(parts.generation, None),
            }
        })
        .await
    }
}

/// The files that one task fills, one after the other.
struct Parts {
    target: Arc<Target>,
    generation: u64,
    rolling: Rolling,
    current: Option<Current>,
}

struct Current {
    part: BufWriter<PartFile>,
    bytes: u64,
    rows: u64,
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Parts {
    fn write(&mut self, lines: &EncodedLines) -> Result<()> {
        let mut start = 0;
        for end in &lines.ends {
            let current = match &mut self.current {
                Some(current) => current,
                none => {
                    let part = BufWriter::with_capacity(BUFFER_BYTES, self.target.create(self.generation)?);
                    none.insert(Current { part, bytes: 0, rows: 0 })
                }
            };
            let line = lines.bytes.get(start..*end).unwrap_or_default();
            current.part.write_all(line).map_err(|e| file_error(self.target.folder(), "write to", e))?;
            current.bytes += line.len() as u64;
            current.rows += 1;
            start = *end;
            if current.bytes >= self.rolling.bytes || current.rows >= self.rolling.rows {
                self.close()?;
            }
        }
        Ok(())
    }

    /// Completes the file that is open, if one is.
    fn close(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let part = current.part.into_inner().map_err(|e| file_error(self.target.folder(), "write to", e))?;
        self.target.complete(self.generation, part)
    }
}
