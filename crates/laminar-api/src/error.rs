//! Errors as HTTP answers: one JSON shape for every failure, with the same codes as SQL and the CLI.
//!
//! ```json
//! {"error": {"code": "unknown_option", "message": "connector kafka has no option batchsize",
//!            "details": {"field": "batchsize", "position": {"line": 3, "column": 5}, "hint": "did you mean batch_size?",
//!                        "sqlstate": "42704", "retryable": false}}}
//! ```
//!
//! The status follows from the code alone ([`status_of`]), so a client may look at either. Requests that never reach a
//! handler (unknown path, wrong method, body too large) get the same shape with the status HTTP has for them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use laminar_core::{Code, Error, ErrorKind, Retry};
use laminar_session::PositionInfo;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorInfo,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorInfo {
    /// Stable name of what went wrong.
    pub code: String,
    /// What failed, and on which object.
    pub message: String,
    pub details: ErrorDetails,
}

/// Absent fields are not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetails {
    /// The option or request field to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The place in the SQL that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<PositionInfo>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// More facts, such as what the outside system answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The nearest SQLSTATE.
    #[serde(default)]
    pub sqlstate: String,
    /// The same request may succeed later without being changed.
    #[serde(default)]
    pub retryable: bool,
}

impl ErrorBody {
    pub fn new(error: &Error) -> Self {
        Self {
            error: ErrorInfo {
                code: error.code().as_str().to_string(),
                message: error.message().to_string(),
                details: ErrorDetails {
                    field: error.field().map(str::to_string),
                    position: error.location().map(|l| PositionInfo { line: l.line, column: l.column }),
                    hint: error.hint().map(str::to_string),
                    detail: error.detail().map(str::to_string),
                    sqlstate: error.code().sqlstate().to_string(),
                    retryable: error.retry() == Retry::Backoff,
                },
            },
        }
    }
}

/// What handlers return when they fail.
#[derive(Debug)]
pub struct ApiError {
    error: Error,
    status: StatusCode,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// An error of HTTP itself, whose status its code does not tell.
    pub fn http(status: StatusCode, error: Error) -> Self {
        Self { error, status }
    }
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Error::new(Code::InvalidRequest, message).into()
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Error::new(Code::NotFound, message).into()
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = status_of(error.code());
        Self { error, status }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self.error.kind() {
            ErrorKind::Internal => tracing::error!(code = %self.error.code(), error = %self.error, "request failed"),
            ErrorKind::External => tracing::warn!(code = %self.error.code(), error = %self.error, "request failed"),
            ErrorKind::User => tracing::debug!(code = %self.error.code(), error = %self.error, "request refused"),
        }
        (self.status, Json(ErrorBody::new(&self.error))).into_response()
    }
}

/// The HTTP status of a code.
///
/// 400: the request is wrong by itself. 404: it names something that does not exist. 409: it is fine, but not in this
/// state of the system. 422: it is well-formed SQL that does not fit its objects. 5xx: not the caller's fault.
pub fn status_of(code: Code) -> StatusCode {
    use Code::*;
    match code {
        SyntaxError | StatementTooComplex | InvalidRequest | InvalidName | UnknownOption | MissingOption
        | InvalidOption | ConflictingOptions | UnknownSetting => StatusCode::BAD_REQUEST,
        ForbiddenOption | ForbiddenOrigin => StatusCode::FORBIDDEN,
        UnknownTable | UnknownConnection | UnknownConnector | UnknownSecret | UnknownPipeline | UnknownJob
        | NotFound => StatusCode::NOT_FOUND,
        DuplicateName | InUse | WrongState | CheckpointMismatch | Cancelled => StatusCode::CONFLICT,
        LimitExceeded => StatusCode::TOO_MANY_REQUESTS,
        Unreachable | Interrupted | MetadataUnavailable | StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ConnectorError | DataLoss | Fenced | CommitUnknown => StatusCode::BAD_GATEWAY,
        Timeout => StatusCode::GATEWAY_TIMEOUT,
        Internal | CheckpointDamaged => StatusCode::INTERNAL_SERVER_ERROR,
        // What the outside system says about the caller's own names and rows, and every other mistake in a statement.
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

#[cfg(test)]
mod tests {
    use laminar_core::Location;

    use super::*;

    #[test]
    fn user_errors_are_4xx_and_the_others_mostly_5xx() {
        for code in Code::ALL {
            let status = status_of(*code);
            match code.kind() {
                ErrorKind::User => assert!(status.is_client_error(), "{code} is {status}"),
                ErrorKind::Internal => assert!(status.is_server_error(), "{code} is {status}"),
                ErrorKind::External => assert!(status.is_server_error() || status == 422, "{code} is {status}"),
            }
        }
    }

    #[test]
    fn absent_details_are_left_out() {
        let error = Error::new(Code::UnknownColumn, "no column x").at(Location { line: 2, column: 7 });
        let json = serde_json::to_string(&ErrorBody::new(&error)).unwrap();
        assert_eq!(
            json,
            r#"{"error":{"code":"unknown_column","message":"no column x","details":{"position":{"line":2,"column":7},"sqlstate":"42703","retryable":false}}}"#
        );
    }
}
