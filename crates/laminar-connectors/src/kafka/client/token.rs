//! Tokens for SASL OAUTHBEARER: given, made, fetched from an identity provider, or signed with AWS credentials.
//!
//! ```text
//!  first client of a cluster ─► first(): waits ─► the token goes to librdkafka before it connects
//!  every client, now and then ─► newer(): never waits; a token past 4/5 of its life is replaced by a thread meanwhile
//! ```
//!
//! The rule that must stay true: no token, secret or answer of a provider shows in an error, a log or a debug print.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use aws_types::region::Region;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use laminar_core::options::Secret;
use laminar_core::time::{Clock, SystemClock};
use laminar_core::{Code, Error, Result};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{self, escaped};

/// How long getting a token may take.
const FETCH: Duration = Duration::from_secs(5);
/// Pause after a failure, in milliseconds.
const RETRY_MS: i64 = 10_000;
/// Life of a token whose provider does not say, in milliseconds.
const UNTOLD_MS: i64 = 300_000;
/// Life of a token that is not a JWT and is given as it is: librdkafka must be told one.
const GIVEN_MS: i64 = 365 * 24 * 3_600_000;
/// Longest answer of an identity provider.
const LONGEST: usize = 256 << 10;

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// As the user wrote it.
    Given(Secret),
    /// Made here and signed by nobody, for brokers of tests.
    Unsecured { principal: String, claim: String, scope: Option<(String, Vec<String>)>, life: Duration },
    /// OAuth 2.0 client credentials, RFC 6749 section 4.4.
    ClientCredentials {
        endpoint: String,
        client_id: String,
        client_secret: Secret,
        scope: Option<String>,
        /// PEM file of the authorities that sign the provider's certificate.
        authorities: Option<String>,
    },
    /// A presigned `kafka-cluster:Connect` of AWS, from the server's credential chain, as a role if one is named.
    MskIam { region: String, role: Option<(String, String)> },
}

/// A token as librdkafka takes it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub value: String,
    pub principal: String,
    /// Since 1970.
    pub expires_ms: i64,
    made_ms: i64,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(until {})", self.expires_ms)
    }
}

impl Token {
    fn is_old(&self, now_ms: i64) -> bool {
        now_ms >= self.made_ms + (self.expires_ms - self.made_ms) / 5 * 4
    }
}

/// The logins with tokens of this process: clients of the same one share its token, so that its provider is asked once for all.
#[derive(Default)]
pub(crate) struct Logins(Mutex<Vec<Weak<Tokens>>>);

impl Logins {
    /// Those that are in use and would be the same, else these.
    pub fn shared(&self, tokens: Tokens) -> Arc<Tokens> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        if let Some(same) = all.iter().filter_map(Weak::upgrade).find(|one| one.is_same(&tokens)) {
            return same;
        }
        let tokens = Arc::new(tokens);
        all.push(Arc::downgrade(&tokens));
        tokens
    }
}

/// The tokens of all clients with one login.
pub(crate) struct Tokens {
    origin: Origin,
    /// Sent with each token, name and value.
    pub extensions: Vec<(String, String)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Arc<Token>>,
    failure: Option<Error>,
    is_fetching: bool,
    not_before_ms: i64,
}

impl Tokens {
    pub fn new(origin: Origin, extensions: Vec<(String, String)>) -> Self {
        Self { origin, extensions, state: Mutex::default() }
    }

    /// Would the same tokens come from both?
    pub fn is_same(&self, other: &Tokens) -> bool {
        self.origin == other.origin && self.extensions == other.extensions
    }

    /// A token with most of its life before it. Waits at most [`FETCH`].
    ///
    /// Errors: `authentication_failed`, `unreachable`, `invalid_option`.
    pub fn first(&self) -> Result<Arc<Token>> {
        let now = now_ms();
        if let Some(token) = self.state().last.clone().filter(|token| !token.is_old(now)) {
            return Ok(token);
        }
        self.keep(fetch(&self.origin))
    }

    /// The token to use from now on, if it is not the one that ends at `known`. Never waits.
    pub fn newer(self: &Arc<Self>, known: i64) -> Option<Arc<Token>> {
        let now = now_ms();
        let mut state = self.state();
        let is_old = state.last.as_ref().is_none_or(|token| token.is_old(now));
        if is_old && !state.is_fetching && now >= state.not_before_ms {
            state.is_fetching = true;
            let tokens = Arc::clone(self);
            let fetching = move || drop(tokens.keep(fetch(&tokens.origin)));
            state.is_fetching = thread::Builder::new().name("kafka-token".into()).spawn(fetching).is_ok();
        }
        state.last.clone().filter(|token| token.expires_ms != known)
    }

    /// A broker refused the token that ends at `until`: nobody else is to try it.
    pub fn forget(&self, until: i64) {
        let mut state = self.state();
        if state.last.as_ref().is_some_and(|token| token.expires_ms == until) {
            state.last = None;
        }
    }

    /// Why there is no new token.
    pub fn failure(&self) -> Option<Error> {
        self.state().failure.clone()
    }

    fn keep(&self, fetched: Result<Token>) -> Result<Arc<Token>> {
        let mut state = self.state();
        state.is_fetching = false;
        match fetched {
            Ok(token) => {
                let token = Arc::new(token);
                state.failure = None;
                state.last = Some(Arc::clone(&token));
                Ok(token)
            }
            Err(error) => {
                tracing::warn!(%error, "there is no new token to log in to kafka with");
                state.failure = Some(error.clone());
                state.not_before_ms = now_ms() + RETRY_MS;
                Err(error)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_ms() -> i64 {
    SystemClock.now_micros() / 1000
}

/// Waits at most [`FETCH`].
fn fetch(origin: &Origin) -> Result<Token> {
    http::wait(async {
        match tokio::time::timeout(FETCH, origin.token(now_ms())).await {
            Ok(token) => token,
            Err(_) => Err(Error::new(Code::Timeout, format!("no token came {}", origin.place()))
                .with_detail(format!("nothing after {} s", FETCH.as_secs()))),
        }
    })
}

impl Origin {
    async fn token(&self, now: i64) -> Result<Token> {
        match self {
            Self::Given(token) => given(token.expose(), now),
            Self::Unsecured { principal, claim, scope, life } => {
                Ok(unsecured(principal, claim, scope.as_ref(), *life, now))
            }
            Self::ClientCredentials { .. } => self.client_credentials(now).await,
            Self::MskIam { region, role } => msk_iam(region, role.as_ref(), now).await,
        }
    }

    /// For messages: `from …`.
    fn place(&self) -> String {
        match self {
            Self::Given(_) | Self::Unsecured { .. } => "from the options".to_string(),
            Self::ClientCredentials { endpoint, .. } => format!("from {endpoint}"),
            Self::MskIam { .. } => "from the AWS credentials of this server".to_string(),
        }
    }

    async fn client_credentials(&self, now: i64) -> Result<Token> {
        let Self::ClientCredentials { endpoint, client_id, client_secret, scope, authorities } = self else {
            return Err(Error::internal("not client credentials"));
        };
        let away = |detail: String| {
            Error::new(Code::Unreachable, format!("no token came from {endpoint}"))
                .with_detail(detail)
                .with_hint("check sasl.oauthbearer.token.endpoint.url and https.ca.location")
                .with_field("sasl.oauthbearer.token.endpoint.url")
        };
        // A redirect would carry the secret to another place.
        let mut client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        if let Some(file) = authorities {
            let pem = std::fs::read(file).map_err(|e| {
                Error::new(Code::FileError, format!("cannot read {file}: {e}")).with_field("https.ca.location")
            })?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| {
                Error::new(Code::InvalidOption, format!("{file} is not a PEM file of certificates"))
                    .with_detail(e.to_string())
                    .with_field("https.ca.location")
            })?;
            client = client.tls_certs_merge(certificates);
        }
        let client = client.build().map_err(|e| Error::internal(format!("cannot make an HTTP client: {e}")))?;
        let login = format!("{}:{}", escaped(client_id), escaped(client_secret.expose()));
        let mut form = "grant_type=client_credentials".to_string();
        if let Some(scope) = scope {
            form = format!("{form}&scope={}", escaped(scope));
        }
        let request = client
            .post(endpoint)
            .header("authorization", format!("Basic {}", BASE64_STANDARD.encode(login)))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(form);
        let mut answer = request.send().await.map_err(|e| away(causes(&e)))?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| away(causes(&e)))? {
            if body.len() + chunk.len() > LONGEST {
                return Err(away(format!("its answer is longer than {LONGEST} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        // As the provider itself says: later.
        let is_later = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        if status.is_client_error() && !is_later {
            let said: Refusal = serde_json::from_slice(&body).unwrap_or_default();
            let said = [said.error, said.error_description].into_iter().flatten().collect::<Vec<_>>().join(": ");
            let detail = format!("HTTP {} {}", status.as_u16(), said.chars().take(200).collect::<String>());
            return Err(Error::new(Code::AuthenticationFailed, format!("{endpoint} gives us no token"))
                .with_detail(detail.trim_end())
                .with_hint(
                    "check sasl.oauthbearer.client.id, sasl.oauthbearer.client.secret and sasl.oauthbearer.scope",
                )
                .with_field("sasl.oauthbearer.client.id"));
        }
        if !status.is_success() {
            return Err(away(format!("HTTP {}", status.as_u16())));
        }
        let grant: Grant = serde_json::from_slice(&body).map_err(|_| away("its answer has no access_token".into()))?;
        let claims = claims(&grant.access_token);
        let told = grant.expires_in.map(|seconds| now.saturating_add(seconds.saturating_mul(1000)));
        let expires_ms = told.or_else(|| expiry(&claims)).unwrap_or(now + UNTOLD_MS);
        Ok(Token { principal: subject(&claims), value: grant.access_token, expires_ms, made_ms: now })
    }
}

#[derive(Deserialize)]
struct Grant {
    access_token: String,
    expires_in: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    error: Option<String>,
    error_description: Option<String>,
}

fn given(token: &str, now: i64) -> Result<Token> {
    let claims = claims(token);
    let expires_ms = expiry(&claims).unwrap_or(now + GIVEN_MS);
    if expires_ms <= now {
        return Err(Error::new(Code::AuthenticationFailed, "the token of auth.token has expired")
            .with_hint("give a new one, or let Laminar fetch tokens with sasl.oauthbearer.method = 'oidc'")
            .with_field("auth.token"));
    }
    Ok(Token { value: token.to_string(), principal: subject(&claims), expires_ms, made_ms: now })
}

/// RFC 7515 appendix A.5: a JWT that nobody signed.
fn unsecured(principal: &str, claim: &str, scope: Option<&(String, Vec<String>)>, life: Duration, now: i64) -> Token {
    let expires_ms = now + i64::try_from(life.as_millis()).unwrap_or(UNTOLD_MS);
    let seconds = |ms: i64| Value::from(ms / 1000);
    let mut claims = json!({ claim: principal, "iat": seconds(now), "exp": seconds(expires_ms) });
    if let (Some((name, scope)), Some(claims)) = (scope, claims.as_object_mut()) {
        claims.insert(name.clone(), json!(scope));
    }
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let value = format!("{}.{}.", part(&json!({ "alg": "none" })), part(&claims));
    Token { value, principal: principal.to_string(), expires_ms, made_ms: now }
}

async fn msk_iam(region: &str, role: Option<&(String, String)>, now: i64) -> Result<Token> {
    let at = Region::new(region.to_string());
    let signed = match role {
        None => aws_msk_iam_sasl_signer::generate_auth_token(at).await,
        Some((role, session)) => {
            aws_msk_iam_sasl_signer::generate_auth_token_from_role(at, role.clone(), session.clone()).await
        }
    };
    let (value, expires_ms) = signed.map_err(|error| {
        let error = Error::new(Code::AuthenticationFailed, "no token can be signed with AWS credentials")
            .with_detail(causes(&error))
            .with_field("auth.type");
        match role {
            None => error.with_hint(
                "give the server AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of its instance",
            ),
            Some((role, _)) => error.with_hint(format!("may this server's credentials assume {role}?")),
        }
    })?;
    Ok(Token { value, principal: String::new(), expires_ms, made_ms: now })
}

/// What a JWT says of itself; nothing if it is none.
fn claims(token: &str) -> Value {
    let read = || {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    read().unwrap_or(Value::Null)
}

fn expiry(claims: &Value) -> Option<i64> {
    claims.get("exp").and_then(Value::as_f64).map(|seconds| (seconds * 1000.0) as i64)
}

fn subject(claims: &Value) -> String {
    claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_string()
}

/// An error and what it comes from: the outer one rarely says why.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
