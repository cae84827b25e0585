//! What is asked of a cluster at CREATE: connection tests and checks of tables.

use laminar_connectors::kafka::KafkaConnector;
use laminar_core::Code;
use laminar_core::connector::{Connector, Role};

use super::support::*;

async fn stages(pairs: &[(&str, &str)]) -> Vec<(String, bool)> {
    let stages = KafkaConnector::new().test(&options(pairs)).await;
    stages.into_iter().map(|s| (s.stage, s.ok)).collect()
}

fn expected(stages: &[(&str, bool)]) -> Vec<(String, bool)> {
    stages.iter().map(|(s, ok)| (s.to_string(), *ok)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_tested_step_by_step() {
    let topic = topic("test", 2).await;
    let passed = [("options", true), ("dns", true), ("tcp", true), ("metadata", true)];
    assert_eq!(stages(&[]).await, expected(&passed));
    let rights = [("topic", true), ("read", true), ("write", true)];
    let both = [&passed[..], &rights, &[("transactions", true), ("sample", true)]].concat();
    assert_eq!(stages(&[("topic", &topic)]).await, expected(&both));
    let source = [&passed[..], &rights, &[("sample", true)]].concat();
    assert_eq!(stages(&[("topic", &topic), ("group_id", "g")]).await, expected(&source));
    let sink = [&passed[..], &rights, &[("transactions", true)]].concat();
    assert_eq!(stages(&[("topic", &topic), ("delivery", "exactly_once")]).await, expected(&sink));
    assert_eq!(stages(&[("topic", &unique("no"))]).await, expected(&[&passed[..], &[("topic", false)]].concat()));
    assert_eq!(stages(&[("auth.type", "sasl")]).await, expected(&[("options", false)]));
    assert_eq!(
        stages(&[("bootstrap_servers", "no-such-host.invalid:9092")]).await,
        expected(&[("options", true), ("dns", false)])
    );
    assert_eq!(
        stages(&[("bootstrap_servers", "127.0.0.1:1")]).await,
        expected(&[("options", true), ("dns", true), ("tcp", false)])
    );
    // The port speaks no TLS.
    let tls = [("security.protocol", "SSL")];
    assert_eq!(stages(&tls).await, expected(&[("options", true), ("dns", true), ("tcp", true), ("tls", false)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_record_is_described_and_not_shown() {
    let topic = topic("test", 2).await;
    let sample = async || {
        let stages = KafkaConnector::new().test(&options(&[("topic", &topic)])).await;
        stages.last().unwrap().message.clone()
    };
    assert_eq!(sample().await, format!("{topic} has no record yet"));
    put(&topic, [Record { key: Some("k1".into()), ..value(1, r#"{"id":1,"card":"4111-1111"}"#) }]);
    let text = "partition 1 offset 0: a key of 2 bytes, a value of 27 bytes: a JSON object of id, card";
    assert_eq!(sample().await, text);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_checked_against_the_cluster() {
    let topic = topic("test", 1).await;
    let check = async |role, pairs: &[(&str, &str)]| {
        KafkaConnector::new().check_outside(role, &options(pairs)).await.map_err(|e| e.code())
    };
    assert_eq!(check(Role::Source, &[("topic", &topic)]).await, Ok(()));
    assert_eq!(check(Role::Sink, &[("topic", &topic)]).await, Ok(()));
    assert_eq!(check(Role::Source, &[("topic", &unique("no"))]).await, Err(Code::UnknownTopic));
    // The broker of the tests creates topics by itself.
    assert_eq!(check(Role::Sink, &[("topic", &unique("no"))]).await, Ok(()));
    let away = [("topic", "t"), ("bootstrap_servers", "127.0.0.1:1")];
    assert_eq!(check(Role::Source, &away).await, Err(Code::Unreachable));
    assert_eq!(check(Role::Sink, &away).await, Err(Code::Unreachable));
}
