//! What a registry of Confluent's protocol answers, as errors that say who must act.

use laminar_core::{Code, Error};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::RawError;

/// The error for a call about `what` to the registry called `name`.
pub(super) fn from_registry(error: &SRCError, what: &str, name: &str) -> Error {
    let answer = std::error::Error::source(error).and_then(|source| source.downcast_ref::<RawError>());
    let status = status(&error.error);
    let said = answer.filter(|answer| answer.error_code != 0).map(|answer| answer.message.clone());
    let Some(status) = status else { return no_answer(error, name) };
    let of = |code: Code, message: String| {
        let error = Error::new(code, message);
        match &said {
            Some(said) => error.with_detail(said),
            None => error.with_detail(format!("it answered with HTTP status {status}")),
        }
    };
    match (status, answer.map_or(0, |answer| answer.error_code)) {
        (401 | 403, _) => {
            of(Code::AuthenticationFailed, format!("the schema registry at {name} refused our credentials"))
                .with_hint("check schema_registry.api_key and schema_registry.api_secret")
                .with_field("schema_registry.api_key")
        }
        // A code of five digits says what there is not; without it the page itself is not there.
        (404, ..=9999) => of(Code::ConnectorError, format!("there is no schema registry at {name}"))
            .with_hint("the address may need a path, such as /apis/ccompat/v7")
            .with_field("schema_registry.endpoint"),
        (404, _) => of(Code::UnknownSchema, format!("the schema registry does not have {what}")),
        (409, _) => of(Code::IncompatibleSchema, format!("the schema registry refused {what}"))
            .with_hint("the subject's compatibility rule forbids this change of its schema"),
        (422, _) => of(Code::InvalidSchema, format!("the schema registry refused {what}")),
        (408 | 429 | 500.., _) => of(Code::Unreachable, format!("the schema registry at {name} is not well")),
        _ => of(Code::ConnectorError, format!("the schema registry at {name} refused {what}")),
    }
}

fn no_answer(error: &SRCError, name: &str) -> Error {
    let source = std::error::Error::source(error);
    let transport = source.and_then(|source| source.downcast_ref::<reqwest::Error>());
    if transport.is_some_and(reqwest::Error::is_timeout) {
        return Error::new(Code::Timeout, format!("the schema registry at {name} does not answer"));
    }
    if transport.is_some_and(reqwest::Error::is_decode) {
        return Error::new(Code::ConnectorError, format!("what answers at {name} is not a schema registry"))
            .with_field("schema_registry.endpoint");
    }
    let mut innermost = source;
    while let Some(inner) = innermost.and_then(std::error::Error::source) {
        innermost = Some(inner);
    }
    let detail = innermost.map_or_else(|| error.error.clone(), ToString::to_string);
    Error::new(Code::Unreachable, format!("the schema registry at {name} cannot be reached")).with_detail(detail)
}

/// The HTTP status, which the library gives only in words.
fn status(text: &str) -> Option<u16> {
    text.rsplit_once("with status ")?.1.split_whitespace().next()?.parse().ok()
}
