//! Rows on standard output, one record a line: for `laminar run` and for looking.
//!
//! At least once: what was printed cannot be taken back.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use laminar_core::connector::{Connector, Role, SinkContext, SourceContext, TestStage};
use laminar_core::format::{EncodedValues, Encoder};
use laminar_core::sink::{ChangeSupport, Committer, Delivery, Sink, SinkWriter};
use laminar_core::source::Source;
use laminar_core::table::TableSpec;
use laminar_core::{Changes, Code, Epoch, Error, Options, Result, TaskId};
use laminar_formats::FormatOptions;
use schemars::schema_for;

use crate::declared::{Declared, NoOptions, read_sink, schema};
use crate::files::blocking;
use crate::files::line_encoder::check_text;
use crate::staged::{Stages, no_source, only_at_least_once};

const SUBJECT: &str = "connector stdout";

/// Where the rows go: all tasks share it, and each writes a whole batch at a time.
type Output = Arc<Mutex<dyn Write + Send>>;

/// See the module.
pub struct StdoutConnector {
    output: Output,
}

impl Default for StdoutConnector {
    fn default() -> Self {
        Self { output: Arc::new(Mutex::new(io::stdout())) }
    }
}

impl StdoutConnector {
    /// Writes somewhere else than to the process's standard output.
    pub fn to(output: impl Write + Send + 'static) -> Self {
        Self { output: Arc::new(Mutex::new(output)) }
    }
}

fn read(options: &Options) -> Result<FormatOptions> {
    let (_, format) = read_sink::<NoOptions, NoOptions>(SUBJECT, options)?;
    check_text(&format)?;
    Ok(format)
}

#[async_trait]
impl Connector for StdoutConnector {
    fn name(&self) -> &'static str {
        "stdout"
    }
    fn description(&self) -> &'static str {
        "Prints rows on the server's standard output."
    }
    fn source_schema(&self) -> Option<serde_json::Value> {
        None
    }
    fn sink_schema(&self) -> Option<serde_json::Value> {
        Some(schema([schema_for!(FormatOptions)]))
    }
    fn check_connection(&self, options: &Options) -> Result<()> {
        let declared = Declared::new(SUBJECT, options).with::<FormatOptions>();
        declared.check()?;
        declared.check_given::<FormatOptions>()
    }
    fn check_table(&self, role: Role, options: &Options, table: &TableSpec) -> Result<()> {
        if role == Role::Source {
            return Err(no_source("stdout"));
        }
        read(options)?.check(table)
    }
    async fn test(&self, options: &Options) -> Vec<TestStage> {
        let mut stages = Stages::default();
        stages.add("options", self.check_connection(options), "the options are understood");
        stages.done()
    }
    fn source(&self, _: &Options, _: &TableSpec, _: &SourceContext) -> Result<Arc<dyn Source>> {
        Err(no_source("stdout"))
    }
    fn sink(&self, options: &Options, table: &TableSpec, ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        self.check_table(Role::Sink, options, table)?;
        only_at_least_once("stdout", ctx)?;
        Ok(Arc::new(StdoutSink { output: self.output.clone(), format: read(options)?, table: table.clone() }))
    }
}

struct StdoutSink {
    output: Output,
    format: FormatOptions,
    table: TableSpec,
}

#[async_trait]
impl Sink for StdoutSink {
    async fn open(&self, _task: &TaskId) -> Result<Box<dyn SinkWriter>> {
        let encoder = laminar_formats::encoder(&self.format, &self.table)?;
        Ok(Box::new(StdoutWriter { output: self.output.clone(), encoder, values: EncodedValues::default() }))
    }
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }
    fn changes(&self) -> ChangeSupport {
        self.format.changes()
    }
    fn committer(&self) -> Option<Arc<dyn Committer>> {
        None
    }
}

struct StdoutWriter {
    output: Output,
    encoder: Box<dyn Encoder>,
    values: EncodedValues,
}

impl StdoutWriter {
    /// A reader that is slow, such as a terminal, must not hold up other tasks' threads.
    async fn with_output(
        &mut self,
        work: impl FnOnce(&mut (dyn Write + Send)) -> io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let output = self.output.clone();
        blocking(move || {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut *output).map_err(|e| {
                Error::new(Code::ConnectorError, "cannot write to standard output").with_detail(e.to_string())
            })
        })
        .await
    }
}

#[async_trait]
impl SinkWriter for StdoutWriter {
    async fn write(&mut self, changes: &Changes) -> Result<()> {
        self.values.clear();
        self.encoder.encode(changes, &mut self.values)?;
        let mut text = Vec::with_capacity(self.values.bytes.len() + self.values.len());
        for value in self.values.iter() {
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.with_output(move |output| output.write_all(&text).and_then(|()| output.flush())).await
    }
    async fn flush(&mut self, _epoch: Epoch) -> Result<()> {
        self.with_output(|output| output.flush()).await
    }
}
