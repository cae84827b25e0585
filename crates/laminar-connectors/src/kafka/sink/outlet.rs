//! Where a writer's encoded records leave it: to librdkafka while there is room, else to disk or nowhere until there is.
//!
//! ```text
//!  records ─┬─ room, and nothing on disk ──────────────────────► librdkafka ─► broker
//!           └─ no room ─┬─ memory:         wait ──────────────────► ▲
//!                       └─ disk, hybrid:   spool ─► oldest first ───┘ (full: wait)
//! ```
//!
//! Invariant: records of a topic leave in the order they came: nothing overtakes what is on disk. No record is dropped: over
//! the limit the pipeline waits. A flush empties the disk: it never holds records of two epochs. What could not be put on disk, or
//! read from there, is lost to this writer: every later call fails, and the job starts over from the last epoch.

use std::path::PathBuf;
use std::sync::Arc;

use laminar_core::{Error, Result};

use super::options::{BufferMode, BufferOptions};
use super::spool::{Frame, Spool, encode};
use super::topics::Topics;
use crate::kafka::client::blocking;
use crate::kafka::producer::record::{Carries, Record};
use crate::kafka::producer::{MAX_BYTES, Producer};

/// Of a sink that buffers on disk: bytes in memory that are on their way.
const DISK_MODE_BYTES: u64 = 4 << 20;

/// Bytes of each partition that may wait on disk.
const DISK_LIMIT: u64 = 1 << 30;
const SEGMENT_BYTES: u64 = 100 << 20;

pub(crate) struct Outlet {
    producer: Arc<Producer>,
    pub topics: Topics,
    options: BufferOptions,
    disk: Disk,
    frame: Vec<u8>,
}

/// What waits on disk.
enum Disk {
    /// Rows wait in memory only.
    Unused,
    Open(Spool),
    /// It is being read or written on another thread, or whoever waited for that gave up.
    Away,
    Failed(Error),
}

impl Outlet {
    /// `dir`: where files are made, if any.
    pub fn new(producer: Arc<Producer>, topics: Topics, options: &BufferOptions, dir: PathBuf) -> Self {
        let segment = options.segment_bytes.map_or(SEGMENT_BYTES, |size| size.0);
        let disk = match options.mode {
            BufferMode::Memory => Disk::Unused,
            BufferMode::Disk | BufferMode::Hybrid => Disk::Open(Spool::new(&dir, segment)),
        };
        Self { producer, topics, options: options.clone(), disk, frame: Vec::new() }
    }

    /// Tells the producer how much this sink needs in memory: others of the pipeline may need less. To be called after a topic was
    /// opened.
    pub fn bound(&self) {
        let all = |size: u64| size.saturating_mul(self.topics.partitions().max(1));
        let limit = self.options.per_partition_limit.map(|size| size.0);
        self.producer.bound(match (self.options.mode, limit) {
            (BufferMode::Memory, Some(limit)) => all(limit),
            (BufferMode::Disk, _) => self.producer.given_bytes(DISK_MODE_BYTES),
            (BufferMode::Memory, None) | (BufferMode::Hybrid, _) => self.producer.given_bytes(MAX_BYTES),
        });
        if self.options.memory_overload_protection {
            self.producer.watch_memory();
        }
    }

    /// Sends `count` records of the topic, or puts them behind those that wait.
    pub async fn send<'a>(
        &mut self,
        topic: usize,
        records: impl Iterator<Item = Record<'a>> + Clone,
        carries: Carries,
        count: usize,
        bytes: usize,
    ) -> Result<()> {
        if self.options.mode == BufferMode::Memory {
            self.producer.room().await?;
            let open = self.topics.get(topic)?;
            return self.producer.produce(&mut open.handle, records, carries, count, bytes);
        }
        self.drain().await?;
        if self.waiting()? == 0 && self.producer.has_room()? {
            let open = self.topics.get(topic)?;
            return self.producer.produce(&mut open.handle, records, carries, count, bytes);
        }
        let limit = self.options.per_partition_limit.map_or(DISK_LIMIT, |size| size.0);
        let limit = limit.saturating_mul(self.topics.partitions().max(1));
        while self.waiting()? >= limit {
            self.producer.room().await?;
            self.send_oldest().await?;
        }
        let mut frame = std::mem::take(&mut self.frame);
        encode(topic, records, &mut frame);
        self.frame = self.on_disk(move |spool| spool.push(&frame).map(|()| frame)).await?;
        Ok(())
    }

    /// Sends everything that waits.
    pub async fn empty(&mut self) -> Result<()> {
        while self.waiting()? > 0 {
            self.producer.room().await?;
            self.send_oldest().await?;
        }
        Ok(())
    }

    /// Sends what waits as far as there is room now.
    async fn drain(&mut self) -> Result<()> {
        while self.waiting()? > 0 && self.producer.has_room()? {
            self.send_oldest().await?;
        }
        Ok(())
    }

    /// Bytes on disk.
    fn waiting(&self) -> Result<u64> {
        match &self.disk {
            Disk::Unused => Ok(0),
            Disk::Open(spool) => Ok(spool.bytes()),
            Disk::Away => Err(gone()),
            Disk::Failed(error) => Err(error.clone()),
        }
    }

    async fn send_oldest(&mut self) -> Result<()> {
        match self.on_disk(Spool::pop).await? {
            Some(frame) => self.produce(&frame),
            None => Ok(()),
        }
    }

    /// Reads or writes away from the threads that move rows.
    async fn on_disk<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut Spool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut spool = match std::mem::replace(&mut self.disk, Disk::Away) {
            Disk::Open(spool) => spool,
            other => {
                self.disk = other;
                return Err(gone());
            }
        };
        let done = blocking(move || call(&mut spool).map(|answer| (answer, spool))).await;
        let (disk, answer) = match done {
            Ok((answer, spool)) => (Disk::Open(spool), Ok(answer)),
            Err(error) => (Disk::Failed(error.clone()), Err(error)),
        };
        self.disk = disk;
        answer
    }

    fn produce(&mut self, frame: &Frame) -> Result<()> {
        let carries = if frame.needs_more() { Carries::Everything } else { Carries::Plain };
        let open = self.topics.get(frame.topic)?;
        self.producer.produce(&mut open.handle, frame.records(), carries, frame.len(), frame.size())
    }
}

fn gone() -> Error {
    Error::internal("rows that wait for kafka on disk are gone")
}

#[cfg(test)]
mod tests {
    use laminar_core::Options;
    use laminar_core::connector::Role;

    use super::*;
    use crate::kafka::options::Written;

    /// `client`: options of the cluster, which the sinks share.
    #[track_caller]
    fn check(client: &[(&str, &str)], sinks: &[&[(&str, &str)]], expected: u64) {
        let base = [&[("bootstrap_servers", "127.0.0.1:1"), ("topic", "t")], client].concat();
        let settings = |pairs: &[(&str, &str)]| {
            let options = Options::from_pairs([&base, pairs].concat());
            Arc::new(Written::read(&options, Some(Role::Sink), None).unwrap().sink().unwrap())
        };
        let producer = Arc::new(Producer::new(&settings(&[]).cluster, &[]).unwrap());
        for pairs in sinks {
            let settings = settings(pairs);
            let topics = Topics::new(Arc::clone(&producer), Arc::clone(&settings), false);
            Outlet::new(Arc::clone(&producer), topics, &settings.buffer, PathBuf::new()).bound();
        }
        assert_eq!(producer.byte_limit(), expected, "{client:?} {sinks:?}");
    }

    #[test]
    fn the_sink_that_needs_most_bounds_what_all_have_in_memory() {
        let (disk, hybrid) = (&[("buffer.mode", "disk")][..], &[("buffer.mode", "hybrid")][..]);
        let large = &[("buffer.per_partition_limit", "64MB")][..];
        check(&[], &[disk], DISK_MODE_BYTES);
        check(&[], &[disk, &[]], MAX_BYTES);
        check(&[], &[&[], disk], MAX_BYTES);
        check(&[], &[disk, hybrid], MAX_BYTES);
        check(&[], &[large, disk, &[]], 64 << 20);
        check(&[("queue.buffering.max.kbytes", "100")], &[disk, &[], hybrid], 100 << 10);
    }
}
