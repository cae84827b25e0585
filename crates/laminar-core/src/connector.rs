//! How a connector presents itself to the planner, the REST API and the reference pages.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::sink::{Delivery, Sink};
use crate::source::Source;
use crate::table::TableSpec;
use crate::time::SharedClock;
use crate::{Code, Error, PipelineId, Result};

/// One kind of outside system. `options` are those of the connection and the table, merged (the table's win), secrets
/// and environment already substituted.
#[async_trait]
pub trait Connector: Send + Sync {
    /// As written after `TO` and in `connector = '…'`.
    fn name(&self) -> &'static str;
    /// One sentence for people.
    fn description(&self) -> &'static str;
    /// JSON schema of the options of a source; `None` if it cannot be one. Made from the options struct.
    fn source_schema(&self) -> Option<serde_json::Value>;
    /// JSON schema of the options of a sink; `None` if it cannot be one.
    fn sink_schema(&self) -> Option<serde_json::Value>;
    /// The most that its sinks promise.
    fn sink_delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }
    /// Metadata that a column can be filled from.
    fn metadata_columns(&self) -> &'static [MetadataColumn] {
        &[]
    }
    /// Checks the options of a `CREATE CONNECTION`, which may be incomplete for a table: every one that is given is known
    /// and well-formed. No I/O.
    fn check_connection(&self, options: &Options) -> Result<()>;
    /// Checks a table's merged options without I/O.
    fn check_table(&self, role: Role, options: &Options, table: &TableSpec) -> Result<()>;
    /// Can the outside system be reached, and does it have what the options name? Called at CREATE TABLE.
    async fn check_outside(&self, _role: Role, _options: &Options) -> Result<()> {
        Ok(())
    }
    /// Reaches out step by step; the last stage may have failed, and then no later one is listed.
    async fn test(&self, options: &Options) -> Vec<TestStage>;

    fn source(&self, options: &Options, table: &TableSpec, ctx: &SourceContext) -> Result<Arc<dyn Source>>;
    fn sink(&self, options: &Options, table: &TableSpec, ctx: &SinkContext) -> Result<Arc<dyn Sink>>;

    /// Checks without I/O that [`Connector::dead_letters`] can be called with this.
    fn check_dead_letters(&self, _of: &DeadLettersOf<'_>) -> Result<()> {
        Err(Error::new(Code::NotSupported, format!("connector {} cannot keep dead letters", self.name()))
            .with_hint("bad_data = 'skip' counts such records and leaves them out, 'fail' stops at the first"))
    }

    /// Where a source table's records go that cannot be used: a sink of the rows that [`crate::dead_letter`] describes. Called
    /// after the pipeline's sinks are made: it joins their transaction where that is in the same place.
    fn dead_letters(&self, of: &DeadLettersOf<'_>, _ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        self.check_dead_letters(of)?;
        Err(Error::internal(format!("connector {} has no sink of dead letters", self.name())))
    }

    /// A sink that puts letters back: each becomes the record that it was, in its own topic, with a header that says so.
    fn replay(&self, of: &DeadLettersOf<'_>, _ctx: &SinkContext) -> Result<Arc<dyn Sink>> {
        self.check_dead_letters(of)?;
        Err(Error::new(Code::NotSupported, format!("connector {} cannot put dead letters back", self.name())))
    }

    /// A source of the letters themselves, to look at them: records with the headers that [`crate::dead_letter`] names. It has no
    /// decoder for them. `None`: they cannot be looked at.
    fn dead_letter_source(&self, _of: &DeadLettersOf<'_>, _ctx: &SourceContext) -> Result<Option<Arc<dyn Source>>> {
        Ok(None)
    }
}

/// A source table whose bad records are kept.
#[derive(Clone, Copy, Debug)]
pub struct DeadLettersOf<'a> {
    /// The source's, as for [`Connector::source`].
    pub options: &'a Options,
    pub table: &'a TableSpec,
    /// What the table's option `dlq_topic` says.
    pub destination: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Source,
    Sink,
}

/// What a source needs to know of the pipeline that reads it.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// `None` for a preview: it leaves no trace outside (no group offsets).
    pub pipeline: Option<PipelineId>,
    pub clock: SharedClock,
}

/// What a sink needs to know of the pipeline that writes to it.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// Names this installation, so that two on one cluster do not fence each other.
    pub instance: String,
    pub pipeline: PipelineId,
    /// What the pipeline asks for; `None`: the best the sink can do.
    pub delivery: Option<Delivery>,
    pub checkpoint_interval: Duration,
    pub clock: SharedClock,
}

/// A value that comes with each record besides its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataColumn {
    /// As in `METADATA FROM 'key'`.
    pub key: &'static str,
    /// The column name that gets it when `include_metadata` is set.
    pub column: &'static str,
    /// SQL type.
    pub sql_type: &'static str,
    pub description: &'static str,
}

/// One step of a connection test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestStage {
    /// `options`, `dns`, `tcp`, `tls`, `sasl`, `metadata`, `topic`, `read`, `write`, `transactions`.
    pub stage: String,
    pub ok: bool,
    pub message: String,
}
