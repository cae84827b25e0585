//! What a connector to a message broker tells of its cluster, and the few things that can be changed there: for the system
//! tables, the REST API and the command line, none of which knows the broker's client.
//!
//! The rule that must stay true: every call asks the cluster now, and ends within seconds, with an error if need be.

use std::sync::Arc;

use async_trait::async_trait;

use crate::Result;

/// A cluster that answers questions about itself.
///
/// Errors of every call: `unreachable`, `authentication_failed`, `tls_failed`, `timeout`, and `connector_error` for what the
/// cluster refuses.
#[async_trait]
pub trait ClusterAdmin: Send + Sync {
    /// By id.
    async fn brokers(&self) -> Result<Vec<BrokerInfo>>;
    /// By name.
    async fn topics(&self) -> Result<Vec<TopicInfo>>;
    /// Of every topic, by topic and number.
    async fn partitions(&self) -> Result<Vec<PartitionInfo>>;
    /// By name.
    async fn groups(&self) -> Result<Vec<GroupInfo>>;
    /// Moves the group in `topic`, or in every topic in which it has committed; returns where it stands then. Nothing is
    /// changed when one partition's offset cannot be found.
    ///
    /// Errors: `wrong_state` while the group has members; `unknown_topic`.
    async fn reset_offsets(&self, group: &str, topic: Option<&str>, to: ResetTo) -> Result<Vec<GroupOffset>>;
    /// Errors: `duplicate_name`; `invalid_option` for settings that the cluster does not take.
    async fn create_topic(&self, topic: &NewTopic) -> Result<()>;
}

pub type SharedClusterAdmin = Arc<dyn ClusterAdmin>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    pub id: i32,
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub name: String,
    pub partitions: usize,
    /// Of the partition with the fewest replicas.
    pub replication_factor: usize,
    /// Made by the broker for itself.
    pub is_internal: bool,
    /// `delete`, `compact` or both; `None` if we may not ask.
    pub cleanup_policy: Option<String>,
    /// -1: for ever.
    pub retention_ms: Option<i64>,
    /// Of each partition; -1: without limit.
    pub retention_bytes: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    pub topic: String,
    pub partition: i32,
    /// `None` while there is none.
    pub leader: Option<i32>,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
    /// Of the oldest record that is kept; `None` if the leader does not say.
    pub low_watermark: Option<i64>,
    /// Of the record that comes next.
    pub high_watermark: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    pub id: String,
    /// As the broker calls it: `Stable`, `Empty`, `Dead`, …
    pub state: String,
    /// How members share partitions.
    pub protocol: String,
    pub members: Vec<GroupMember>,
    /// What it has committed, by topic and partition.
    pub offsets: Vec<GroupOffset>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    pub id: String,
    pub client_id: String,
    pub host: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    pub topic: String,
    pub partition: i32,
    /// The next record to read.
    pub committed: i64,
    /// Of the record that comes next; `None` if the leader does not say.
    pub end: Option<i64>,
}

impl GroupOffset {
    /// Records that are committed to the topic and not read by the group.
    pub fn lag(&self) -> Option<i64> {
        self.end.map(|end| (end - self.committed).max(0))
    }
}

/// Where a group goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// The oldest record that is kept.
    Earliest,
    /// The end.
    Latest,
    /// The first record that is not older, in milliseconds since 1970; the end if there is none.
    Timestamp(i64),
    /// This offset in each partition, or the nearest that exists.
    Offset(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// `None`: what the brokers do by themselves.
    pub partitions: Option<i32>,
    pub replication_factor: Option<i32>,
    /// `retention.ms` and the like.
    pub config: Vec<(String, String)>,
}
