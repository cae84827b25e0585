//! How a connector presents itself to the planner, the REST API and the reference pages.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::cluster::SharedClusterAdmin;
use crate::options::Options;
use crate::sink::{Delivery, Sink};
use crate::source::Source;
use crate::table::{Column, TableSpec};
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
    /// Do its sources leave out the partitions that [`SourceContext::partitions`] excludes?
    fn can_select_partitions(&self) -> bool {
        false
    }
    /// What a column of a sink table can be of a record besides its value: by the column's name, or by `METADATA FROM`.
    fn sink_metadata_columns(&self) -> &'static [MetadataColumn] {
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
    /// The columns of a source table that declares none, from the schema that the outside system keeps of its records; `None`
    /// if it keeps none. Called at CREATE TABLE, which stores what comes.
    async fn outside_columns(&self, _options: &Options) -> Result<Option<Vec<Column>>> {
        Ok(None)
    }
    /// Reaches out step by step; the last stage may have failed, and then no later one is listed.
    async fn test(&self, options: &Options) -> Vec<TestStage>;
    /// The cluster that the options name, to ask about itself; `None` if the outside system is no message broker.
    fn cluster(&self, _options: &Options) -> Result<Option<SharedClusterAdmin>> {
        Ok(None)
    }

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
    /// The partitions whose records the pipeline wants; `None`: all. It filters the rows all the same.
    pub partitions: Option<PartitionSet>,
}

/// Numbers of partitions, of those below a bound: what is above it belongs to the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSet(Vec<bool>);

impl PartitionSet {
    /// Which of the partitions from 0 on belong to it.
    pub fn new(members: Vec<bool>) -> Self {
        Self(members)
    }

    pub fn contains(&self, partition: i32) -> bool {
        usize::try_from(partition).is_ok_and(|at| self.0.get(at).is_none_or(|is_member| *is_member))
    }

    /// What is in one of them.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let members = self.0.len().min(other.0.len());
        Self(self.0.iter().zip(&other.0).take(members).map(|(a, b)| *a || *b).collect())
    }

    pub fn is_everything(&self) -> bool {
        self.0.iter().all(|is_member| *is_member)
    }
}

/// Runs of numbers: `0, 3 to 5`.
impl fmt::Display for PartitionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (at, _) in self.0.iter().enumerate().filter(|(_, is_member)| **is_member) {
            match runs.last_mut() {
                Some((_, end)) if *end + 1 == at => *end = at,
                _ => runs.push((at, at)),
            }
        }
        let (last, bound) = (self.0.len().checked_sub(1), runs.len());
        let shown = runs.iter().take(SHOWN_RUNS).map(|(start, end)| match (start, end) {
            (start, end) if Some(*end) == last => format!("{start} and above"),
            (start, end) if start == end => start.to_string(),
            (start, end) => format!("{start} to {end}"),
        });
        let text: Vec<String> = shown.chain((bound > SHOWN_RUNS).then(|| "…".to_string())).collect();
        f.write_str(if text.is_empty() { "none" } else { "" })?;
        f.write_str(&text.join(", "))
    }
}

/// Of a set that is shown.
const SHOWN_RUNS: usize = 8;

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
    /// `options`, `dns`, `tcp`, `tls`, `sasl`, `metadata`, `topic`, `read`, `write`, `transactions`, `sample`.
    pub stage: String,
    pub ok: bool,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_partitions() {
        let set = |members: &str| PartitionSet::new(members.chars().map(|c| c == 'x').collect());
        let check = |set: &PartitionSet, expected: &str| assert_eq!(set.to_string(), expected);
        check(&set("x...xxx."), "0, 4 to 6");
        check(&set("..xx"), "2 and above");
        check(&set("...."), "none");
        check(&set("x..x").union(&set(".x..")), "0 to 1, 3 and above");
        let first = set("x...");
        assert!(first.contains(0) && !first.contains(3) && !first.contains(-1));
        assert!(first.contains(4), "nothing is known of it");
    }
}
