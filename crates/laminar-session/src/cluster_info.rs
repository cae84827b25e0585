//! What REST takes and gives about the message brokers behind connections.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a consumer group goes: one of `to_earliest`, `to_latest`, `to_timestamp` and `to_offset`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetOffsets {
    /// Only in this topic; else in every one in which the group has committed.
    #[serde(default)]
    pub topic: Option<String>,
    /// To the oldest record that is kept.
    #[serde(default)]
    pub to_earliest: bool,
    /// To the end.
    #[serde(default)]
    pub to_latest: bool,
    /// To the first record that is not older: RFC 3339, or milliseconds since 1970.
    #[serde(default)]
    pub to_timestamp: Option<String>,
    /// To this offset in each partition, or the nearest that exists.
    #[serde(default)]
    pub to_offset: Option<i64>,
}

/// Where a group stands after it was moved.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ResetInfo {
    pub group: String,
    pub offsets: Vec<GroupOffsetInfo>,
}

/// A partition in which a group stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupOffsetInfo {
    pub topic: String,
    pub partition: i32,
    /// The next record to read.
    pub committed_offset: i64,
    /// Records that it has not read; null if the partition's leader does not say.
    pub lag: Option<i64>,
}

/// A topic to create.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTopicInfo {
    pub name: String,
    /// Absent: what the brokers do by themselves.
    #[serde(default)]
    pub partitions: Option<i32>,
    #[serde(default, alias = "replicationFactor")]
    pub replication_factor: Option<i32>,
    /// Kafka's settings of a topic, such as `retention.ms`.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}
