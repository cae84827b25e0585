//! How long rows take from one topic to another: a paced producer stamps each row, a consumer of the topic that a pipeline
//! writes to reads the stamp.
//!
//! ```text
//!  producer, RATE rows/s, linger 1 ms ─► FROM ─► (the pipeline under test) ─► TO ─► consumer: now − the row's stamp
//! ```
//!
//! `kafka_latency FROM TO RATE SECONDS`: both topics exist and are empty. With FROM and TO the same it measures the broker and librdkafka
//! alone. The stamp is the number behind `"bidder":`, in ns since 1970; rows of the first three seconds are not counted.
//! Prints `p50 1.2 ms, p99 3.4 ms, max 5.6 ms of 150000 rows`. Needs `LAMINAR_TEST_KAFKA`.
#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // a failed benchmark panics; it measures the clock

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

const WARM_UP: Duration = Duration::from_secs(3);
/// How long after the last row was sent the consumer waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows of one key go to one partition, and there are many keys.
const KEYS: u64 = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [from, to, rate, seconds] = arguments.as_slice() else { panic!("kafka_latency FROM TO RATE SECONDS") };
    let (rate, seconds) = (rate.parse().expect("RATE"), seconds.parse().expect("SECONDS"));
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", std::env::var("LAMINAR_TEST_KAFKA").expect("LAMINAR_TEST_KAFKA is not set"));
    let consumer = reading(&config, to);
    let duration = WARM_UP + Duration::from_secs(seconds);
    let rows = rate * duration.as_secs();
    let producing = {
        let (config, from) = (config.clone(), from.clone());
        thread::spawn(move || produce(&config, &from, rate, rows))
    };
    let mut samples = consume(&consumer, rows, duration);
    producing.join().expect("the producer failed");
    samples.sort_unstable();
    assert!(!samples.is_empty(), "no row came through");
    let at = |percent: usize| samples[(samples.len() * percent / 100).min(samples.len() - 1)] as f64 / 1e6;
    println!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms of {} rows", at(50), at(99), at(100), samples.len());
}

fn reading(config: &ClientConfig, topic: &str) -> BaseConsumer {
    let mut config = config.clone();
    config.set("group.id", "bench").set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().expect("consumer");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("metadata");
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("partition");
    }
    consumer.assign(&list).expect("assign");
    consumer
}

fn produce(config: &ClientConfig, topic: &str, rate: u64, rows: u64) {
    // Without a linger each row is a request of its own, and the broker is what is measured.
    let producer: ThreadedProducer<DefaultProducerContext> =
        config.clone().set("linger.ms", "1").create().expect("producer");
    let (began, mut sent) = (Instant::now(), 0);
    while sent < rows {
        let due = rows.min((began.elapsed().as_secs_f64() * rate as f64) as u64);
        while sent < due {
            let stamp = now_nanos();
            let value = format!(
                r#"{{"auction":{sent},"bidder":{stamp},"price":1,"channel":"c","url":"u","date_time":0,"extra":"x"}}"#
            );
            let key = (sent % KEYS).to_string();
            producer.send(BaseRecord::to(topic).key(&key).payload(&value)).map_err(|(e, _)| e).expect("send");
            sent += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    producer.flush(PATIENCE).expect("flush");
}

/// Nanoseconds from stamp to sight of each row after the warm-up.
fn consume(consumer: &BaseConsumer, rows: u64, duration: Duration) -> Vec<u64> {
    let (began, mut seen, mut samples) = (Instant::now(), 0, Vec::new());
    while seen < rows && began.elapsed() < duration + PATIENCE {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.expect("message");
        let now = now_nanos();
        seen += 1;
        if began.elapsed() > WARM_UP {
            samples.push(now.saturating_sub(stamp(message.payload().unwrap_or_default())));
        }
    }
    assert_eq!(seen, rows, "rows are missing");
    samples
}

fn stamp(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("UTF-8");
    let (_, rest) = text.split_once(r#""bidder":"#).expect("a stamp");
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().expect("a number")
}

fn now_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
