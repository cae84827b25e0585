//! A broker that does not answer for a while: rows wait in bounded memory or on disk, none is lost, none comes twice.
//!
//! The broker is one of these tests' own, because they stop it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use laminar_connectors::kafka::KafkaConnector;
use laminar_core::sink::SinkWriter;
use laminar_core::{Code, Epoch};

use super::support::*;

/// Bytes that the producer may hold in these tests.
const MEMORY: u64 = 256 << 10;
const BATCH: i64 = 200;
const BATCHES: i64 = 100;

/// Batches of 200 rows of about a kilobyte.
fn batch(number: i64) -> laminar_core::Changes {
    changes((number * BATCH..(number + 1) * BATCH).map(|id| (id, format!("{id:01000}"))))
}

fn ids(found: &[Found]) -> Vec<i64> {
    let id = |f: &Found| serde_json::from_str::<serde_json::Value>(f.value.as_deref().unwrap()).unwrap()["id"].as_i64();
    found.iter().filter_map(id).collect()
}

/// Bytes of our files in `dir` that are open and have no name.
fn on_disk(dir: &Path) -> u64 {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    let ours = open.filter(|fd| {
        std::fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(dir) && to.to_string_lossy().ends_with("(deleted)"))
    });
    ours.filter_map(|fd| std::fs::metadata(fd.path()).ok()).map(|file| file.len()).sum()
}

async fn commit(open: &mut Open, epoch: u64) {
    open.writer.flush(Epoch(epoch)).await.unwrap();
    open.committer.commit(&super::transaction::marker(epoch), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_on_disk_while_the_broker_is_away() {
    let broker = OwnBroker::start();
    let dir = tempfile::tempdir().unwrap();
    let mut installation = Installation::new();
    installation.connector = KafkaConnector::new().with_spool_dir(dir.path());
    let memory = (MEMORY / 1024).to_string();
    let pairs = [
        ("bootstrap_servers", broker.address.as_str()),
        ("topic", "out"),
        ("queue.buffering.max.kbytes", memory.as_str()),
        ("buffer.mode", "hybrid"),
        ("buffer.segment_bytes", "1MB"),
    ];
    let sink = installation.sink(&pairs).unwrap();
    let mut open = open_sink(&sink).await;
    open.writer.write(&batch(0)).await.unwrap();
    commit(&mut open, 1).await;

    broker.pause();
    for number in 1..BATCHES {
        open.writer.write(&batch(number)).await.unwrap();
    }
    let waits = on_disk(dir.path());
    let all = (BATCHES - 1) * BATCH * 1000;
    assert!(waits + 2 * MEMORY + (1 << 20) > all as u64, "{waits} bytes on disk of {all}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a crash would leave no file");
    broker.go_on();
    commit(&mut open, 2).await;
    assert_eq!(on_disk(dir.path()), 0);
    assert_eq!(ids(&read_at(&broker.address, "out", "read_committed").await), (0..BATCHES * BATCH).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_disk_the_pipeline_waits_in_bounded_memory() {
    let broker = OwnBroker::start();
    let pairs = [
        ("bootstrap_servers", broker.address.as_str()),
        ("topic", "out"),
        ("buffer.mode", "memory"),
        ("buffer.per_partition_limit", "256KB"),
        ("buffer.memory_overload_protection", "true"),
    ];
    let sink = Installation::new().sink(&pairs).unwrap();
    let mut open = open_sink(&sink).await;
    open.writer.write(&batch(0)).await.unwrap();
    commit(&mut open, 1).await;
    let idle = sink.open(&task(1)).await.unwrap();

    broker.pause();
    let taken = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&taken);
    let mut writer: Box<dyn SinkWriter> = std::mem::replace(&mut open.writer, idle);
    let writing = tokio::spawn(async move {
        for number in 1..BATCHES {
            writer.write(&batch(number)).await.unwrap();
            counts.fetch_add(1, Ordering::SeqCst);
        }
        writer
    });
    // Until no more is taken for a while: a slow machine takes less, never more.
    let mut before = u64::MAX;
    while before != taken.load(Ordering::SeqCst) {
        before = taken.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let bytes = before * BATCH as u64 * 1000;
    assert!(bytes <= MEMORY + BATCH as u64 * 1100, "{bytes} bytes are in memory");
    assert!(!writing.is_finished());
    broker.go_on();
    open.writer = writing.await.unwrap();
    commit(&mut open, 2).await;
    assert_eq!(ids(&read_at(&broker.address, "out", "read_committed").await), (0..BATCHES * BATCH).collect::<Vec<_>>());
}

/// A row that names a topic which is not open yet is no reason to fail while others wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_topic_that_is_not_open_waits_too() {
    let broker = OwnBroker::start();
    let dir = tempfile::tempdir().unwrap();
    let mut installation = Installation::new();
    installation.connector = KafkaConnector::new().with_spool_dir(dir.path());
    let pairs = [
        ("bootstrap_servers", broker.address.as_str()),
        ("topic_field", "name"),
        ("buffer.mode", "disk"),
        ("delivery", "at_least_once"),
    ];
    let mut writer = installation.sink(&pairs).unwrap().open(&task(0)).await.unwrap();
    writer.write(&changes([(1, "first".to_string())])).await.unwrap();
    writer.flush(Epoch(1)).await.unwrap();

    broker.pause();
    let writing = tokio::spawn(async move {
        writer.write(&changes([(2, "second".to_string())])).await.unwrap();
        writer.flush(Epoch(2)).await.unwrap();
    });
    // Longer than a broker is given to answer.
    let mut writing = std::pin::pin!(writing);
    assert!(tokio::time::timeout(Duration::from_secs(15), &mut writing).await.is_err(), "it gave up");
    broker.go_on();
    writing.await.unwrap();
    assert_eq!(ids(&read_at(&broker.address, "second", "read_committed").await), [2]);
}

/// They are gone for this writer: that all is acknowledged must not be said later.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_disk_does_not_take_fail_the_flush_too() {
    let topic = topic("buffer", 1).await;
    let no_folder = tempfile::NamedTempFile::new().unwrap();
    let mut installation = Installation::new();
    installation.connector = KafkaConnector::new().with_spool_dir(no_folder.path());
    // The first batch stays in memory, where there is no room for another.
    let pairs = [
        ("topic", topic.as_str()),
        ("buffer.mode", "hybrid"),
        ("queue.buffering.max.messages", "1"),
        ("linger_ms", "60000"),
        ("delivery", "at_least_once"),
    ];
    let mut writer = installation.sink(&pairs).unwrap().open(&task(0)).await.unwrap();
    writer.write(&batch(0)).await.unwrap();
    let failed = writer.write(&batch(1)).await.unwrap_err();
    assert_eq!(failed.code(), Code::FileError, "{failed:?}");
    let failed = writer.flush(Epoch(1)).await.unwrap_err();
    assert_eq!(failed.code(), Code::FileError, "{failed:?}");
}

/// A real broker that belongs to one test.
pub struct OwnBroker {
    pub address: String,
    parts: tempfile::TempDir,
}

impl OwnBroker {
    pub fn start() -> Self {
        let parts = tempfile::tempdir_in("/tmp").unwrap();
        let started = script(parts.path(), "start").output().unwrap();
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let lines = String::from_utf8(started.stdout).unwrap();
        let address = lines.lines().find_map(|line| line.strip_prefix("LAMINAR_TEST_KAFKA=")).unwrap();
        Self { address: address.to_string(), parts }
    }

    /// It keeps its connections and answers nothing.
    pub fn pause(&self) {
        assert!(self.signal("STOP"));
    }
    pub fn go_on(&self) {
        assert!(self.signal("CONT"));
    }

    fn signal(&self, name: &str) -> bool {
        let pid = std::fs::read_to_string(self.parts.path().join("kafka/pid")).unwrap_or_default();
        Command::new("kill").args([&format!("-{name}"), pid.trim()]).status().is_ok_and(|status| status.success())
    }
}

/// Asserts nothing: a panic here, after that of a test that failed, would end the process and with it all other tests.
impl Drop for OwnBroker {
    fn drop(&mut self) {
        self.signal("CONT");
        drop(script(self.parts.path(), "stop").output());
    }
}

fn script(parts: &Path, action: &str) -> Command {
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/parts.sh"));
    script.args([action, "kafka"]).env("LAMINAR_PARTS", parts);
    script
}
