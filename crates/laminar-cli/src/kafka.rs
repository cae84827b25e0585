//! `laminar kafka`: looks at, and moves, what is in the Kafka behind a connection, through a running server.
//!
//! Lists are system tables; the two changes are REST requests. Nothing here talks to Kafka.

use std::collections::BTreeMap;

use clap::Subcommand;
use laminar_session::{NewTopicInfo, ResetInfo, ResetOffsets};
use serde::Deserialize;
use serde_json::Value;

use crate::sql::{self, Client, ClientError, Output};
use crate::{Exit, settings};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The server
    #[arg(long, env = settings::API_URL, default_value = "http://127.0.0.1:5115", value_name = "URL", global = true)]
    url: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The consumer groups of a connection's cluster, where they stand and how far behind they are
    ListGroups(ListArgs),
    /// The topics of a connection's cluster
    ListTopics(ListArgs),
    /// Move a consumer group that nobody uses just now
    ///
    /// A pipeline goes on from its own checkpoint, wherever its group stands.
    ResetOffset(ResetArgs),
    /// Create a topic
    CreateTopic(TopicArgs),
}

#[derive(clap::Args, Debug)]
struct ListArgs {
    /// The connection
    #[arg(long, value_name = "NAME")]
    connection: String,
    /// How rows are written
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
}

#[derive(clap::Args, Debug)]
struct ResetArgs {
    /// The connection
    #[arg(long, value_name = "NAME")]
    connection: String,
    /// The consumer group
    #[arg(long, value_name = "NAME")]
    group: String,
    /// Only in this topic; else in every one in which the group stands
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Where the group goes: one of these.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Place {
    /// To the oldest record that is kept
    #[arg(long)]
    to_earliest: bool,
    /// To the end
    #[arg(long)]
    to_latest: bool,
    /// To the first record that is not older: 2024-01-01T00:00:00Z, or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    to_timestamp: Option<String>,
    /// To this offset in each partition, or the nearest that exists
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
}

#[derive(clap::Args, Debug)]
struct TopicArgs {
    /// The connection
    #[arg(long, value_name = "NAME")]
    connection: String,
    /// The topic's name
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Number of partitions [default: the brokers']
    #[arg(long, value_name = "COUNT")]
    partitions: Option<i32>,
    /// Copies of each partition [default: the brokers']
    #[arg(long, value_name = "COUNT")]
    replication_factor: Option<i32>,
    /// A setting of the topic, such as retention.ms=60000; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    config: Vec<(String, String)>,
}

const GROUPS: &str = "SELECT group_id, state, members, topic, partition, committed_offset, end_offset, lag, error \
    FROM system.kafka_consumer_groups";
const TOPICS: &str = "SELECT topic, partitions, replication_factor, cleanup_policy, retention_ms, retention_bytes, error \
    FROM system.kafka_topics";

pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let client = match Client::new(&args.url) {
        Ok(client) => client,
        Err(error) => return Ok(sql::told(&error, None)),
    };
    let done = match args.command {
        Command::ListGroups(list) => return show(&client, args.url, list, GROUPS, "group_id, topic, partition").await,
        Command::ListTopics(list) => return show(&client, args.url, list, TOPICS, "topic").await,
        Command::ResetOffset(reset) => self::reset(&client, reset).await,
        Command::CreateTopic(topic) => create_topic(&client, topic).await,
    };
    match done {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Ok(sql::told(&error, None)),
    }
}

/// Rows of a system table that belong to one connection.
async fn show(client: &Client, url: String, list: ListArgs, query: &str, order: &str) -> anyhow::Result<Exit> {
    // An unknown connection would only have no rows.
    if let Err(error) = client.get::<Value>(&format!("/connection_profiles/{}", path_part(&list.connection))).await {
        return Ok(sql::told(&error, None));
    }
    let name = list.connection.replace('\'', "''");
    sql::run_one(url, format!("{query} WHERE connection = '{name}' ORDER BY {order}"), list.output).await
}

/// What the server answers.
#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

async fn reset(client: &Client, args: ResetArgs) -> Result<(), ClientError> {
    let (connection, group) = (path_part(&args.connection), path_part(&args.group));
    let request = ResetOffsets {
        topic: args.topic,
        to_earliest: args.place.to_earliest,
        to_latest: args.place.to_latest,
        to_timestamp: args.place.to_timestamp,
        to_offset: args.place.to_offset,
    };
    let path = format!("/connection_profiles/{connection}/groups/{group}/reset");
    let Data { data } = client.post::<_, Data<ResetInfo>>(&path, &request).await?;
    for offset in data.offsets {
        let lag = offset.lag.map_or(String::new(), |lag| format!(", {lag} behind the end"));
        println!(
            "{} stands at {}/{} offset {}{lag}",
            data.group, offset.topic, offset.partition, offset.committed_offset
        );
    }
    Ok(())
}

async fn create_topic(client: &Client, args: TopicArgs) -> Result<(), ClientError> {
    let new = NewTopicInfo {
        name: args.topic.clone(),
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        config: args.config.into_iter().collect::<BTreeMap<_, _>>(),
    };
    let path = format!("/connection_profiles/{}/topics", path_part(&args.connection));
    client.post::<_, Value>(&path, &new).await?;
    println!("topic {} is created", args.topic);
    Ok(())
}

fn setting(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_string(), value.to_string())).ok_or_else(|| "expected NAME=VALUE".to_string())
}

/// A name as one part of a path.
fn path_part(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_paths_and_settings_have_two_sides() {
        assert_eq!(path_part("a/b ü.c"), "a%2Fb%20%C3%BC.c");
        assert_eq!(setting("retention.ms=1=2"), Ok(("retention.ms".into(), "1=2".into())));
        assert!(setting("=1").is_err() && setting("x").is_err());
    }
}
