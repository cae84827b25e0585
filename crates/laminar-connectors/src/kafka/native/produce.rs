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

use super::text;
use crate::kafka::client::{Events, release};
use crate::kafka::producer::record::{ANY_PARTITION, Record};

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
    /// `config`: settings of this topic that the client has otherwise. Those of a topic that the client knows already stay.
    pub fn new(producer: Arc<BaseProducer<Events>>, name: &str, config: &[(&str, &str)]) -> Result<Self, String> {
        let name = CString::new(name).map_err(|e| e.to_string())?;
        let config = topic_config(&producer, config)?;
        // SAFETY: the client and the name are alive during the call, which takes the settings; the handle is ours until destroyed.
        let handle = unsafe { c::rd_kafka_topic_new(producer.client().native_ptr(), name.as_ptr(), config) };
        let handle = NonNull::new(handle).ok_or_else(|| format!("librdkafka has no topic {name:?}"))?;
        Ok(Self { handle, producer: Some(producer), batch: Vec::new() })
    }

    /// Copies the rows' keys, values and partitions into the producer's queue; never waits. Returns how many were taken and why
    /// the first of the others was not. The rows taken may not be the first ones: an error means the batch is spoilt.
    pub fn produce<'a>(&mut self, rows: impl Iterator<Item = Record<'a>>) -> (usize, Option<Refused>) {
        self.batch.clear();
        self.batch.extend(rows.map(|row| c::rd_kafka_message_t {
            err: c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: ptr::null_mut(),
            partition: row.partition,
            payload: row.value.map_or(ptr::null_mut(), |value| value.as_ptr().cast_mut().cast()),
            len: row.value.map_or(0, <[u8]>::len),
            key: row.key.map_or(ptr::null_mut(), |key| key.as_ptr().cast_mut().cast()),
            key_len: row.key.map_or(0, <[u8]>::len),
            offset: 0,
            _private: ptr::null_mut(),
        }));
        let count = i32::try_from(self.batch.len()).unwrap_or(i32::MAX);
        // SAFETY: the handle is alive; F_COPY makes librdkafka copy keys and values before it returns, and it only writes
        // the field `err`.
        let taken = unsafe {
            c::rd_kafka_produce_batch(
                self.handle.as_ptr(),
                ANY_PARTITION,
                c::RD_KAFKA_MSG_F_COPY | c::RD_KAFKA_MSG_F_PARTITION,
                self.batch.as_mut_ptr(),
                count,
            )
        };
        let none = c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        let refused = self.batch.iter().find(|m| m.err != none);
        let refused = refused.map(|m| Refused { code: m.err.into(), bytes: m.len + m.key_len });
        self.batch.clear();
        (usize::try_from(taken).unwrap_or(0), refused)
    }

    /// As [`Self::produce`], with timestamps and headers: a call for each row. Stops at the first that is refused.
    pub fn produce_each<'a>(&mut self, rows: impl Iterator<Item = Record<'a>>) -> (usize, Option<Refused>) {
        let mut taken = 0;
        for row in rows {
            if let Err(code) = self.produce_one(&row) {
                return (taken, Some(Refused { code, bytes: row.len() + row.headers.size() }));
            }
            taken += 1;
        }
        (taken, None)
    }

    fn produce_one(&self, row: &Record<'_>) -> Result<(), RDKafkaErrorCode> {
        use c::rd_kafka_vtype_t as Kind;
        let Some(producer) = &self.producer else { return Err(RDKafkaErrorCode::InvalidArgument) };
        // A zeroed union is a valid one: every member is a number or a pointer.
        let zero = || unsafe { std::mem::zeroed::<c::rd_kafka_vu_s__bindgen_ty_1>() };
        let argument = |vtype, fill: &dyn Fn(&mut c::rd_kafka_vu_s__bindgen_ty_1)| {
            let mut u = zero();
            fill(&mut u);
            c::rd_kafka_vu_t { vtype, u }
        };
        let memory = |bytes: Option<&[u8]>| c::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
            ptr: bytes.map_or(ptr::null_mut(), |bytes| bytes.as_ptr().cast_mut().cast()),
            size: bytes.map_or(0, <[u8]>::len),
        };
        let headers = (row.headers.len() > 0).then(|| headers_of(row));
        let headers_size = row.headers.size();
        let arguments = [
            argument(Kind::RD_KAFKA_VTYPE_RKT, &|u| u.rkt = self.handle.as_ptr()),
            argument(Kind::RD_KAFKA_VTYPE_PARTITION, &|u| u.i32_ = row.partition),
            argument(Kind::RD_KAFKA_VTYPE_MSGFLAGS, &|u| u.i = c::RD_KAFKA_MSG_F_COPY),
            argument(Kind::RD_KAFKA_VTYPE_VALUE, &|u| u.mem = memory(row.value)),
            argument(Kind::RD_KAFKA_VTYPE_KEY, &|u| u.mem = memory(row.key)),
            argument(Kind::RD_KAFKA_VTYPE_TIMESTAMP, &|u| u.i64_ = row.timestamp),
            // The report gives it back: so headers count there too.
            argument(Kind::RD_KAFKA_VTYPE_OPAQUE, &|u| u.ptr = ptr::without_provenance_mut(headers_size)),
            argument(Kind::RD_KAFKA_VTYPE_HEADERS, &|u| u.headers = headers.unwrap_or(ptr::null_mut())),
        ];
        let count = if headers.is_some() { arguments.len() } else { arguments.len() - 1 };
        // SAFETY: client, handle, key and value are alive; F_COPY makes librdkafka copy before it returns. The headers are its
        // own once it took the row, and ours to destroy if it did not; an error is ours and destroyed.
        unsafe {
            let error = c::rd_kafka_produceva(producer.client().native_ptr(), arguments.as_ptr(), count);
            if error.is_null() {
                return Ok(());
            }
            if let Some(headers) = headers {
                c::rd_kafka_headers_destroy(headers);
            }
            let code = c::rd_kafka_error_code(error).into();
            c::rd_kafka_error_destroy(error);
            Err(code)
        }
    }
}

/// Why a row was not taken.
#[derive(Debug)]
pub(in super::super) struct Refused {
    pub code: RDKafkaErrorCode,
    /// Of the row's key, value and headers.
    pub bytes: usize,
}

/// A copy of the row's headers that nobody owns yet.
fn headers_of(row: &Record<'_>) -> *mut c::rd_kafka_headers_t {
    // SAFETY: names and values are alive during the calls, which copy them.
    unsafe {
        let headers = c::rd_kafka_headers_new(row.headers.len());
        for (name, value) in row.headers.iter() {
            let (start, size) = value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len()));
            c::rd_kafka_header_add(
                headers,
                name.as_ptr().cast(),
                name.len().try_into().unwrap_or(0),
                start.cast(),
                size.try_into().unwrap_or(0),
            );
        }
        headers
    }
}

/// The client's settings for topics with these changed, for librdkafka to take.
fn topic_config(
    producer: &BaseProducer<Events>,
    config: &[(&str, &str)],
) -> Result<*mut c::rd_kafka_topic_conf_t, String> {
    if config.is_empty() {
        return Ok(ptr::null_mut());
    }
    // SAFETY: the client, names and values are alive during the calls; the settings are ours, and destroyed on an error.
    unsafe {
        let settings = c::rd_kafka_default_topic_conf_dup(producer.client().native_ptr());
        for (name, value) in config {
            let mut why = [0; 256];
            let pair = CString::new(*name).and_then(|name| Ok((name, CString::new(*value)?)));
            let set = pair.map(|(name, value)| {
                c::rd_kafka_topic_conf_set(settings, name.as_ptr(), value.as_ptr(), why.as_mut_ptr(), why.len())
            });
            if !matches!(set, Ok(c::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK)) {
                c::rd_kafka_topic_conf_destroy(settings);
                return Err(format!("{name} = {value}: {}", text(why.as_ptr())));
            }
        }
        Ok(settings)
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
    /// Of keys, values and headers, delivered or failed.
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
        // Besides key and value: the size of the headers, which came with the row as its opaque.
        reports.bytes += (message.len + message.key_len + message._private.addr()) as u64;
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
