//! A folder of files of lines: all of its files read once, or rows written as ever new files.
//!
//! Names that begin with `.` or `_` are not data: `_laminar` is where a sink keeps what is not published yet.
//! Reading: `files::lines`, the files found by `listing`. Writing: `target`, where exactly-once is explained.

mod listing;
mod options;
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
use laminar_core::{Options, Position, Result, SplitId};
use laminar_formats::FormatOptions;
use schemars::schema_for;

use crate::batch::BatchOptions;
use crate::declared::{Declared, read_sink, read_source, schema};
use crate::files::line_encoder::check_lines;
use crate::files::lines::{FileSplit, LinesReader, length};
use crate::files::{self, FilesAccess, blocking, file_error};
use crate::single_file::empty_lines;
use crate::staged::{Stages, delivery};
use listing::Listing;
use options::{SinkOptions, SourceOptions};
use target::Targets;

const SUBJECT: &str = "connector filesystem";

/// See the module.
#[derive(Debug, Default)]
pub struct FilesystemConnector {
    access: FilesAccess,
    targets: Targets,
}

impl FilesystemConnector {
    pub fn new(access: FilesAccess) -> Self {
        Self { access, targets: Targets::default() }
    }

    fn source_options(&self, options: &Options) -> Result<(Listing, FormatOptions)> {
        let (own, format) = read_source::<SourceOptions, SinkOptions>(SUBJECT, options)?;
        check_lines(&format)?;
        let folder = self.access.resolve("path", &own.path)?;
        Ok((Listing::new(folder, own.pattern.as_deref(), own.recursive)?, format))
    }

    fn sink_options(&self, options: &Options) -> Result<(PathBuf, SinkOptions, FormatOptions)> {
        let (own, format) = read_sink::<SinkOptions, SourceOptions>(SUBJECT, options)?;
        own.check()?;
        check_lines(&format)?;
        Ok((self.access.resolve("path", &own.path)?, own, format))
    }
}

#[async_trait]
impl Connector for FilesystemConnector {
    fn name(&self) -> &'static str {
        "filesystem"
    }
    fn description(&self) -> &'static str {
        "Reads the files of a folder line by line, or writes rows as files of lines."
    }
    fn source_schema(&self) -> Option<serde_json::Value> {
        Some(schema([schema_for!(SourceOptions), schema_for!(FormatOptions), schema_for!(BatchOptions)]))
    }
    fn sink_schema(&self) -> Option<serde_json::Value> {
        Some(schema([schema_for!(SinkOptions), schema_for!(FormatOptions)]))
    }
    fn sink_delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }
    fn metadata_columns(&self) -> &'static [MetadataColumn] {
        files::METADATA
    }

    fn check_connection(&self, options: &Options) -> Result<()> {
        let declared = Declared::new(SUBJECT, options).with::<SourceOptions>().with::<SinkOptions>();
        let declared = declared.with::<FormatOptions>().with::<BatchOptions>();
        declared.check()?;
        declared.check_given::<SourceOptions>()?;
        declared.check_given::<SinkOptions>()?;
        declared.check_given::<FormatOptions>()?;
        BatchOptions::of(options)?;
        options.get("path").map_or(Ok(()), |path| self.access.resolve("path", path).map(|_| ()))
    }

    fn check_table(&self, role: Role, options: &Options, table: &TableSpec) -> Result<()> {
        match role {
            Role::Source => self.source_options(options)?.1.check(table),
            Role::Sink => self.sink_options(options)?.2.check(table),
        }
    }

    async fn check_outside(&self, role: Role, options: &Options) -> Result<()> {
        let path = options.get("path").unwrap_or_default();
        let folder = self.access.resolve("path", path)?;
        blocking(move || match role {
            Role::Source => std::fs::read_dir(&folder).map(|_| ()).map_err(|e| file_error(&folder, "read folder", e)),
            Role::Sink => check_creatable(&folder),
        })
        .await
        .map_err(|error| error.with_field("path"))
    }

    async fn test(&self, options: &Options) -> Vec<TestStage> {
        let mut stages = Stages::default();
        let understood = stages.add("options", self.check_connection(options), "the options are understood");
        if understood && options.get("path").is_some() {
            match self.check_outside(Role::Source, options).await {
                Ok(()) => stages.add("read", Ok(()), "the folder can be read"),
                Err(_) => {
                    stages.add("write", self.check_outside(Role::Sink, options).await, "the folder can be created")
                }
            };
        }
        stages.done()
    }

    fn source(&self, options: &Options, table: &TableSpec, ctx: &SourceContext) -> Result<Arc<dyn Source>> {
        let (listing, format) = self.source_options(options)?;
        format.check(table)?;
        Ok(Arc::new(FolderSource { listing, format, table: table.clone(), clock: ctx.clock.clone() }))
    }

    fn sink(&self, options: &Options, table: &TableSpec, ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        let (folder, own, format) = self.sink_options(options)?;
        format.check(table)?;
        let target = self.targets.of(&folder, &ctx.pipeline, &format);
        Ok(Arc::new(sink::FolderSink::new(target, own.rolling(), format, table.clone(), delivery(ctx))))
    }
}

/// Whether the folder is there, or the nearest one above it that is can hold it.
fn check_creatable(folder: &Path) -> Result<()> {
    let existing = folder.ancestors().find(|f| f.exists()).unwrap_or(Path::new("."));
    let metadata = std::fs::metadata(existing).map_err(|e| file_error(existing, "write to", e))?;
    if !metadata.is_dir() || metadata.permissions().readonly() {
        return Err(file_error(existing, "write to", "it is not a folder that can be written to"));
    }
    Ok(())
}

struct FolderSource {
    listing: Listing,
    format: FormatOptions,
    table: TableSpec,
    clock: SharedClock,
}

#[async_trait]
impl Source for FolderSource {
    async fn discover(&self) -> Result<Vec<SplitId>> {
        let listing = self.listing.clone();
        blocking(move || listing.files()).await
    }

    async fn open(&self, splits: Vec<SplitStart>) -> Result<Box<dyn SourceReader>> {
        let file = |start: SplitStart| {
            let path = self.listing.path_of(&start.split)?;
            Ok(FileSplit { split: start.split, path, position: start.at.or_zero().0 })
        };
        let files = splits.into_iter().map(file).collect::<Result<_>>()?;
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
        let paths = splits.iter().map(|split| self.listing.path_of(split)).collect::<Result<Vec<_>>>()?;
        blocking(move || paths.iter().map(|path| Ok(Some(Position(length(path)?)))).collect()).await
    }
}
