//! What a script can say, after parsing and before any check against the catalogue.
//!
//! Names, option entries and queries keep their place in the script, so that a later check can point at them. Queries and
//! expressions also keep their text: it is what the catalogue stores, and what is parsed again when a pipeline restarts.

use datafusion::sql::sqlparser::ast;
use laminar_core::{Location, Options};
use serde::{Deserialize, Serialize};

use crate::types::SqlType;

/// One statement of a script.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub statement: Statement,
    /// As written, without the `;`, without comments before its first word.
    pub text: String,
    /// Where its first word stands in the script.
    pub start: Location,
}

#[derive(Clone, Debug)]
pub enum Statement {
    CreateSecret(CreateSecret),
    CreateConnection(CreateConnection),
    CreateTable(CreateTable),
    CreateView(CreateView),
    CreatePipeline(CreatePipeline),
    Drop(Drop),
    Show(ShowKind),
    Describe(ObjectName),
    ShowCreate(ObjectName),
    StartPipeline(Name),
    StopPipeline {
        name: Name,
        mode: StopMode,
    },
    RestartPipeline {
        name: Name,
        from: RestartFrom,
    },
    /// One-shot: the rows are written before the statement ends.
    InsertValues(Insert),
    /// A streaming insert outside a pipeline: part of a script that is one pipeline.
    InsertSelect(Insert),
    Query(SqlQuery),
    /// `SELECT test_connection('name')`.
    TestConnection(Name),
    Subscribe(Name),
    ReplayDeadLetters(Replay),
    InferTable(InferTable),
    Explain(Explain),
    Set {
        name: Name,
        value: String,
    },
    ShowSetting(Name),
    ShowAll,
}

/// `REPLAY DLQ pipeline [WHERE condition] [LIMIT n]`: over the columns of `system.dead_letters`.
#[derive(Clone, Debug)]
pub struct Replay {
    pub pipeline: Name,
    pub filter: Option<SqlExpr>,
    pub limit: Option<SqlExpr>,
}

/// `INFER TABLE name FROM CONNECTION connection TOPIC 'topic'`: what CREATE TABLE would read the topic's records.
#[derive(Clone, Debug)]
pub struct InferTable {
    pub name: Name,
    pub connection: Name,
    pub topic: String,
}

/// An identifier as it counts (unquoted ones in lower case), and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub value: String,
    pub location: Option<Location>,
}

impl Name {
    /// A name that does not come from a script.
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), location: None }
    }
    pub fn as_str(&self) -> &str {
        &self.value
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    Secret,
    Connection,
    Table,
    View,
    Pipeline,
}

impl ObjectKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Connection => "connection",
            Self::Table => "table",
            Self::View => "view",
            Self::Pipeline => "pipeline",
        }
    }
}

/// What a CREATE does when the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExisting {
    Fail,
    /// `IF NOT EXISTS`.
    Keep,
    /// `OR REPLACE`.
    Replace,
}

#[derive(Clone, Debug)]
pub struct CreateSecret {
    pub name: Name,
    /// Never shown again; `Parsed::text` of this statement has `'***'` in its place.
    pub value: String,
    pub on_existing: OnExisting,
}

#[derive(Clone, Debug)]
pub struct CreateConnection {
    pub name: Name,
    pub connector: Name,
    pub options: Options,
    pub on_existing: OnExisting,
}

#[derive(Clone, Debug)]
pub struct CreateTable {
    pub name: Name,
    pub columns: Vec<ColumnSyntax>,
    /// Of `PRIMARY KEY (…)` and `PRIMARY KEY` on columns.
    pub primary_key: Vec<Name>,
    pub watermark: Option<WatermarkSyntax>,
    pub options: Options,
    /// `AS SELECT`: the table is a sink, and a pipeline fills it.
    pub query: Option<SqlQuery>,
    pub on_existing: OnExisting,
}

impl CreateTable {
    /// The pipeline of `CREATE TABLE … AS SELECT`.
    pub fn pipeline_body(&self) -> Option<PipelineBody> {
        let query = self.query.clone()?;
        let insert = Insert { table: self.name.clone(), columns: Vec::new(), query };
        Some(PipelineBody { steps: vec![PipelineStep::Insert(insert)] })
    }
}

#[derive(Clone, Debug)]
pub struct ColumnSyntax {
    pub name: Name,
    pub sql_type: SqlType,
    pub nullable: bool,
    pub default: Option<SqlExpr>,
    pub generated: Option<SqlExpr>,
    /// `METADATA FROM 'key'`.
    pub metadata: Option<Name>,
}

#[derive(Clone, Debug)]
pub struct WatermarkSyntax {
    pub column: Name,
    pub expr: Option<SqlExpr>,
}

#[derive(Clone, Debug)]
pub struct CreateView {
    pub name: Name,
    /// Names for the query's columns; empty: the query's own.
    pub columns: Vec<Name>,
    pub query: SqlQuery,
    pub on_existing: OnExisting,
}

#[derive(Clone, Debug)]
pub struct CreatePipeline {
    pub name: Name,
    pub options: Options,
    pub body: PipelineBody,
    pub on_existing: OnExisting,
}

/// What a pipeline computes. Inserts share their sources; a SELECT, if there is one, is the only step.
#[derive(Clone, Debug)]
pub struct PipelineBody {
    pub steps: Vec<PipelineStep>,
}

#[derive(Clone, Debug)]
pub enum PipelineStep {
    Insert(Insert),
    /// Its result is kept as a relation with the pipeline's name.
    Select(SqlQuery),
}

#[derive(Clone, Debug)]
pub struct Insert {
    pub table: Name,
    /// Empty: all columns, in order.
    pub columns: Vec<Name>,
    pub query: SqlQuery,
}

/// A query and its text.
#[derive(Clone, Debug)]
pub struct SqlQuery {
    pub ast: Box<ast::Query>,
    /// With its `EMIT EVERY`.
    pub text: String,
    pub start: Location,
    pub emit: Option<EmitEvery>,
}

/// `EMIT EVERY INTERVAL '1 minute'`, at the end of a query: windows come out while they grow.
#[derive(Clone, Debug)]
pub struct EmitEvery {
    pub interval: SqlExpr,
    pub location: Location,
}

/// An expression and its text.
#[derive(Clone, Debug)]
pub struct SqlExpr {
    pub ast: Box<ast::Expr>,
    pub text: String,
    pub start: Location,
}

#[derive(Clone, Debug)]
pub struct Drop {
    pub kind: ObjectKind,
    pub name: Name,
    pub if_exists: bool,
}

/// `DESCRIBE orders`, `DESCRIBE TABLE orders`, `DESCRIBE system.jobs` (the name of which is `system.jobs`).
#[derive(Clone, Debug)]
pub struct ObjectName {
    /// `None`: the table, view or pipeline of that name.
    pub kind: Option<ObjectKind>,
    pub name: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowKind {
    Secrets,
    Connections,
    Tables,
    Views,
    Pipelines,
    Jobs,
    Connectors,
    Functions,
}

impl ShowKind {
    /// The word behind SHOW of each.
    pub const WORDS: [(&'static str, Self); 8] = [
        ("SECRETS", Self::Secrets),
        ("CONNECTIONS", Self::Connections),
        ("TABLES", Self::Tables),
        ("VIEWS", Self::Views),
        ("PIPELINES", Self::Pipelines),
        ("JOBS", Self::Jobs),
        ("CONNECTORS", Self::Connectors),
        ("FUNCTIONS", Self::Functions),
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Takes a last checkpoint first.
    Checkpoint,
    Immediate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartFrom {
    Latest,
    Checkpoint(u64),
    /// `IGNORING STATE`.
    Nothing,
}

#[derive(Clone, Debug)]
pub struct Explain {
    pub statement: Box<Statement>,
    pub format: ExplainFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainFormat {
    Text,
    /// Also the optimised logical plan.
    Verbose,
    Json,
}
