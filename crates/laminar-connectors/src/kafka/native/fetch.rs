//! Records as librdkafka holds them, many at a time: [`FetchQueue`] and the [`Messages`] taken from it.

use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use laminar_core::Position;
use laminar_core::source::{RawRecord, RawRecords, TimestampType};
use rdkafka::bindings as c;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::Notify;

use super::{position, text};
use crate::kafka::client::{Events, drop_elsewhere};

/// Messages asked for in one call; a batch's limit in bytes is checked between calls.
const CHUNK: usize = 256;

/// A consumer whose partitions all deliver into one queue.
pub(in super::super) struct FetchQueue {
    /// `Some` until dropped.
    consumer: Option<BaseConsumer<Events>>,
    queue: NonNull<c::rd_kafka_queue_t>,
    /// Told when the queue stops being empty. At a fixed address: librdkafka has a pointer to it.
    filled: Box<Notify>,
}

// SAFETY: librdkafka's clients and queues may be used from any thread; the rest is Send and Sync by itself.
unsafe impl Send for FetchQueue {}
unsafe impl Sync for FetchQueue {}

unsafe extern "C" fn on_filled(_: *mut c::rd_kafka_t, filled: *mut c_void) {
    // SAFETY: `filled` is the Notify of the FetchQueue, which takes the callback away before it drops the Notify.
    unsafe { &*filled.cast::<Notify>() }.notify_one();
}

impl FetchQueue {
    /// Sends everything that `partitions` will deliver into a new queue. Call before `assign`.
    pub fn new(consumer: BaseConsumer<Events>, partitions: &[(String, i32)]) -> Result<Self, String> {
        let client = consumer.client().native_ptr();
        // SAFETY: the client is alive; a new queue is ours until destroyed.
        let queue = NonNull::new(unsafe { c::rd_kafka_queue_new(client) }).ok_or("no queue")?;
        let fetch = Self { consumer: Some(consumer), queue, filled: Box::new(Notify::new()) };
        fetch.join(partitions)?;
        let filled: *const Notify = &*fetch.filled;
        // SAFETY: the Notify outlives the callback, see `drop`.
        unsafe { c::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(on_filled), filled.cast_mut().cast()) };
        Ok(fetch)
    }

    /// Sends what these partitions will deliver into the queue too. Call before they are assigned.
    pub fn join(&self, partitions: &[(String, i32)]) -> Result<(), String> {
        let client = self.consumer.as_ref().ok_or("no client")?.client().native_ptr();
        for (topic, partition) in partitions {
            let name = CString::new(topic.as_str()).map_err(|e| e.to_string())?;
            // SAFETY: both queues are alive during the calls; forwarding takes its own reference to the target.
            unsafe {
                let source = c::rd_kafka_queue_get_partition(client, name.as_ptr(), *partition);
                if source.is_null() {
                    return Err(format!("no queue for partition {partition} of topic {topic}"));
                }
                c::rd_kafka_queue_forward(source, self.queue.as_ptr());
                c::rd_kafka_queue_destroy(source);
            }
        }
        Ok(())
    }

    /// Waits until the queue may have something. Cancel-safe.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The client behind the queue; `None` only while it is being dropped.
    pub fn consumer(&self) -> Option<&BaseConsumer<Events>> {
        self.consumer.as_ref()
    }

    /// What is at hand, at most `rows` and about `bytes`; never waits.
    pub fn take(self: &Arc<Self>, rows: usize, bytes: usize) -> Taken {
        let mut taken = Taken { messages: Messages::new(Arc::clone(self)), news: Vec::new(), drained: false };
        let mut buffer: [*mut c::rd_kafka_message_t; CHUNK] = [ptr::null_mut(); CHUNK];
        let mut size = 0;
        while taken.messages.len() < rows && size < bytes {
            let wanted = CHUNK.min(rows - taken.messages.len());
            // SAFETY: the buffer has room for `wanted` pointers; each message returned is ours to destroy.
            let count = unsafe { c::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, buffer.as_mut_ptr(), wanted) };
            let count = usize::try_from(count).unwrap_or(0);
            for message in buffer.iter().take(count).filter_map(|m| NonNull::new(*m)) {
                size += taken.add(message);
            }
            if count < wanted {
                taken.drained = true;
                return taken;
            }
        }
        // SAFETY: the queue is alive.
        taken.drained = unsafe { c::rd_kafka_queue_length(self.queue.as_ptr()) } == 0;
        taken
    }
}

impl Drop for FetchQueue {
    fn drop(&mut self) {
        // SAFETY: taking the callback away locks the queue, so none runs afterwards; the queue is ours, and the client that
        // made it is still alive.
        unsafe {
            c::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            c::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
        drop_elsewhere(self.consumer.take());
    }
}

/// What a [`FetchQueue`] had.
pub(in super::super) struct Taken {
    pub messages: Messages,
    /// What was said of partitions, besides records.
    pub news: Vec<News>,
    /// The queue ran dry.
    pub drained: bool,
}

/// Something about a partition that is not a record.
#[derive(Debug)]
pub(in super::super) struct News {
    pub topic: String,
    pub partition: i32,
    /// The next record to read.
    pub offset: i64,
    /// `PartitionEOF`: everything before `offset` was delivered. Else why reading failed.
    pub code: RDKafkaErrorCode,
    pub text: String,
}

impl Taken {
    /// Keeps a record, or reads and frees what is not one. Returns its size.
    fn add(&mut self, message: NonNull<c::rd_kafka_message_t>) -> usize {
        // SAFETY: librdkafka just gave us the message; it is valid until destroyed.
        let raw = unsafe { message.as_ref() };
        if raw.err == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            self.messages.push(message, raw);
            return raw.len + raw.key_len;
        }
        // SAFETY: an error's text is a string that lives as long as the message, which is destroyed once and not used after.
        unsafe {
            let text = text(c::rd_kafka_message_errstr(message.as_ptr()));
            let (topic, partition, offset) = (topic_name(raw.rkt), raw.partition, raw.offset);
            self.news.push(News { topic, partition, offset, code: raw.err.into(), text });
            c::rd_kafka_message_destroy(message.as_ptr());
        }
        0
    }
}

/// Records as librdkafka holds them.
pub(in super::super) struct Messages {
    messages: Vec<NonNull<c::rd_kafka_message_t>>,
    runs: Vec<PartitionRun>,
    /// Keeps the client alive; the messages are freed before.
    _queue: Arc<FetchQueue>,
}

/// Consecutive records of one partition.
pub(in super::super) struct PartitionRun {
    handle: *mut c::rd_kafka_topic_t,
    pub topic: Arc<str>,
    pub partition: i32,
    /// Index after the run's last record.
    pub end: usize,
    /// Offset of the run's last record.
    pub last: i64,
}

// SAFETY: messages may be used and freed on any thread, by one at a time; a topic handle is only compared.
unsafe impl Send for Messages {}

impl Messages {
    fn new(queue: Arc<FetchQueue>) -> Self {
        Self { messages: Vec::new(), runs: Vec::new(), _queue: queue }
    }

    pub fn runs(&self) -> &[PartitionRun] {
        &self.runs
    }

    fn push(&mut self, message: NonNull<c::rd_kafka_message_t>, raw: &c::rd_kafka_message_t) {
        self.messages.push(message);
        let end = self.messages.len();
        match self.runs.last_mut() {
            Some(run) if run.handle == raw.rkt && run.partition == raw.partition => {
                run.end = end;
                run.last = raw.offset;
            }
            last => {
                let topic = match last {
                    Some(run) if run.handle == raw.rkt => Arc::clone(&run.topic),
                    // SAFETY: the message holds its topic.
                    _ => unsafe { topic_name(raw.rkt) }.into(),
                };
                self.runs.push(PartitionRun {
                    handle: raw.rkt,
                    topic,
                    partition: raw.partition,
                    end,
                    last: raw.offset,
                });
            }
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        for message in &self.messages {
            // SAFETY: each message is ours and destroyed once; the client is still alive.
            unsafe { c::rd_kafka_message_destroy(message.as_ptr()) };
        }
    }
}

impl RawRecords for Messages {
    fn len(&self) -> usize {
        self.messages.len()
    }

    fn get(&self, index: usize) -> RawRecord<'_> {
        let run = self.runs.get(self.runs.partition_point(|run| run.end <= index));
        let (Some(message), Some(run)) = (self.messages.get(index), run) else { return no_record(self, index) };
        // SAFETY: the message and the bytes it points to live as long as this batch.
        unsafe {
            let raw = message.as_ref();
            let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            let millis = c::rd_kafka_message_timestamp(message.as_ptr(), &raw mut kind);
            RawRecord {
                key: bytes(raw.key, raw.key_len),
                value: bytes(raw.payload, raw.len),
                timestamp_micros: millis.saturating_mul(1000),
                timestamp_type: match kind {
                    c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => TimestampType::CreateTime,
                    c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => TimestampType::LogAppendTime,
                    c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => TimestampType::None,
                },
                topic: &run.topic,
                partition: run.partition,
                position: position(raw.offset),
                batch: Some((self, index)),
            }
        }
    }

    fn headers(&self, index: usize, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let Some(message) = self.messages.get(index) else { return };
        let mut headers = ptr::null_mut();
        // SAFETY: the headers, their names and values belong to the message, which lives as long as this batch.
        unsafe {
            let found = c::rd_kafka_message_headers(message.as_ptr(), &raw mut headers);
            if found != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            for at in 0.. {
                let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
                let found = c::rd_kafka_header_get_all(headers, at, &raw mut name, &raw mut value, &raw mut size);
                if found != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return;
                }
                visit(&CStr::from_ptr(name).to_string_lossy(), bytes(value, size));
            }
        }
    }
}

fn no_record(records: &Messages, index: usize) -> RawRecord<'_> {
    RawRecord {
        key: None,
        value: None,
        timestamp_micros: 0,
        timestamp_type: TimestampType::None,
        topic: "",
        partition: 0,
        position: Position(0),
        batch: Some((records, index)),
    }
}

/// SAFETY: `start` is null or points to `size` bytes that live as long as `'a`.
unsafe fn bytes<'a>(start: *const c_void, size: usize) -> Option<&'a [u8]> {
    if start.is_null() { None } else { Some(unsafe { std::slice::from_raw_parts(start.cast(), size) }) }
}

/// SAFETY: `handle` is null or a topic that is alive.
unsafe fn topic_name(handle: *mut c::rd_kafka_topic_t) -> String {
    if handle.is_null() { String::new() } else { unsafe { text(c::rd_kafka_topic_name(handle)) } }
}
