//! Request parts as typed values; whatever does not fit becomes our JSON error, naming the field.
//!
//! A body must say `Content-Type: application/json`: a second lock beside `hosts`, since a browser sends such a request to
//! another site only after a preflight, which we do not answer.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use laminar_core::{Code, Error};
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        require_json(request.headers())?;
        let bytes = whole(request, state, BODY_WAIT).await?;
        parse(&bytes).map(Self)
    }
}

/// A JSON body that may be missing: an empty one means `T::default()`.
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let json = require_json(request.headers());
        let bytes = whole(request, state, BODY_WAIT).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        json?;
        parse(&bytes).map(Self)
    }
}

/// A body takes at most this long to arrive: a client that stops half-way does not hold its connection for ever.
const BODY_WAIT: Duration = Duration::from_secs(60);

async fn whole<S: Send + Sync>(request: Request, state: &S, wait: Duration) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(wait, Bytes::from_request(request, state)).await {
        Ok(bytes) => Ok(bytes?),
        Err(_elapsed) => {
            let error = Error::new(Code::Timeout, format!("the body did not arrive within {wait:?}"));
            Err(ApiError::http(StatusCode::REQUEST_TIMEOUT, error))
        }
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let fact =
        if given.is_empty() { "no content type is given".to_string() } else { format!("the content type is {given}") };
    let error = Error::new(Code::InvalidRequest, fact).with_hint("send the body as Content-Type: application/json");
    Err(ApiError::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, error))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::invalid_request("the body is empty; a JSON object is expected"));
    }
    // serde would take an array for the fields in their order, too.
    if bytes.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
        return Err(ApiError::invalid_request("the body is an array; a JSON object is expected"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| body_error(&error))?;
    json.end().map_err(|error| ApiError::invalid_request(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

fn body_error(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let inner = error.inner();
    if !inner.is_data() {
        return ApiError::invalid_request(format!("the body is not JSON: {inner}"));
    }
    // serde appends its own place, which counts bytes of the body; the field's path says more.
    let text = inner.to_string();
    let fact = text.rsplit_once(" at line ").map_or(text.as_str(), |(fact, _)| fact);
    let path = error.path().to_string();
    let refused = Error::new(Code::InvalidRequest, fact);
    match backticked(fact) {
        Some(field) if fact.starts_with("missing field") || fact.starts_with("unknown field") => {
            refused.with_field(field).into()
        }
        _ if path != "." => refused.with_field(path).into(),
        _ => refused.into(),
    }
}

fn backticked(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let limit = crate::MAX_BODY_BYTES;
            let error = Error::new(Code::LimitExceeded, format!("the body is larger than {limit} bytes"));
            return Self::http(StatusCode::PAYLOAD_TOO_LARGE, error);
        }
        Self::invalid_request(format!("the body cannot be read: {}", rejection.body_text()))
    }
}

/// The query string. Fields that are not known are refused: none is silently ignored.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(QueryRejection::FailedToDeserializeQueryString(rejection)) => {
                let text =
                    std::error::Error::source(&rejection).map_or_else(|| rejection.body_text(), ToString::to_string);
                let error = Error::new(Code::InvalidRequest, format!("the query string does not fit: {text}"));
                let error = match text.split_once(':') {
                    Some((field, _)) if !field.contains(' ') => error.with_field(field),
                    _ => match backticked(&text) {
                        Some(field) => error.with_field(field),
                        None => error,
                    },
                };
                Err(error.into())
            }
            Err(other) => Err(ApiError::invalid_request(other.body_text())),
        }
    }
}

/// The id or name in the path.
pub struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        path::<String, S>(parts, state).await.map(Self)
    }
}

/// Two ids in the path, outer first.
pub struct Ids(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        path::<(String, String), S>(parts, state).await.map(|(outer, inner)| Self(outer, inner))
    }
}

async fn path<T: DeserializeOwned + Send, S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<T, ApiError> {
    match axum::extract::Path::<T>::from_request_parts(parts, state).await {
        Ok(axum::extract::Path(value)) => Ok(value),
        Err(PathRejection::FailedToDeserializePathParams(rejection)) => {
            Err(ApiError::invalid_request(rejection.body_text()))
        }
        Err(other) => Err(ApiError::invalid_request(other.body_text())),
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use futures::StreamExt;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Thing {
        name: String,
        count: Option<Inner>,
    }
    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Inner {
        deep: u32,
    }

    async fn check(body: &str, expected: &str) {
        let error = parse::<Thing>(body.as_bytes()).map(|_| ()).unwrap_err();
        let response = error.into_response();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let json: crate::error::ErrorBody = serde_json::from_slice(&bytes).unwrap();
        let shown =
            format!("{}: {} [{}]", json.error.code, json.error.message, json.error.details.field.unwrap_or_default());
        assert_eq!(shown, expected);
    }

    #[tokio::test]
    async fn a_body_that_never_comes_is_given_up() {
        let parts = futures::stream::iter([Ok::<_, std::io::Error>("{")]).chain(futures::stream::pending());
        let request = Request::new(axum::body::Body::from_stream(parts));
        let error = whole(request, &(), Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(error.into_response().status(), 408);
    }

    #[tokio::test]
    async fn body_errors_name_the_field() {
        check(
            r#"{"name": "a", "count": {"deep": "x"}}"#,
            "invalid_request: invalid type: string \"x\", expected u32 [count.deep]",
        )
        .await;
        check(
            r#"{"name": "a", "other": 1}"#,
            "invalid_request: unknown field `other`, expected `name` or `count` [other]",
        )
        .await;
        check(r#"{}"#, "invalid_request: missing field `name` [name]").await;
        check(
            r#"{"name": "a"} x"#,
            "invalid_request: the body is not JSON: trailing characters at line 1 column 15 []",
        )
        .await;
        check(r#"{"name": "#, "invalid_request: the body is not JSON: EOF while parsing a value at line 1 column 9 []")
            .await;
        check("", "invalid_request: the body is empty; a JSON object is expected []").await;
    }
}
