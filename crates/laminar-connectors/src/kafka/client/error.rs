//! librdkafka's error codes as ours: who must act, and what they should do.

use laminar_core::{Code, Error};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Kafka};

/// The error for `code`. `what` says what we were doing to which object; `reason` is librdkafka's own text.
pub(crate) fn from_code(what: impl Into<String>, code: Kafka, reason: &str) -> Error {
    let error = Error::new(our_code(code), what);
    let error = if reason.is_empty() { error.with_detail(code.to_string()) } else { error.with_detail(reason) };
    match hint(code) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The error for what a call returned. Values of options, which may be secret, are left out.
pub(crate) fn from_kafka(what: impl Into<String>, error: &KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, text, key, _) => {
            Error::new(Code::InvalidOption, what).with_detail(format!("{key}: {text}")).with_field(key)
        }
        KafkaError::ClientCreation(text) => Error::new(Code::InvalidOption, what).with_detail(text),
        KafkaError::AdminOp(code) => from_code(what, *code, ""),
        KafkaError::Transaction(inner) => from_code(what, inner.code(), &inner.string()),
        other => match other.rdkafka_error_code() {
            Some(code) => from_code(what, code, ""),
            None => Error::new(Code::ConnectorError, what).with_detail(other.to_string()),
        },
    }
}

fn our_code(code: Kafka) -> Code {
    match code {
        Kafka::BrokerTransportFailure
        | Kafka::AllBrokersDown
        | Kafka::Resolve
        | Kafka::OperationTimedOut
        | Kafka::RequestTimedOut
        | Kafka::MessageTimedOut
        | Kafka::TimedOutQueue
        | Kafka::NetworkException
        | Kafka::LeaderNotAvailable
        | Kafka::BrokerNotAvailable
        | Kafka::CoordinatorNotAvailable
        | Kafka::CoordinatorLoadInProgress
        | Kafka::NotCoordinator
        | Kafka::SSL => Code::Unreachable,
        Kafka::Authentication
        | Kafka::SaslAuthenticationFailed
        | Kafka::UnsupportedSASLMechanism
        | Kafka::IllegalSASLState
        | Kafka::TopicAuthorizationFailed
        | Kafka::GroupAuthorizationFailed
        | Kafka::ClusterAuthorizationFailed
        | Kafka::TransactionalIdAuthorizationFailed => Code::AuthenticationFailed,
        Kafka::UnknownTopic | Kafka::UnknownTopicOrPartition | Kafka::UnknownPartition | Kafka::UnknownTopicId => {
            Code::UnknownTopic
        }
        Kafka::AutoOffsetReset | Kafka::OffsetOutOfRange | Kafka::LogTruncation => Code::DataLoss,
        Kafka::MessageSizeTooLarge | Kafka::MessageBatchTooLarge => Code::RowTooLarge,
        Kafka::Fenced | Kafka::ProducerFenced | Kafka::InvalidProducerEpoch => Code::Fenced,
        _ => Code::ConnectorError,
    }
}

fn hint(code: Kafka) -> Option<&'static str> {
    Some(match code {
        Kafka::SSL => "check security.protocol and ssl.ca.location",
        Kafka::TopicAuthorizationFailed => "grant this user access to the topic",
        Kafka::GroupAuthorizationFailed => "grant this user READ on the consumer group, or set group_id",
        Kafka::ClusterAuthorizationFailed => "grant this user IDEMPOTENT_WRITE on the cluster",
        Kafka::TransactionalIdAuthorizationFailed => {
            "grant this user WRITE and DESCRIBE on transactional ids that start with 'laminar.', or use delivery = 'at_least_once'"
        }
        Kafka::MessageSizeTooLarge | Kafka::MessageBatchTooLarge => {
            "raise message.max.bytes here and on the broker (max.message.bytes of the topic)"
        }
        Kafka::UnknownMemberId | Kafka::IllegalGeneration => {
            "another program consumes with the same group_id: give the pipeline its own"
        }
        _ => return None,
    })
}

/// Can a client go on after this error without us? librdkafka reconnects and retries by itself.
pub(crate) fn passes(code: Kafka) -> bool {
    matches!(our_code(code), Code::Unreachable)
        || matches!(
            code,
            Kafka::NotLeaderForPartition
                | Kafka::ReplicaNotAvailable
                | Kafka::FencedLeaderEpoch
                | Kafka::UnknownLeaderEpoch
                | Kafka::OffsetNotAvailable
                | Kafka::ThrottlingQuotaExceeded
                | Kafka::WaitingForCoordinator
                | Kafka::KafkaStorageError
        )
}

/// Did the broker refuse who we are? Waiting does not help.
pub(crate) fn is_refusal(code: Kafka) -> bool {
    our_code(code) == Code::AuthenticationFailed
}
