//! One question of the admin interface, and its answer: what the calls that the safe wrapper lacks have in common.

use std::ffi::{CString, c_char};

use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;

use super::text;
use crate::kafka::client::Events;

/// librdkafka's code, and its words.
pub(in super::super) type Failure = (RDKafkaErrorCode, String);

/// Sends one question of the admin interface and reads its answer. Blocks at most half a second longer than `limit_ms`.
///
/// SAFETY: `send` sends one question of that kind to the queue; `read` keeps nothing of the event.
pub(super) unsafe fn ask<T>(
    client: &Client<Events>,
    kind: c::rd_kafka_admin_op_t,
    limit_ms: i32,
    prepare: impl FnOnce(*mut c::rd_kafka_AdminOptions_t),
    send: impl FnOnce(*mut c::rd_kafka_queue_t, *const c::rd_kafka_AdminOptions_t),
    read: impl FnOnce(*mut c::rd_kafka_event_t) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // SAFETY: options, queue and event are ours and destroyed once, each after its last use.
    unsafe {
        let options = c::rd_kafka_AdminOptions_new(client.native_ptr(), kind);
        let mut told = [0 as c_char; 256];
        c::rd_kafka_AdminOptions_set_request_timeout(options, limit_ms, told.as_mut_ptr(), told.len());
        prepare(options);
        let queue = c::rd_kafka_queue_new(client.native_ptr());
        send(queue, options);
        let event = c::rd_kafka_queue_poll(queue, limit_ms.saturating_add(500));
        let answer = if event.is_null() {
            Err((RDKafkaErrorCode::OperationTimedOut, String::new()))
        } else {
            let code: RDKafkaErrorCode = c::rd_kafka_event_error(event).into();
            let answer = match code {
                RDKafkaErrorCode::NoError => read(event),
                code => Err((code, text(c::rd_kafka_event_error_string(event)))),
            };
            c::rd_kafka_event_destroy(event);
            answer
        };
        c::rd_kafka_queue_destroy(queue);
        c::rd_kafka_AdminOptions_destroy(options);
        answer
    }
}

pub(super) fn c_text(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| (RDKafkaErrorCode::InvalidArgument, "it has a zero byte".to_string()))
}
