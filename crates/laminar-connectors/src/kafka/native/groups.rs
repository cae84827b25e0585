//! What groups have committed, and what we may do to a topic: questions of the admin interface that the safe wrapper lacks.

use std::ffi::c_char;
use std::ptr;

use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;

use super::question::{Failure, ask, c_text};
use super::text;
use crate::kafka::client::Events;

/// An offset that a group has committed: topic, partition, the next record to read.
pub(in super::super) type Committed = (String, i32, i64);

/// What we may do to a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Rights {
    pub read: bool,
    pub write: bool,
}

/// Everything that the group has committed. Blocks.
pub(in super::super) fn committed(
    client: &Client<Events>,
    group: &str,
    limit_ms: i32,
) -> Result<Vec<Committed>, Failure> {
    let group = c_text(group)?;
    // SAFETY: the client and the name are alive during the calls; the question is ours and destroyed, and librdkafka copies it;
    // the answer is read before `ask` destroys its event.
    unsafe {
        let mut question = c::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), ptr::null());
        let send = |queue, options| {
            c::rd_kafka_ListConsumerGroupOffsets(client.native_ptr(), &raw mut question, 1, options, queue);
        };
        let kind = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
        let answer = ask(
            client,
            kind,
            limit_ms,
            |_| {},
            send,
            |event| {
                let result = c::rd_kafka_event_ListConsumerGroupOffsets_result(event);
                let mut count = 0;
                let groups = c::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
                if groups.is_null() || count == 0 {
                    return Ok(Vec::new());
                }
                let group = *groups;
                let error = c::rd_kafka_group_result_error(group);
                if !error.is_null() {
                    return Err((c::rd_kafka_error_code(error).into(), text(c::rd_kafka_error_string(error))));
                }
                Ok(partitions(c::rd_kafka_group_result_partitions(group)))
            },
        );
        c::rd_kafka_ListConsumerGroupOffsets_destroy(question);
        answer
    }
}

/// SAFETY: `list` is null or a list that is alive.
unsafe fn partitions(list: *const c::rd_kafka_topic_partition_list_t) -> Vec<Committed> {
    if list.is_null() {
        return Vec::new();
    }
    let count = usize::try_from(unsafe { (*list).cnt }).unwrap_or(0);
    // SAFETY: librdkafka keeps `cnt` elements there; none if the pointer is null.
    let elements = match unsafe { (*list).elems } {
        elements if elements.is_null() => &[][..],
        elements => unsafe { std::slice::from_raw_parts(elements, count) },
    };
    let told = elements.iter().filter(|element| element.offset >= 0);
    told.map(|element| (unsafe { text(element.topic) }, element.partition, element.offset)).collect()
}

/// What we may do to the topic; `None` if the broker does not tell. Blocks.
pub(in super::super) fn rights(client: &Client<Events>, topic: &str, limit_ms: i32) -> Result<Option<Rights>, Failure> {
    let topic = c_text(topic)?;
    let mut names: [*const c_char; 1] = [topic.as_ptr()];
    // SAFETY: as in `committed`.
    unsafe {
        let topics = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let prepare = |options| {
            let error = c::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !error.is_null() {
                c::rd_kafka_error_destroy(error);
            }
        };
        let send = |queue, options| c::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, queue);
        let kind = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let answer = ask(client, kind, limit_ms, prepare, send, |event| {
            let result = c::rd_kafka_event_DescribeTopics_result(event);
            let mut count = 0;
            let described = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            if described.is_null() || count == 0 {
                return Ok(None);
            }
            let topic = *described;
            let error = c::rd_kafka_TopicDescription_error(topic);
            let code: RDKafkaErrorCode = c::rd_kafka_error_code(error).into();
            if !error.is_null() && code != RDKafkaErrorCode::NoError {
                return Err((code, text(c::rd_kafka_error_string(error))));
            }
            let mut count = 0;
            let operations = c::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
            if operations.is_null() {
                return Ok(None);
            }
            let operations = std::slice::from_raw_parts(operations, count);
            use c::rd_kafka_AclOperation_t::{RD_KAFKA_ACL_OPERATION_READ, RD_KAFKA_ACL_OPERATION_WRITE};
            Ok(Some(Rights {
                read: operations.contains(&RD_KAFKA_ACL_OPERATION_READ),
                write: operations.contains(&RD_KAFKA_ACL_OPERATION_WRITE),
            }))
        });
        c::rd_kafka_TopicCollection_destroy(topics);
        answer
    }
}
