//! One request to AWS Glue: JSON 1.1 over HTTP, signed (Signature Version 4) with the server's own AWS credentials.
//!
//! ```text
//!  POST /        X-Amz-Target: AWSGlue.GetSchemaVersion     Authorization: AWS4-HMAC-SHA256 Credential=…/glue/aws4_request, …
//!  {"SchemaVersionId": "…"}                                                            ─► {…}, or {"__type": "…Exception", …}
//! ```
//!
//! The rule that must stay true: no credential shows in an error or a debug print.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_types::region::Region;
use laminar_core::time::{Clock, SystemClock};
use laminar_core::{Code, Error, Result};
use reqwest::redirect::Policy;
use serde_json::Value;
use tokio::time::timeout;

use super::glue_error;
use super::patience::ANSWER;

/// Longest answer. The longest schema that Glue keeps has 170 kB.
const LONGEST: usize = 4 << 20;
const JSON: &str = "application/x-amz-json-1.1";

/// Where one region's Glue is, and who asks it.
pub(super) struct Aws {
    client: reqwest::Client,
    region: String,
    url: String,
    /// Instead of the server's own.
    credentials: Option<Credentials>,
}

/// The credentials are nobody's business.
impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aws({})", self.url)
    }
}

impl Aws {
    /// `endpoint`: another address than the region's own. No I/O. Errors: `internal`.
    pub fn new(region: &str, endpoint: Option<&str>) -> Result<Self> {
        // Each call has a runtime of its own, and a connection that is kept would outlive it. A signature holds for one host.
        let client = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .connect_timeout(ANSWER)
            .timeout(ANSWER)
            .redirect(Policy::none());
        let client = client.build().map_err(|e| Error::internal(format!("cannot make an HTTP client: {e}")))?;
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let own = || format!("https://glue.{region}.{domain}");
        let url = format!("{}/", endpoint.map_or_else(own, |url| url.trim_end_matches('/').to_string()));
        Ok(Self { client, region: region.to_string(), url, credentials: None })
    }

    /// The same, with these credentials.
    #[cfg(test)]
    pub fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The answer to `operation`, which is about `what`.
    ///
    /// Errors are those of [`glue_error`]; `authentication_failed` and `unreachable` where there are no credentials.
    pub async fn call(&self, operation: &str, request: &Value, what: &str) -> Result<Value, glue_error::Refusal> {
        let credentials = match &self.credentials {
            Some(given) => given.clone(),
            None => self.own_credentials().await?,
        };
        let body = request.to_string();
        let now = Duration::from_micros(u64::try_from(SystemClock.now_micros()).unwrap_or(0));
        let headers = self.headers(operation, &body, credentials, SystemTime::UNIX_EPOCH + now)?;
        let mut post = self.client.post(&self.url);
        for (name, value) in headers {
            post = post.header(name, value);
        }
        let mut answer = post.body(body).send().await.map_err(|error| glue_error::no_answer(&error, &self.url))?;
        let status = answer.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| glue_error::no_answer(&error, &self.url))? {
            if bytes.len() + chunk.len() > LONGEST {
                let message = format!("the answer of {} is longer than {LONGEST} bytes", self.url);
                return Err(Error::new(Code::ConnectorError, message).into());
            }
            bytes.extend_from_slice(&chunk);
        }
        let read: Option<Value> = serde_json::from_slice(&bytes).ok();
        match (status, read) {
            (200, Some(answer)) => Ok(answer),
            (_, read) => Err(glue_error::refusal(status, read.as_ref(), what, &self.url)),
        }
    }

    /// What the SDK's default chain finds: the environment, a profile, the role of the container or the instance.
    async fn own_credentials(&self) -> Result<Credentials> {
        let asked = async {
            let config = aws_config::from_env().region(Region::new(self.region.clone())).load().await;
            let provider =
                config.credentials_provider().ok_or_else(|| CredentialsError::not_loaded("there is no chain"))?;
            provider.provide_credentials().await
        };
        let none = |detail: String| {
            Error::new(Code::AuthenticationFailed, "there are no AWS credentials to ask Glue's schema registry with")
                .with_detail(detail)
                .with_hint(
                    "give the server AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of its instance",
                )
                .with_field("schema_registry.type")
        };
        match timeout(ANSWER, asked).await {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(CredentialsError::ProviderTimedOut(_))) | Err(_) => {
                Err(Error::new(Code::Unreachable, "the provider of the server's AWS credentials does not answer"))
            }
            Ok(Err(error)) => Err(none(glue_error::causes(&error))),
        }
    }

    /// All headers of the request but those that any has.
    fn headers(
        &self,
        operation: &str,
        body: &str,
        credentials: Credentials,
        now: SystemTime,
    ) -> Result<Vec<(String, String)>> {
        let unsigned = |error: &dyn fmt::Display| Error::internal(format!("a request cannot be signed: {error}"));
        let target = format!("AWSGlue.{operation}");
        let mut headers = vec![("content-type".to_string(), JSON.to_string()), ("x-amz-target".to_string(), target)];
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("glue")
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(&error))?
            .into();
        let request = SignableRequest::new(
            "POST",
            &self.url,
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            SignableBody::Bytes(body.as_bytes()),
        );
        let signed = sign(request.map_err(|error| unsigned(&error))?, &parameters).map_err(|error| unsigned(&error))?;
        let (instructions, _) = signed.into_parts();
        headers.extend(instructions.headers().map(|(name, value)| (name.to_string(), value.to_string())));
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As botocore signs the same request: `SigV4Auth(Credentials("AKID", "secret", "token"), "glue", "eu-west-1")`.
    #[test]
    fn a_request_is_signed_as_amazons_own_client_signs_it() {
        let aws = Aws::new("eu-west-1", None).unwrap();
        assert_eq!(aws.url(), "https://glue.eu-west-1.amazonaws.com/");
        let credentials = Credentials::new("AKID", "secret", Some("token".into()), None, "the test");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let headers = aws.headers("GetSchemaVersion", r#"{"SchemaVersionId":"x"}"#, credentials, now).unwrap();
        let value = |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        assert_eq!(value("x-amz-target"), Some("AWSGlue.GetSchemaVersion"));
        assert_eq!(value("x-amz-date"), Some("20231114T221320Z"));
        assert_eq!(value("x-amz-security-token"), Some("token"));
        assert_eq!(
            value("authorization"),
            Some(
                "AWS4-HMAC-SHA256 Credential=AKID/20231114/eu-west-1/glue/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=8929dbcafd2bfc12df19fd98f5215a36ba454bff0032627530b74c39f5d27740"
            )
        );
    }

    #[test]
    fn china_has_a_domain_of_its_own() {
        assert_eq!(Aws::new("cn-north-1", None).unwrap().url(), "https://glue.cn-north-1.amazonaws.com.cn/");
        assert_eq!(Aws::new("eu-west-1", Some("http://127.0.0.1:5000/")).unwrap().url(), "http://127.0.0.1:5000/");
    }
}
