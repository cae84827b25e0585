//! The ids of topics, which the safe wrapper does not ask for: a topic that is deleted and created again has another.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::text;

/// What brokers say that have no ids (before Kafka 2.8).
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// What librdkafka made for one question, given back in the end.
struct Question {
    names: *mut c::rd_kafka_TopicCollection_t,
    options: *mut c::rd_kafka_AdminOptions_t,
    queue: *mut c::rd_kafka_queue_t,
    answer: *mut c::rd_kafka_event_t,
}

impl Drop for Question {
    fn drop(&mut self) {
        // SAFETY: each was made for us, is given back once, and is allowed to be null where we check; the client is alive.
        unsafe {
            if !self.answer.is_null() {
                c::rd_kafka_event_destroy(self.answer);
            }
            if !self.queue.is_null() {
                c::rd_kafka_queue_destroy(self.queue);
            }
            if !self.options.is_null() {
                c::rd_kafka_AdminOptions_destroy(self.options);
            }
            if !self.names.is_null() {
                c::rd_kafka_TopicCollection_destroy(self.names);
            }
        }
    }
}

/// What the brokers say of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum TopicId {
    Known(String),
    /// It is there, or may be, and has no id that we are told.
    None,
    /// There is no such topic.
    Missing,
}

/// The id of each topic. Blocks at most `limit`.
pub(in super::super) fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &[String],
    limit: Duration,
) -> Result<BTreeMap<String, TopicId>, (RDKafkaErrorCode, String)> {
    let invalid = |text: &str| (RDKafkaErrorCode::InvalidArgument, text.to_string());
    let names = topics.iter().map(|name| CString::new(name.as_str()));
    let names = names.collect::<Result<Vec<_>, _>>().map_err(|_| invalid("a name with a zero byte"))?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let millis = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
    let rk = client.native_ptr();
    // SAFETY: the client is alive; the names live during the call, which copies them; everything made here is given back by
    // `Question`, and what the answer points to is read before that.
    unsafe {
        let mut question = Question {
            names: c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()),
            options: c::rd_kafka_AdminOptions_new(rk, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            queue: c::rd_kafka_queue_new(rk),
            answer: ptr::null_mut(),
        };
        if question.names.is_null() || question.options.is_null() || question.queue.is_null() {
            return Err(invalid("no memory for the question"));
        }
        c::rd_kafka_AdminOptions_set_request_timeout(question.options, millis, ptr::null_mut(), 0);
        c::rd_kafka_DescribeTopics(rk, question.names, question.options, question.queue);
        question.answer = c::rd_kafka_queue_poll(question.queue, millis);
        if question.answer.is_null() {
            return Err((RDKafkaErrorCode::OperationTimedOut, "no answer in time".into()));
        }
        let code = c::rd_kafka_event_error(question.answer);
        if code != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err((code.into(), text(c::rd_kafka_event_error_string(question.answer))));
        }
        let result = c::rd_kafka_event_DescribeTopics_result(question.answer);
        if result.is_null() {
            return Err(invalid("an answer to another question"));
        }
        let mut count = 0;
        let first = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let described: &[*const c::rd_kafka_TopicDescription_t] = match NonNull::new(first) {
            Some(first) => std::slice::from_raw_parts(first.as_ptr(), count),
            None => &[],
        };
        let mut ids = BTreeMap::new();
        for topic in described {
            let name = text(c::rd_kafka_TopicDescription_name(*topic));
            let error = c::rd_kafka_TopicDescription_error(*topic);
            let code: RDKafkaErrorCode =
                if error.is_null() { RDKafkaErrorCode::NoError } else { c::rd_kafka_error_code(error).into() };
            let id = c::rd_kafka_TopicDescription_topic_id(*topic);
            let id = if id.is_null() { String::new() } else { text(c::rd_kafka_Uuid_base64str(id)) };
            let answer = match code {
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => TopicId::Missing,
                RDKafkaErrorCode::NoError if !id.is_empty() && id != NO_ID => TopicId::Known(id),
                _ => TopicId::None,
            };
            ids.insert(name, answer);
        }
        Ok(ids)
    }
}
