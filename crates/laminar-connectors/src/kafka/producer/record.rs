//! One record on its way to a topic, borrowed from the batch that it is part of.

use crate::kafka::sink::headers::Headers;

/// `RD_KAFKA_PARTITION_UA` of rdkafka.h: the partitioner chooses.
pub(crate) const ANY_PARTITION: i32 = -1;

/// A record, but for its topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    pub partition: i32,
    /// Milliseconds since 1970; 0 is now.
    pub timestamp: i64,
    pub headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// A record that says no more than key and value.
    pub fn new(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self { key, value, partition: ANY_PARTITION, timestamp: 0, headers: Headers::NONE }
    }

    /// Bytes of key and value.
    pub fn len(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }
}

/// Which of a record's fields librdkafka must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Key, value and partition: many records go over in one call.
    Plain,
    /// Timestamp and headers too: a call for each record.
    Everything,
}
