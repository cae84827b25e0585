//! The built-in broker: what `laminar dev` reads from and writes to. Needs no Kafka.

use std::sync::Arc;
use std::time::Duration;

use laminar_connectors::kafka::{DevBroker, KafkaConnector};
use laminar_core::connector::{Connector, Role, SinkContext, SourceContext};
use laminar_core::sink::Delivery;
use laminar_core::time::SystemClock;
use laminar_core::{Code, Epoch, Options, PipelineId};

use super::support::{changes, names, reader, table, take, task};

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_in_and_come_out_at_least_once() {
    let broker = DevBroker::start().unwrap();
    broker.create_topic("orders", 3).unwrap();
    broker.create_topic("orders", 3).unwrap();
    assert!(broker.bootstrap_servers().starts_with("127.0.0.1:"), "{}", broker.bootstrap_servers());
    let connector = KafkaConnector::new().with_dev_broker(broker.bootstrap_servers());
    let options = Options::from_pairs([("bootstrap_servers", broker.bootstrap_servers()), ("topic", "orders")]);
    let with = |key: &str, value: &str| options.overridden_by(&Options::from_pairs([(key, value)]));

    connector.check_outside(Role::Sink, &options).await.unwrap();
    connector.check_outside(Role::Source, &options).await.unwrap();
    let ctx = SinkContext {
        instance: "i".into(),
        pipeline: PipelineId::from("p"),
        delivery: None,
        checkpoint_interval: Duration::from_secs(1),
        clock: Arc::new(SystemClock),
    };
    let sink = connector.sink(&with("key_field", "id"), &table(), &ctx).unwrap();
    assert_eq!(sink.delivery(), Delivery::AtLeastOnce);
    let mut writer = sink.open(&task(0)).await.unwrap();
    writer.write(&changes(names(0..5000))).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();

    let ctx = SourceContext { pipeline: Some(PipelineId::from("p")), clock: Arc::new(SystemClock), partitions: None };
    let source = connector.source(&options, &table(), &ctx).unwrap();
    let splits = source.discover().await.unwrap();
    assert_eq!(splits.len(), 3);
    assert!(source.generations(&splits).await.unwrap().is_empty(), "it has no ids of topics");
    let mut reader = reader(&source).await;
    assert_eq!(take(&mut reader, 5000).await.len(), 5000);
    reader.checkpointed(&reader.positions()).await;

    let error = connector.check_table(Role::Sink, &with("delivery", "exactly_once"), &table()).unwrap_err();
    assert_eq!(error.code(), Code::NotSupported);
    let missing = connector.source(&with("topic", "missing"), &table(), &ctx).unwrap();
    assert_eq!(missing.discover().await.unwrap_err().code(), Code::UnknownTopic);
}
