//! One file of lines: read once from its start to its end, or appended to.
//!
//! Reading: `files::lines`. Writing: `target`, where exactly-once is explained.

mod sink;
mod target;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use laminar_core::connector::{Connector, MetadataColumn, Role, SinkContext, SourceContext, TestStage};
use laminar_core::format::Decoder;
use laminar_core::sink::{Delivery, Sink};
use laminar_core::source::{Source, SourceReader, SplitStart};
use laminar_core::table::TableSpec;
use laminar_core::time::SharedClock;
use laminar_core::{Code, Error, Options, Position, Result, SplitId};
use laminar_formats::FormatOptions;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;

use crate::batch::BatchOptions;
use crate::declared::{Declared, NoOptions, read_sink, read_source, schema};
use crate::files::line_encoder::check_lines;
use crate::files::lines::{EmptyLines, FileSplit, LinesReader, length};
use crate::files::{self, FilesAccess, blocking, file_error};
use crate::staged::{Stages, delivery};
use target::Targets;

const SUBJECT: &str = "connector single_file";

/// Options of `single_file`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct FileOptions {
    /// Path of the file, one record a line. A source reads it once and ends; a sink creates it, or appends to it, and keeps
    /// what it has committed in a second file of the same name with `.laminar` added.
    path: String,
}

/// See the module.
#[derive(Debug, Default)]
pub struct SingleFileConnector {
    access: FilesAccess,
    targets: Targets,
}

impl SingleFileConnector {
    pub fn new(access: FilesAccess) -> Self {
        Self { access, targets: Targets::default() }
    }

    fn path(&self, options: &FileOptions) -> Result<PathBuf> {
        self.access.resolve("path", &options.path)
    }
}

#[async_trait]
impl Connector for SingleFileConnector {
    fn name(&self) -> &'static str {
        "single_file"
    }
    fn description(&self) -> &'static str {
        "Reads the lines of one file, or appends rows to one file as lines."
    }
    fn source_schema(&self) -> Option<serde_json::Value> {
        Some(schema([schema_for!(FileOptions), schema_for!(FormatOptions), schema_for!(BatchOptions)]))
    }
    fn sink_schema(&self) -> Option<serde_json::Value> {
        Some(schema([schema_for!(FileOptions), schema_for!(FormatOptions)]))
    }
    fn sink_delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }
    fn metadata_columns(&self) -> &'static [MetadataColumn] {
        files::METADATA
    }

    fn check_connection(&self, options: &Options) -> Result<()> {
        let declared =
            Declared::new(SUBJECT, options).with::<FileOptions>().with::<FormatOptions>().with::<BatchOptions>();
        declared.check()?;
        declared.check_given::<FormatOptions>()?;
        BatchOptions::of(options)?;
        options.get("path").map_or(Ok(()), |path| self.access.resolve("path", path).map(|_| ()))
    }

    fn check_table(&self, role: Role, options: &Options, table: &TableSpec) -> Result<()> {
        let (own, format) = match role {
            Role::Source => read_source::<FileOptions, NoOptions>(SUBJECT, options)?,
            Role::Sink => read_sink::<FileOptions, NoOptions>(SUBJECT, options)?,
        };
        self.path(&own)?;
        check_lines(&format)?;
        format.check(table)
    }

    async fn check_outside(&self, role: Role, options: &Options) -> Result<()> {
        let own: FileOptions = Declared::new(SUBJECT, options).read()?;
        let path = self.path(&own)?;
        blocking(move || match role {
            Role::Source => length(&path).map(|_| ()),
            Role::Sink => check_writable(&path),
        })
        .await
        .map_err(|error| error.with_field("path"))
    }

    async fn test(&self, options: &Options) -> Vec<TestStage> {
        let mut stages = Stages::default();
        let understood = stages.add("options", self.check_connection(options), "the options are understood");
        if understood && options.get("path").is_some() {
            match self.check_outside(Role::Source, options).await {
                Ok(()) => stages.add("read", Ok(()), "the file can be read"),
                Err(_) => stages.add("write", self.check_outside(Role::Sink, options).await, "the file can be created"),
            };
        }
        stages.done()
    }

    fn source(&self, options: &Options, table: &TableSpec, ctx: &SourceContext) -> Result<Arc<dyn Source>> {
        self.check_table(Role::Source, options, table)?;
        let (own, format) = read_source::<FileOptions, NoOptions>(SUBJECT, options)?;
        let path = self.path(&own)?;
        Ok(Arc::new(FileSource { path, format, table: table.clone(), clock: ctx.clock.clone() }))
    }

    fn sink(&self, options: &Options, table: &TableSpec, ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        self.check_table(Role::Sink, options, table)?;
        let (own, format) = read_sink::<FileOptions, NoOptions>(SUBJECT, options)?;
        let target = self.targets.of(&self.path(&own)?, &ctx.pipeline);
        Ok(Arc::new(sink::FileSink::new(target, format, table.clone(), delivery(ctx))))
    }
}

/// Whether the file exists and can be written, or could be created.
fn check_writable(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(file_error(path, "write", "it is a folder"));
    }
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let metadata = std::fs::metadata(folder).map_err(|e| file_error(folder, "write to", e))?;
    if !metadata.is_dir() || metadata.permissions().readonly() {
        return Err(file_error(folder, "write to", "it is not a folder that can be written to"));
    }
    Ok(())
}

struct FileSource {
    path: PathBuf,
    format: FormatOptions,
    table: TableSpec,
    clock: SharedClock,
}

impl FileSource {
    fn split(&self) -> SplitId {
        SplitId::new(self.path.to_string_lossy())
    }
}

#[async_trait]
impl Source for FileSource {
    async fn discover(&self) -> Result<Vec<SplitId>> {
        let path = self.path.clone();
        blocking(move || length(&path)).await?;
        Ok(vec![self.split()])
    }

    async fn open(&self, splits: Vec<SplitStart>) -> Result<Box<dyn SourceReader>> {
        let mut files = Vec::new();
        for start in splits {
            if start.split != self.split() {
                let message =
                    format!("the checkpoint has read {}, the table names {}", start.split, self.path.display());
                return Err(Error::new(Code::CheckpointMismatch, message));
            }
            let position = start.at.or_zero().0;
            files.push(FileSplit { split: start.split, path: self.path.clone(), position });
        }
        Ok(Box::new(LinesReader::new(files, empty_lines(&self.format, &self.table), self.clock.clone())))
    }

    fn can_pause(&self) -> bool {
        true
    }

    fn decoder(&self) -> Result<Option<Box<dyn Decoder>>> {
        laminar_formats::decoder(&self.format, &self.table).map(Some)
    }

    fn yields_changes(&self) -> bool {
        self.format.yields_changes()
    }

    async fn ends(&self, splits: &[SplitId]) -> Result<Vec<Option<Position>>> {
        let path = self.path.clone();
        let end = Position(blocking(move || length(&path)).await?);
        Ok(splits.iter().map(|_| Some(end)).collect())
    }
}

/// Blank lines are layout in JSON and CSV, and records in raw text.
pub(crate) fn empty_lines(format: &FormatOptions, table: &TableSpec) -> EmptyLines {
    if format.has_blank_lines(table) { EmptyLines::Skip } else { EmptyLines::Keep }
}
