//! Rows to a producer, many in one call, and their reports counted in bulk.

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as c;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};

use super::super::client::{Events, release};
use super::text;

/// `RD_KAFKA_PARTITION_UA` of rdkafka.h: the partitioner chooses.
const PARTITION_BY_KEY: i32 = -1;

/// A topic of a producer.
pub(in super::super) struct Topic {
    handle: NonNull<c::rd_kafka_topic_t>,
    /// Keeps the client alive; `Some` until dropped.
    producer: Option<Arc<BaseProducer<Events>>>,
    batch: Vec<c::rd_kafka_message_t>,
}

// SAFETY: a topic handle may be used from any thread; the batch is empty between calls.
unsafe impl Send for Topic {}

impl Topic {
    pub fn new(producer: Arc<BaseProducer<Events>>, name: &str) -> Result<Self, String> {
        let name = CString::new(name).map_err(|e| e.to_string())?;
        // SAFETY: the client and the name are alive during the call; the handle is ours until destroyed.
        let handle = unsafe { c::rd_kafka_topic_new(producer.client().native_ptr(), name.as_ptr(), ptr::null_mut()) };
        let handle = NonNull::new(handle).ok_or_else(|| format!("librdkafka has no topic {name:?}"))?;
        Ok(Self { handle, producer: Some(producer), batch: Vec::new() })
    }

    /// Copies the rows, key and value each (no value: a tombstone), into the producer's queue; never waits. Returns how many were taken and why
    /// the first of the others was not. The rows taken may not be the first ones: an error means the batch is spoilt.
    pub fn produce<'a>(
        &mut self,
        rows: impl Iterator<Item = (Option<&'a [u8]>, Option<&'a [u8]>)>,
    ) -> (usize, Option<RDKafkaErrorCode>) {
        self.batch.clear();
        self.batch.extend(rows.map(|(key, value)| c::rd_kafka_message_t {
            err: c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: ptr::null_mut(),
            partition: 0,
            payload: value.map_or(ptr::null_mut(), |value| value.as_ptr().cast_mut().cast()),
            len: value.map_or(0, <[u8]>::len),
            key: key.map_or(ptr::null_mut(), |key| key.as_ptr().cast_mut().cast()),
            key_len: key.map_or(0, <[u8]>::len),
            offset: 0,
            _private: ptr::null_mut(),
        }));
        let count = i32::try_from(self.batch.len()).unwrap_or(i32::MAX);
        // SAFETY: the handle is alive; F_COPY makes librdkafka copy keys and values before it returns, and it only writes
        // the field `err`.
        let taken = unsafe {
            c::rd_kafka_produce_batch(
                self.handle.as_ptr(),
                PARTITION_BY_KEY,
                c::RD_KAFKA_MSG_F_COPY,
                self.batch.as_mut_ptr(),
                count,
            )
        };
        let none = c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        let refused = self.batch.iter().find(|m| m.err != none).map(|m| m.err.into());
        self.batch.clear();
        (usize::try_from(taken).unwrap_or(0), refused)
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and the client is alive: we hold it.
        unsafe { c::rd_kafka_topic_destroy(self.handle.as_ptr()) };
        self.producer.take().into_iter().for_each(release);
    }
}

/// What one round of [`serve`] saw.
#[derive(Debug, Default)]
pub(in super::super) struct Reports {
    pub delivered: u64,
    pub failed: u64,
    /// Of keys and values, delivered or failed.
    pub bytes: u64,
    pub first_error: Option<RDKafkaErrorCode>,
}

/// Waits up to `wait_ms` for something from the producer and passes it on: delivery reports to `report`, the rest to its
/// events. Returns whether there was something.
///
/// `report` is called before librdkafka forgets the rows: when [`flush`] returns, all reports have been passed on.
pub(in super::super) fn serve(producer: &BaseProducer<Events>, wait_ms: i32, report: impl FnOnce(Reports)) -> bool {
    // SAFETY: the client is alive; the queue and the event are ours until destroyed, which is once, at the end; strings and
    // messages of the event are read before.
    unsafe {
        let queue = c::rd_kafka_queue_get_main(producer.client().native_ptr());
        let event = c::rd_kafka_queue_poll(queue, wait_ms);
        c::rd_kafka_queue_destroy(queue);
        if event.is_null() {
            return false;
        }
        let events = producer.client().context();
        match c::rd_kafka_event_type(event) {
            c::RD_KAFKA_EVENT_DR => report(count(event)),
            c::RD_KAFKA_EVENT_ERROR => {
                let fatal = c::rd_kafka_event_error_is_fatal(event) != 0;
                let code = if fatal { RDKafkaErrorCode::Fatal } else { c::rd_kafka_event_error(event).into() };
                events.error(KafkaError::Global(code), &text(c::rd_kafka_event_error_string(event)));
            }
            c::RD_KAFKA_EVENT_LOG => {
                let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                if c::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level) == 0 {
                    events.log(log_level(level), &text(facility), &text(line));
                }
            }
            _ => {}
        }
        c::rd_kafka_event_destroy(event);
        true
    }
}

/// SAFETY: `event` is a delivery report that is alive.
unsafe fn count(event: *mut c::rd_kafka_event_t) -> Reports {
    let mut reports = Reports::default();
    loop {
        let message = unsafe { c::rd_kafka_event_message_next(event) };
        let Some(message) = NonNull::new(message.cast_mut()) else { return reports };
        // SAFETY: the message lives as long as the event.
        let message = unsafe { message.as_ref() };
        reports.bytes += (message.len + message.key_len) as u64;
        if message.err == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            reports.delivered += 1;
        } else {
            reports.failed += 1;
            reports.first_error.get_or_insert(message.err.into());
        }
    }
}

fn log_level(syslog: i32) -> RDKafkaLogLevel {
    match syslog {
        ..=3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 | 6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

/// Sends what is queued without waiting for full requests, and waits until every row is reported: somebody else must
/// [`serve`] meanwhile. `false`: the time was up.
pub(in super::super) fn flush(producer: &BaseProducer<Events>, limit_ms: i32) -> bool {
    // SAFETY: the client is alive.
    let code = unsafe { c::rd_kafka_flush(producer.client().native_ptr(), limit_ms) };
    code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// How a transactional call failed.
#[derive(Debug)]
pub(in super::super) struct TransactionError {
    pub code: RDKafkaErrorCode,
    pub text: String,
    /// The transaction is certainly not committed.
    pub aborted: bool,
    /// The producer is of no use any more.
    pub fatal: bool,
}

/// Commits the transaction; all rows must have been reported. Blocks.
pub(in super::super) fn commit_transaction(
    producer: &BaseProducer<Events>,
    limit_ms: i32,
) -> Result<(), TransactionError> {
    // SAFETY: the client is alive; the error is ours and freed by `outcome`.
    unsafe { outcome(c::rd_kafka_commit_transaction(producer.client().native_ptr(), limit_ms)) }
}

/// Makes the group's offsets part of the transaction. Blocks.
pub(in super::super) fn send_offsets(
    producer: &BaseProducer<Events>,
    group_id: &str,
    offsets: &TopicPartitionList,
    limit_ms: i32,
) -> Result<(), TransactionError> {
    let Ok(group_id) = CString::new(group_id) else {
        return Err(TransactionError {
            code: RDKafkaErrorCode::InvalidGroupId,
            text: "the group's name has a zero byte".into(),
            aborted: true,
            fatal: false,
        });
    };
    // SAFETY: all arguments are alive during the calls; the metadata is ours and freed, the error is freed by `outcome`.
    unsafe {
        let group = c::rd_kafka_consumer_group_metadata_new(group_id.as_ptr());
        let client = producer.client().native_ptr();
        let error = c::rd_kafka_send_offsets_to_transaction(client, offsets.ptr(), group, limit_ms);
        c::rd_kafka_consumer_group_metadata_destroy(group);
        outcome(error)
    }
}

/// SAFETY: `error` is null or an error that nobody else frees.
unsafe fn outcome(error: *mut c::rd_kafka_error_t) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    unsafe {
        let failure = TransactionError {
            code: c::rd_kafka_error_code(error).into(),
            text: text(c::rd_kafka_error_string(error)),
            aborted: c::rd_kafka_error_txn_requires_abort(error) != 0,
            fatal: c::rd_kafka_error_is_fatal(error) != 0,
        };
        c::rd_kafka_error_destroy(error);
        Err(failure)
    }
}
