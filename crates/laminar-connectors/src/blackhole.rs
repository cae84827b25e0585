//! A sink that counts rows and forgets them: for measuring all that comes before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use laminar_core::connector::{Connector, Role, SinkContext, SourceContext, TestStage};
use laminar_core::sink::{ChangeSupport, Committer, Delivery, Sink, SinkWriter};
use laminar_core::source::Source;
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Epoch, Options, Result, TaskId};
use schemars::schema_for;

use crate::declared::{Declared, NoOptions, schema};
use crate::staged::{Stages, no_source, only_at_least_once};

/// See the module. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct BlackholeConnector {
    rows: Arc<AtomicU64>,
}

impl BlackholeConnector {
    /// Rows that all its sinks have taken so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Connector for BlackholeConnector {
    fn name(&self) -> &'static str {
        "blackhole"
    }
    fn description(&self) -> &'static str {
        "Takes rows and forgets them."
    }
    fn source_schema(&self) -> Option<serde_json::Value> {
        None
    }
    fn sink_schema(&self) -> Option<serde_json::Value> {
        Some(schema([schema_for!(NoOptions)]))
    }
    fn check_connection(&self, options: &Options) -> Result<()> {
        Declared::new("connector blackhole", options).with::<NoOptions>().check()
    }
    fn check_table(&self, role: Role, options: &Options, _: &TableSpec) -> Result<()> {
        if role == Role::Sink { self.check_connection(options) } else { Err(no_source("blackhole")) }
    }
    async fn test(&self, options: &Options) -> Vec<TestStage> {
        let mut stages = Stages::default();
        stages.add("options", self.check_connection(options), "the options are understood");
        stages.done()
    }
    fn source(&self, _: &Options, _: &TableSpec, _: &SourceContext) -> Result<Arc<dyn Source>> {
        Err(no_source("blackhole"))
    }
    fn sink(&self, options: &Options, table: &TableSpec, ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        self.check_table(Role::Sink, options, table)?;
        only_at_least_once("blackhole", ctx)?;
        Ok(Arc::new(BlackholeSink { rows: self.rows.clone() }))
    }
}

struct BlackholeSink {
    rows: Arc<AtomicU64>,
}

#[async_trait]
impl Sink for BlackholeSink {
    async fn open(&self, _task: &TaskId) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(BlackholeWriter { rows: self.rows.clone() }))
    }
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }
    fn changes(&self) -> ChangeSupport {
        ChangeSupport::Changes
    }
    fn committer(&self) -> Option<Arc<dyn Committer>> {
        None
    }
}

struct BlackholeWriter {
    rows: Arc<AtomicU64>,
}

#[async_trait]
impl SinkWriter for BlackholeWriter {
    async fn write(&mut self, changes: &Changes) -> Result<()> {
        self.rows.fetch_add(changes.num_rows() as u64, Ordering::Relaxed);
        Ok(())
    }
    async fn flush(&mut self, _epoch: Epoch) -> Result<()> {
        Ok(())
    }
}
