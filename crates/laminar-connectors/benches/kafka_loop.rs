//! The yardstick for Kafka pipelines: what librdkafka alone costs to move records from one topic to another.
//!
//! ```text
//!  librdkafka's batch consume ─► nothing ─► librdkafka's batch produce        no decoding, no engine, no checkpoint
//! ```
//!
//! Prints rows per CPU second of this process, to be compared with a pipeline that does the same work plus decoding,
//! filtering, encoding and checkpoints: once with whole records written, once with as many bytes of each as a projection
//! would leave. Needs `LAMINAR_TEST_KAFKA`; `ROWS` is the number of records (default 1,000,000),
//! `PARTITIONS` of the two topics (default 4).
#![allow(unsafe_code, clippy::expect_used)]

use std::ffi::CString;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::bindings as c;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

const BATCH: usize = 1000;
/// Bytes of a record, and of its projection to four of its seven columns.
const RECORD: usize = 200;
const PROJECTION: usize = 85;

/// Counts delivery reports.
#[derive(Clone, Default)]
struct Delivered(Arc<AtomicU64>);

impl ClientContext for Delivered {}
impl ProducerContext for Delivered {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "a record was not written");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn main() {
    let bootstrap = std::env::var("LAMINAR_TEST_KAFKA").expect("LAMINAR_TEST_KAFKA is not set: run `make bench`");
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (rows, partitions) = (number("ROWS", 1_000_000), number("PARTITIONS", 4) as i32);
    let run: u32 = rand::random();
    let [input, output, narrow] = ["in", "out", "narrow"].map(|name| format!("bench-{name}-{run:08x}"));
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &bootstrap);
    create_topics(&config, &[&input, &output, &narrow], partitions);
    fill(&config, &input, rows, partitions);
    println!("bare librdkafka loop: {rows} rows of {RECORD} bytes, {partitions} partitions");
    for (output, written) in [(&output, RECORD), (&narrow, PROJECTION)] {
        let (wall, cpu) = copy(&config, &input, output, rows, partitions, written);
        let (rows, ns) = (rows as f64, cpu * 1e9 / rows as f64);
        println!(
            "  {written:>3} bytes written of each: {:>9.0} rows per CPU second, {ns:.0} ns of CPU a row",
            rows / cpu
        );
        println!("  {:>10.0} rows/s, {:.2} CPUs busy", rows / wall, cpu / wall);
    }
}

fn create_topics(config: &ClientConfig, names: &[&str], partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = config.create().expect("client");
    let topics: Vec<_> = names.iter().map(|n| NewTopic::new(n, partitions, TopicReplication::Fixed(1))).collect();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    for result in runtime.block_on(admin.create_topics(&topics, &options)).expect("topics") {
        result.expect("topic");
    }
}

/// Records like Nexmark's bids, 200 bytes each.
fn fill(config: &ClientConfig, topic: &str, rows: u64, partitions: i32) {
    let producer: BaseProducer = config.clone().set("linger.ms", "50").create().expect("producer");
    for i in 0..rows {
        let mut value = format!(
            r#"{{"auction":{},"bidder":{},"price":{},"channel":"channel-{}","url":"https://www.nexmark.com/item/{i:08}","date_time":{},"extra":""#,
            1000 + i % 5000,
            2000 + i % 9973,
            i * 7919 % 200_000,
            i % 100,
            1_700_000_000_000u64 + i / 10,
        );
        while value.len() < RECORD - 2 {
            value.push('x');
        }
        value.push_str("\"}");
        let key = (i % 5000).to_string();
        loop {
            let record = BaseRecord::to(topic).partition((i % partitions as u64) as i32).key(&key).payload(&value);
            if producer.send(record).is_ok() {
                break;
            }
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(Duration::from_secs(120)).expect("flush");
}

/// Copies at most `written` bytes of each record. Wall and CPU seconds.
fn copy(config: &ClientConfig, input: &str, output: &str, rows: u64, partitions: i32, written: usize) -> (f64, f64) {
    let consumer: BaseConsumer<DefaultConsumerContext> = config
        .clone()
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .expect("consumer");
    let delivered = Delivered::default();
    let producer: Arc<BaseProducer<Delivered>> = Arc::new(
        config
            .clone()
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "0")
            .create_with_context(delivered.clone())
            .expect("producer"),
    );
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(input, partition, Offset::Beginning).expect("partition");
    }
    let (start, cpu) = (Instant::now(), cpu_seconds());
    consumer.assign(&list).expect("assign");
    let stop = Arc::new(AtomicBool::new(false));
    let reports = {
        let (producer, stop) = (Arc::clone(&producer), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                producer.poll(Duration::from_millis(100));
            }
        })
    };
    let name = CString::new(output).expect("name");
    // SAFETY: both clients outlive the queue, the topic handle and every message, which are freed below, once each; F_COPY
    // copies keys and values before the call returns.
    unsafe {
        let queue = c::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
        let topic = c::rd_kafka_topic_new(producer.client().native_ptr(), name.as_ptr(), ptr::null_mut());
        let mut messages = vec![ptr::null_mut::<c::rd_kafka_message_t>(); BATCH];
        let mut batch: Vec<c::rd_kafka_message_t> = Vec::with_capacity(BATCH);
        let mut moved = 0;
        while moved < rows {
            let count = c::rd_kafka_consume_batch_queue(queue, 10, messages.as_mut_ptr(), BATCH);
            let taken = &messages[..usize::try_from(count).unwrap_or(0)];
            batch.clear();
            batch.extend(taken.iter().map(|m| {
                let len = (**m).len.min(written);
                c::rd_kafka_message_t { _private: ptr::null_mut(), len, ..**m }
            }));
            let sent =
                c::rd_kafka_produce_batch(topic, -1, c::RD_KAFKA_MSG_F_COPY, batch.as_mut_ptr(), batch.len() as i32);
            assert_eq!(sent as usize, batch.len());
            taken.iter().for_each(|m| c::rd_kafka_message_destroy(*m));
            moved += taken.len() as u64;
            while moved - delivered.0.load(Ordering::Relaxed) > 100_000 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        c::rd_kafka_flush(producer.client().native_ptr(), 60_000);
        c::rd_kafka_topic_destroy(topic);
        c::rd_kafka_queue_destroy(queue);
    }
    assert_eq!(delivered.0.load(Ordering::Relaxed), rows);
    let spent = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    stop.store(true, Ordering::Relaxed);
    reports.join().expect("reports");
    spent
}

/// User and system time of this process so far, from /proc: fields 14 and 15, in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |n: usize| after_name.split_whitespace().nth(n).and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
