//! The ids of topics, which the safe wrapper does not ask for: a topic that is deleted and created again has another.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;

use super::question::{Failure, ask, c_text};
use super::text;
use crate::kafka::client::Events;

/// What brokers say that have no ids (before Kafka 2.8).
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// What the brokers say of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum TopicId {
    Known(String),
    /// It is there, or may be, and has no id that we are told.
    None,
    /// There is no such topic.
    Missing,
}

/// The id of each topic. Blocks.
pub(in super::super) fn topic_ids(
    client: &Client<Events>,
    topics: &[String],
    limit: Duration,
) -> Result<BTreeMap<String, TopicId>, Failure> {
    let names = topics.iter().map(|name| c_text(name)).collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let kind = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the client is alive; the names live during the call, which copies them; the collection is ours and destroyed; the answer
    // is read before `ask` destroys its event.
    unsafe {
        let asked = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let send = |queue, options| c::rd_kafka_DescribeTopics(client.native_ptr(), asked, options, queue);
        let answer = ask(
            client,
            kind,
            limit_ms,
            |_| {},
            send,
            |event| {
                let result = c::rd_kafka_event_DescribeTopics_result(event);
                let mut count = 0;
                let described = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
                let described =
                    if described.is_null() { &[][..] } else { std::slice::from_raw_parts(described, count) };
                Ok(described.iter().map(|topic| id_of(*topic)).collect())
            },
        );
        c::rd_kafka_TopicCollection_destroy(asked);
        answer
    }
}

/// SAFETY: `topic` is a description that is alive.
unsafe fn id_of(topic: *const c::rd_kafka_TopicDescription_t) -> (String, TopicId) {
    unsafe {
        let name = text(c::rd_kafka_TopicDescription_name(topic));
        let error = c::rd_kafka_TopicDescription_error(topic);
        let code = if error.is_null() { RDKafkaErrorCode::NoError } else { c::rd_kafka_error_code(error).into() };
        let id = c::rd_kafka_TopicDescription_topic_id(topic);
        let id = if id.is_null() { String::new() } else { text(c::rd_kafka_Uuid_base64str(id)) };
        let answer = match code {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => TopicId::Missing,
            RDKafkaErrorCode::NoError if !id.is_empty() && id != NO_ID => TopicId::Known(id),
            _ => TopicId::None,
        };
        (name, answer)
    }
}
