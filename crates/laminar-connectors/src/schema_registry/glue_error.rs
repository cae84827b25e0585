//! What AWS Glue answers, as errors that say who must act.

use laminar_core::{Code, Error};
use serde_json::Value;

/// Why there is no answer to a call.
#[derive(Debug)]
pub(super) struct Refusal {
    pub error: Error,
    /// What was to be created is there.
    pub exists: bool,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, exists: false }
    }
}

/// The answer with this status, and this body if it is JSON, to a call about `what`.
pub(super) fn refusal(status: u16, body: Option<&Value>, what: &str, url: &str) -> Refusal {
    let field = |name: &str| body.and_then(|body| body.get(name)).and_then(Value::as_str);
    // `com.amazonaws.glue#EntityNotFoundException`, or with a colon and an address behind it.
    let kind = field("__type").unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default();
    let said = field("Message").or_else(|| field("message"));
    let said: String = said.unwrap_or_default().chars().take(1000).collect();
    let of = |code: Code, message: String| {
        let detail = match (kind, said.as_str()) {
            ("", _) => format!("it answered with HTTP status {status}"),
            (kind, "") => kind.to_string(),
            (kind, said) => format!("{kind}: {said}"),
        };
        Error::new(code, message).with_detail(detail)
    };
    let login = |hint: &str| {
        of(Code::AuthenticationFailed, format!("AWS Glue at {url} refused this server's AWS credentials"))
            .with_hint(hint)
            .with_field("schema_registry.type")
    };
    let error = match (kind, status) {
        ("EntityNotFoundException", _) => {
            of(Code::UnknownSchema, format!("the schema registry of AWS Glue does not have {what}"))
        }
        ("AccessDeniedException", _) => login(
            "they need glue:GetSchemaVersion, and a sink glue:GetSchemaByDefinition, glue:RegisterSchemaVersion and glue:CreateSchema",
        ),
        (
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "IncompleteSignatureException"
            | "MissingAuthenticationTokenException"
            | "ExpiredTokenException"
            | "SignatureDoesNotMatch",
            _,
        ) => login("check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of the server, and its clock"),
        ("ThrottlingException" | "Throttling" | "RequestLimitExceeded" | "ConcurrentModificationException", _)
        | ("InternalServiceException" | "InternalFailure" | "OperationTimeoutException" | "ServiceUnavailable", _)
        | (_, 408 | 429 | 500..) => of(Code::Unreachable, format!("AWS Glue at {url} is not well")),
        ("InvalidInputException" | "ValidationException", _) => {
            of(Code::InvalidSchema, format!("the schema registry of AWS Glue refused {what}"))
        }
        ("ResourceNumberLimitExceededException", _) => {
            of(Code::ConnectorError, format!("the schema registry of AWS Glue has no room for {what}"))
                .with_hint("AWS limits schemas and versions: remove old ones, or ask for more")
        }
        ("", 401 | 403) => login("may they reach this address?"),
        ("", _) => of(Code::ConnectorError, format!("what answers at {url} is not AWS Glue"))
            .with_field("schema_registry.endpoint"),
        _ => of(Code::ConnectorError, format!("the schema registry of AWS Glue refused {what}")),
    };
    Refusal { error, exists: kind == "AlreadyExistsException" }
}

/// No answer came.
pub(super) fn no_answer(error: &reqwest::Error, url: &str) -> Error {
    if error.is_timeout() {
        return Error::new(Code::Timeout, format!("AWS Glue at {url} does not answer"));
    }
    if error.is_builder() {
        return Error::new(Code::InvalidOption, "option schema_registry.endpoint is not an address")
            .with_detail(causes(error))
            .with_field("schema_registry.endpoint");
    }
    Error::new(Code::Unreachable, format!("AWS Glue at {url} cannot be reached")).with_detail(causes(error))
}

/// The innermost cause: the outer ones rarely say why.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use laminar_core::Retry;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_answer_says_who_must_act() {
        let check = |status: u16, kind: &str, code: Code| {
            let body = json!({"__type": kind, "Message": "said so"});
            let refusal = refusal(status, Some(&body), "schema x", "http://glue");
            assert_eq!(refusal.error.code(), code, "{kind}");
            assert!(refusal.error.detail().unwrap().ends_with("said so"), "{:?}", refusal.error);
            refusal
        };
        check(400, "EntityNotFoundException", Code::UnknownSchema);
        check(400, "com.amazonaws.glue#EntityNotFoundException", Code::UnknownSchema);
        check(400, "AccessDeniedException", Code::AuthenticationFailed);
        check(400, "UnrecognizedClientException", Code::AuthenticationFailed);
        check(400, "InvalidInputException", Code::InvalidSchema);
        assert!(check(400, "AlreadyExistsException", Code::ConnectorError).exists);
        for (status, kind) in [(400, "ThrottlingException"), (500, "InternalServiceException"), (503, "Any")] {
            assert_eq!(check(status, kind, Code::Unreachable).error.retry(), Retry::Backoff);
        }
        let strange = refusal(404, None, "schema x", "http://glue").error;
        assert_eq!((strange.code(), strange.field()), (Code::ConnectorError, Some("schema_registry.endpoint")));
    }
}
