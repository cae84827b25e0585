//! What the system says about connections, tables and connectors, and what REST asks for to make them.
//!
//! The same objects as `CREATE CONNECTION` and `CREATE TABLE` make. Times are RFC 3339 texts here, as these resources'
//! pages have them. A secret never appears: a value that holds one shows the reference (`${secret:name}`) or `****`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A connection ("connection profile").
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectionInfo {
    pub id: String,
    pub name: String,
    pub connector: String,
    pub description: Option<String>,
    /// Options as written, secrets masked.
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
    pub created_at: String,
    pub updated_at: String,
    /// Tables that use it, by name.
    pub tables: Vec<String>,
}

/// What `POST /connection_profiles` and its `/test` ask for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConnection {
    /// May be absent for a test.
    #[serde(default)]
    pub name: Option<String>,
    pub connector: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
}

/// A table ("connection table").
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TableInfo {
    pub id: String,
    pub name: String,
    pub connector: String,
    /// Name of its connection, if it has one.
    pub connection: Option<String>,
    pub connection_profile_id: Option<String>,
    /// `source`, `sink`, or `source_sink` when it can be both.
    pub table_type: String,
    pub schema: TableSchemaInfo,
    /// Options as written, secrets masked.
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
    pub event_time_field: Option<String>,
    pub watermark_delay: Option<String>,
    pub created_at: String,
    pub updated_at: String,
    /// Pipelines and views that use it, by name.
    pub used_by: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSchemaInfo {
    #[serde(default)]
    pub fields: Vec<FieldInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldInfo {
    pub name: String,
    /// SQL type.
    #[serde(alias = "dataType", alias = "type")]
    pub data_type: String,
    #[serde(default = "yes")]
    pub nullable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The metadata key it is filled from, such as `offset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

fn yes() -> bool {
    true
}

/// What `POST /connection_tables` and its `/test` ask for.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTable {
    /// May be absent for a test.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub connector: Option<String>,
    /// Id or name of a connection.
    #[serde(default, alias = "connectionProfileId")]
    pub connection_profile_id: Option<String>,
    /// `source` or `sink`; both if absent and the connector can.
    #[serde(default, alias = "tableType")]
    pub table_type: Option<String>,
    #[serde(default)]
    pub schema: TableSchemaInfo,
    #[serde(default)]
    #[schema(value_type = Object)]
    pub config: Map<String, Value>,
    #[serde(default, alias = "eventTimeField")]
    pub event_time_field: Option<String>,
    #[serde(default, alias = "watermarkDelay")]
    pub watermark_delay: Option<String>,
}

/// Answer of the tests of a connection or table.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TestResult {
    pub success: bool,
    /// The first stage that failed, or that all is well.
    pub message: String,
    /// Step by step; none follows one that failed.
    pub stages: Vec<StageInfo>,
    pub details: TestDetails,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StageInfo {
    pub stage: String,
    pub ok: bool,
    pub message: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct TestDetails {
    pub latency_ms: u64,
}

/// One kind of outside system that can be connected.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectorInfo {
    pub id: String,
    pub name: String,
    pub description: String,
    /// `messaging`, `files`, `generator` or `debugging`.
    pub category: String,
    /// `source`, `sink` or both.
    #[serde(rename = "type")]
    pub roles: Vec<String>,
    pub version: String,
    pub features: BTreeMap<String, bool>,
    pub supported_formats: Vec<String>,
    pub metadata_columns: Vec<MetadataColumnInfo>,
    pub configuration_schema: ConfigurationSchemas,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MetadataColumnInfo {
    pub key: String,
    pub column: String,
    pub data_type: String,
    pub description: String,
}

/// JSON schemas of the options.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationSchemas {
    #[schema(value_type = Option<Object>)]
    pub source: Option<Value>,
    #[schema(value_type = Option<Object>)]
    pub sink: Option<Value>,
}
