//! The message brokers behind connections: what they tell of themselves, and the few things that are changed there.
//!
//! The rule that must stay true: one that does not answer costs [`PATIENCE`] and an error, never more.

use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use laminar_core::cluster::{NewTopic, ResetTo, SharedClusterAdmin};
use laminar_core::{Code, Error, Result};
use laminar_planner::statement::{Name, ObjectKind};

use crate::{GroupOffsetInfo, NewTopicInfo, ResetInfo, ResetOffsets, System};

/// Longest wait for one cluster's answer.
const PATIENCE: Duration = Duration::from_secs(9);

impl System {
    /// The cluster of a connection, by id or name. Errors: `unknown_connection`, `wrong_object_kind`.
    fn cluster(&self, connection: &str) -> Result<SharedClusterAdmin> {
        let catalog = self.catalog();
        let found = catalog.object(ObjectKind::Connection, connection);
        let def = found.and_then(|(object, _)| catalog.snapshot.connections.get(&object.name));
        let Some(def) = def else { return Err(catalog.unknown(ObjectKind::Connection, &Name::new(connection))) };
        self.planner.cluster(def, &self.values(&catalog))?.ok_or_else(|| {
            let what = format!("connection {} is of connector {}, which has no broker to ask", def.name, def.connector);
            Error::new(Code::WrongObjectKind, what).with_hint("name a connection to kafka")
        })
    }

    /// Asks the cluster of every connection, or of the one named, at once; by name of the connection.
    pub(crate) async fn ask_clusters<T, F>(
        &self,
        only: Option<&str>,
        ask: impl Fn(SharedClusterAdmin) -> F,
    ) -> Vec<(String, Result<T>)>
    where
        F: Future<Output = Result<T>>,
    {
        let catalog = self.catalog();
        let values = self.values(&catalog);
        let mut asked = Vec::new();
        for def in catalog.snapshot.connections.values().filter(|def| only.is_none_or(|name| name == def.name)) {
            let answer = match self.planner.cluster(def, &values) {
                Ok(None) => continue,
                Ok(Some(cluster)) => Ok(in_time(ask(cluster))),
                Err(error) => Err(error),
            };
            asked.push(async move {
                let answer = match answer {
                    Ok(answer) => answer.await,
                    Err(error) => Err(error),
                };
                (def.name.clone(), answer)
            });
        }
        join_all(asked).await
    }

    /// Moves a consumer group.
    ///
    /// Errors: `unknown_connection`, `wrong_state` while the group has members, `unknown_topic`, `invalid_request`.
    pub async fn reset_offsets(&self, connection: &str, group: &str, reset: ResetOffsets) -> Result<ResetInfo> {
        let to = place(&reset)?;
        let cluster = self.cluster(connection)?;
        let moved = changed_in_time(cluster.reset_offsets(group, reset.topic.as_deref(), to)).await?;
        let offset = |o: laminar_core::cluster::GroupOffset| GroupOffsetInfo {
            lag: o.lag(),
            topic: o.topic,
            partition: o.partition,
            committed_offset: o.committed,
        };
        Ok(ResetInfo { group: group.to_string(), offsets: moved.into_iter().map(offset).collect() })
    }

    /// Errors: `unknown_connection`, `duplicate_name`, `invalid_option`.
    pub async fn create_topic(&self, connection: &str, new: NewTopicInfo) -> Result<()> {
        let cluster = self.cluster(connection)?;
        let topic = NewTopic {
            name: new.name,
            partitions: new.partitions,
            replication_factor: new.replication_factor,
            config: new.config.into_iter().collect(),
        };
        changed_in_time(cluster.create_topic(&topic)).await
    }
}

/// Exactly one of the places must be named.
fn place(reset: &ResetOffsets) -> Result<ResetTo> {
    let timestamp = reset.to_timestamp.as_deref().map(|text| {
        let millis = text.trim().parse().ok().filter(|millis: &i64| *millis >= 0);
        let read = || chrono::DateTime::parse_from_rfc3339(text.trim()).ok().map(|time| time.timestamp_millis());
        millis.or_else(read).map(ResetTo::Timestamp).ok_or_else(|| {
            Error::new(Code::InvalidRequest, format!("{text} is no time"))
                .with_detail("expected RFC 3339 such as 2024-01-01T00:00:00Z, or milliseconds since 1970")
                .with_field("to_timestamp")
        })
    });
    let named = [
        reset.to_earliest.then_some(Ok(ResetTo::Earliest)),
        reset.to_latest.then_some(Ok(ResetTo::Latest)),
        timestamp,
        reset.to_offset.map(|offset| Ok(ResetTo::Offset(offset))),
    ];
    let mut named = named.into_iter().flatten();
    match (named.next(), named.next()) {
        (Some(place), None) => place,
        _ => Err(Error::new(Code::InvalidRequest, "where the group goes is not said, or more than once")
            .with_hint("give one of to_earliest, to_latest, to_timestamp and to_offset")),
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(Code::Timeout, format!("the cluster did not answer within {} s", PATIENCE.as_secs()))),
    }
}

/// For what changes something there: it is not called back when the wait is over.
async fn changed_in_time<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    in_time(answer).await.map_err(|error| match error.code() {
        Code::Timeout => error.with_detail("it may be done all the same: look before you try again"),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_is_named() {
        let check =
            |reset: ResetOffsets, expected: Option<ResetTo>| assert_eq!(place(&reset).ok(), expected, "{reset:?}");
        let none = ResetOffsets::default;
        check(none(), None);
        check(ResetOffsets { to_earliest: true, ..none() }, Some(ResetTo::Earliest));
        check(ResetOffsets { to_earliest: true, to_latest: true, ..none() }, None);
        check(ResetOffsets { to_offset: Some(7), ..none() }, Some(ResetTo::Offset(7)));
        let at = |text: &str| ResetOffsets { to_timestamp: Some(text.into()), ..none() };
        check(at("2024-01-01T00:00:00Z"), Some(ResetTo::Timestamp(1_704_067_200_000)));
        check(at("1704067200000"), Some(ResetTo::Timestamp(1_704_067_200_000)));
        check(at("noon"), None);
    }
}
