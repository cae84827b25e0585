//! Who we are to the brokers, and how the connection is protected: the login's options, and what librdkafka is told of them.
//!
//! ```text
//!  none             PLAINTEXT, SSL
//!  name, password   PLAIN, SCRAM-SHA-256, SCRAM-SHA-512
//!  a token          OAUTHBEARER: auth.token, sasl.oauthbearer.*, or signed for AWS MSK
//!  a ticket         GSSAPI, in a build with the feature `gssapi`
//! ```
//!
//! The rule that must stay true: a login that is half given is an error, never a connection without one.

use std::time::Duration;

use laminar_core::options::{HumanDuration, OptionEntry, Secret, missing};
use laminar_core::{Code, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::{AuthType, Mechanism, Protocol};

use super::token::{Origin, Tokens};
use crate::kafka::options::{SUBJECT, Written};

/// Where the token of a login with one comes from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct TokenOptions {
    /// With `auth.mechanism = 'OAUTHBEARER'`: the token itself, as `${secret:name}`. It is used until it expires.
    #[serde(rename = "auth.token")]
    pub token: Option<Secret>,
    /// With `auth.type = 'aws_msk_iam'`: the cluster's AWS region. Default: what the name of the first broker says.
    #[serde(rename = "auth.region")]
    pub region: Option<String>,
    /// With `auth.type = 'aws_msk_iam'`: the role to assume. Default: none; the server's own AWS credentials are used.
    #[serde(rename = "auth.role_arn")]
    pub role_arn: Option<String>,
    /// With `auth.role_arn`: how AWS's logs name the session. Default: `laminar`.
    #[serde(rename = "auth.role_session_name")]
    pub role_session_name: Option<String>,
    /// How tokens are got: `oidc` asks an identity provider with the client's credentials.
    #[serde(rename = "sasl.oauthbearer.method")]
    pub method: Option<Method>,
    /// With `oidc`: the provider's token endpoint.
    #[serde(rename = "sasl.oauthbearer.token.endpoint.url")]
    pub endpoint: Option<String>,
    /// With `oidc`: the name that the provider knows us by.
    #[serde(rename = "sasl.oauthbearer.client.id")]
    pub client_id: Option<String>,
    /// With `oidc`: the password that goes with it; best given as `${secret:name}`.
    #[serde(rename = "sasl.oauthbearer.client.secret")]
    pub client_secret: Option<Secret>,
    /// With `oidc`: what access to ask for.
    #[serde(rename = "sasl.oauthbearer.scope")]
    pub scope: Option<String>,
    /// Sent to the brokers with each token: `name=value`, several separated by commas.
    #[serde(rename = "sasl.oauthbearer.extensions")]
    pub extensions: Option<String>,
    /// Tokens that nobody signed, which only brokers for tests take. Needs `sasl.oauthbearer.config`.
    #[serde(rename = "enable.sasl.oauthbearer.unsecure.jwt")]
    pub unsecured: Option<bool>,
    /// What an unsecured token says: `principal=… scope=… lifeSeconds=…`, as librdkafka documents it.
    #[serde(rename = "sasl.oauthbearer.config")]
    pub unsecured_config: Option<String>,
    /// PEM file of the authorities that sign the identity provider's certificate. Default: those that the system trusts.
    #[serde(rename = "https.ca.location")]
    pub authorities: Option<String>,
}

/// How tokens are got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// They are given with `auth.token`, or made unsecured.
    Default,
    /// With OAuth's client credentials.
    Oidc,
}

/// What librdkafka is told of the login, and the tokens that it is given.
pub(crate) struct Login {
    pub protocol: Protocol,
    pub properties: Vec<(&'static str, String)>,
    pub tokens: Option<Tokens>,
}

/// The login that the options together ask for.
///
/// Errors: `missing_option`, `conflicting_options`, `invalid_option`, `not_supported`.
pub(crate) fn login(written: &Written) -> Result<Login> {
    let (client, protocol) = (&written.client, protocol(written)?);
    let mut login = Login { protocol, properties: Vec::new(), tokens: None };
    if !protocol.has_login() {
        return Ok(login);
    }
    let is_iam = client.auth_type == Some(AuthType::AwsMskIam);
    let mechanism = if is_iam { Mechanism::OauthBearer } else { mechanism(written) };
    login.properties.push(("sasl.mechanism", mechanism.as_str().to_string()));
    match mechanism {
        Mechanism::Plain | Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
            let Some(username) = &client.auth_username else { return Err(missing("auth.username", SUBJECT)) };
            let Some(password) = &client.auth_password else { return Err(missing("auth.password", SUBJECT)) };
            login.properties.push(("sasl.username", username.clone()));
            login.properties.push(("sasl.password", password.expose().to_string()));
        }
        Mechanism::OauthBearer => {
            let origin = if is_iam { msk_iam(written)? } else { origin(written)? };
            login.tokens = Some(Tokens::new(origin, extensions(written)?));
        }
        Mechanism::Gssapi => kerberos(written)?,
    }
    Ok(login)
}

/// Security protocol that the options together ask for. Whether the login is complete is not looked at.
pub(crate) fn protocol(written: &Written) -> Result<Protocol> {
    let client = &written.client;
    let conflict = |key: &str, what: &str| written.error(key, Code::ConflictingOptions, what);
    let wants_login = match (client.auth_type, part_of_login(written)) {
        (Some(AuthType::None), Some(key)) => {
            return Err(conflict(key, &format!("{key} is given and auth.type is none")));
        }
        (Some(kind), _) => kind != AuthType::None,
        (None, part) => part.is_some(),
    };
    if let (Some(a), Some(b)) = (client.auth_protocol, client.security_protocol)
        && a != b
    {
        return Err(conflict("security.protocol", "auth.protocol and security.protocol differ"));
    }
    if client.auth_type == Some(AuthType::AwsMskIam) {
        if client.auth_mechanism.is_some_and(|mechanism| mechanism != Mechanism::OauthBearer) {
            return Err(conflict("auth.mechanism", "auth.mechanism is given and auth.type is aws_msk_iam")
                .with_hint("remove auth.mechanism: MSK IAM has its own"));
        }
        if client.auth_username.is_some() || client.auth_password.is_some() {
            return Err(conflict(
                "auth.username",
                "auth.username or auth.password is given and auth.type is aws_msk_iam",
            )
            .with_hint("remove them: MSK IAM uses the server's AWS credentials"));
        }
    }
    let protocol = client.auth_protocol.or(client.security_protocol);
    let with_tls = protocol.map(Protocol::has_tls);
    if let (Some(tls), Some(enabled)) = (with_tls, client.ssl_enable)
        && tls != enabled
    {
        return Err(conflict("ssl.enable", "ssl.enable and security.protocol differ"));
    }
    let files = [&client.ssl_ca_location, &client.ssl_certificate_location].iter().any(|file| file.is_some())
        || ["ssl.ca.pem", "ssl.certificate.pem", "ssl.keystore.location"].iter().any(|key| written.has_property(key));
    match (protocol, wants_login) {
        (Some(protocol), true) if !protocol.has_login() => {
            Err(conflict("auth.type", "a login needs SASL_SSL or SASL_PLAINTEXT as protocol"))
        }
        (Some(protocol), _) => Ok(protocol),
        (None, true) if client.ssl_enable == Some(false) => Ok(Protocol::SaslPlaintext),
        (None, true) => Ok(Protocol::SaslSsl),
        (None, false) if client.ssl_enable.unwrap_or(files) => Ok(Protocol::Ssl),
        (None, false) => Ok(Protocol::Plaintext),
    }
}

/// An option that is of use to a login only; `None`: no such option is given.
fn part_of_login(written: &Written) -> Option<&'static str> {
    let (client, token) = (&written.client, &written.token);
    let parts = [
        ("auth.username", client.auth_username.is_some()),
        ("auth.password", client.auth_password.is_some()),
        ("auth.mechanism", client.auth_mechanism.is_some()),
        ("auth.token", token.token.is_some()),
        ("sasl.oauthbearer.token.endpoint.url", token.endpoint.is_some()),
        ("sasl.oauthbearer.method", token.method == Some(Method::Oidc)),
        ("enable.sasl.oauthbearer.unsecure.jwt", token.unsecured == Some(true)),
    ];
    parts.into_iter().find_map(|(key, is_given)| is_given.then_some(key))
}

/// Tokens are asked of an identity provider.
fn is_oidc(token: &TokenOptions) -> bool {
    token.method.map_or(token.endpoint.is_some(), |method| method == Method::Oidc)
}

fn mechanism(written: &Written) -> Mechanism {
    let token = &written.token;
    let implied = token.token.is_some() || is_oidc(token) || token.unsecured == Some(true);
    let default = if implied { Mechanism::OauthBearer } else { Mechanism::Plain };
    written.client.auth_mechanism.unwrap_or(default)
}

/// What of the token's options must be well-formed by itself, as in a connection that lacks some.
pub(crate) fn check_each(written: &Written) -> Result<()> {
    extensions(written)?;
    if let Some(url) = &written.token.endpoint {
        let is_web = url.starts_with("https://") || url.starts_with("http://");
        if !is_web || reqwest::Url::parse(url).is_err() {
            return Err(written.invalid("sasl.oauthbearer.token.endpoint.url", "expected an address such as https://…"));
        }
    }
    if let Some(region) = &written.token.region {
        check_region(written, region)?;
    }
    if written.client.auth_mechanism == Some(Mechanism::Gssapi) {
        kerberos(written)?;
    }
    Ok(())
}

fn origin(written: &Written) -> Result<Origin> {
    let token = &written.token;
    match (&token.token, is_oidc(token), token.unsecured == Some(true)) {
        (Some(given), false, false) => Ok(Origin::Given(given.clone())),
        (None, true, false) => {
            let needed = |value: &Option<String>, key: &str| value.clone().ok_or_else(|| missing(key, SUBJECT));
            Ok(Origin::ClientCredentials {
                endpoint: needed(&token.endpoint, "sasl.oauthbearer.token.endpoint.url")?,
                client_id: needed(&token.client_id, "sasl.oauthbearer.client.id")?,
                client_secret: token
                    .client_secret
                    .clone()
                    .ok_or_else(|| missing("sasl.oauthbearer.client.secret", SUBJECT))?,
                scope: token.scope.clone(),
                authorities: token.authorities.clone(),
            })
        }
        (None, false, true) => unsecured(written),
        (None, false, false) => Err(missing("auth.token", SUBJECT).with_hint(
            "OAUTHBEARER needs 'auth.token', or 'sasl.oauthbearer.method' = 'oidc' with an endpoint and a client",
        )),
        _ => Err(written
            .error("auth.token", Code::ConflictingOptions, "tokens come from more than one place")
            .with_detail("auth.token, sasl.oauthbearer.method = 'oidc' and enable.sasl.oauthbearer.unsecure.jwt exclude each other")
            .with_hint("give one of them")),
    }
}

/// `principal=alice scope=read,write lifeSeconds=600`, each part once.
fn unsecured(written: &Written) -> Result<Origin> {
    const KEY: &str = "sasl.oauthbearer.config";
    let text = written.token.unsecured_config.as_deref().ok_or_else(|| missing(KEY, SUBJECT))?;
    let (mut principal, mut claim, mut scope, mut scope_claim) = (None, "sub", Vec::new(), "scope");
    let mut life = Duration::from_secs(3600);
    for part in text.split_whitespace() {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let too_odd = || written.invalid(KEY, &format!("{part}: expected name=value"));
        if value.is_empty() {
            return Err(too_odd());
        }
        match name {
            "principal" => principal = Some(value.to_string()),
            "principalClaimName" => claim = value,
            "scope" => scope = value.split(',').map(str::to_string).collect(),
            "scopeClaimName" => scope_claim = value,
            "lifeSeconds" => {
                let seconds = value.parse().ok().filter(|seconds| (1..=31_536_000).contains(seconds));
                life = Duration::from_secs(seconds.ok_or_else(too_odd)?);
            }
            _ => {
                let known = "principal, principalClaimName, scope, scopeClaimName, lifeSeconds";
                return Err(written.invalid(KEY, &format!("{name}: expected one of {known}")));
            }
        }
    }
    let principal = principal.ok_or_else(|| written.invalid(KEY, "expected principal=…"))?;
    let scope = (!scope.is_empty()).then(|| (scope_claim.to_string(), scope));
    Ok(Origin::Unsecured { principal, claim: claim.to_string(), scope, life })
}

/// `name=value,…`: RFC 7628 section 3.1 allows letters as names.
fn extensions(written: &Written) -> Result<Vec<(String, String)>> {
    let text = written.token.extensions.as_deref().unwrap_or_default();
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let read = parts.map(|part| match part.split_once('=') {
        Some((name, value)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic()) && name != "auth" => {
            Ok((name.to_string(), value.to_string()))
        }
        _ => Err(written.invalid("sasl.oauthbearer.extensions", "expected name=value,…, with letters as names")),
    });
    read.collect()
}

fn msk_iam(written: &Written) -> Result<Origin> {
    let token = &written.token;
    let region = match &token.region {
        Some(region) => region.clone(),
        None => written.client.bootstrap_servers.as_deref().and_then(region_of).ok_or_else(|| {
            missing("auth.region", SUBJECT)
                .with_hint("add 'auth.region' = 'us-east-1': the names of the brokers do not say it")
        })?,
    };
    check_region(written, &region)?;
    let session = token.role_session_name.clone().unwrap_or_else(|| "laminar".into());
    Ok(Origin::MskIam { region, role: token.role_arn.clone().map(|role| (role, session)) })
}

fn check_region(written: &Written, region: &str) -> Result<()> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if region.is_empty() || !region.bytes().all(legal) {
        return Err(written.invalid("auth.region", "expected a region of AWS such as us-east-1"));
    }
    Ok(())
}

/// `b-1.x.c2.kafka.us-east-1.amazonaws.com:9098` and `boot-x.c1.kafka-serverless.us-east-1.amazonaws.com:9098` say it.
fn region_of(servers: &str) -> Option<String> {
    let host = servers.split(',').next()?.split(':').next()?.trim();
    let mut labels = host.split('.').skip_while(|label| !matches!(*label, "kafka" | "kafka-serverless")).skip(1);
    let region = labels.next()?;
    (labels.next() == Some("amazonaws")).then(|| region.to_string())
}

/// librdkafka runs `kinit` with these in a shell.
fn kerberos(written: &Written) -> Result<()> {
    if !cfg!(feature = "gssapi") {
        return Err(written
            .error("auth.mechanism", Code::NotSupported, "this build of Laminar has no Kerberos (GSSAPI)")
            .with_hint("build it with --features gssapi, or use SCRAM-SHA-512 or OAUTHBEARER"));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '@' | '.' | '_' | '-');
    for key in ["sasl.kerberos.principal", "sasl.kerberos.keytab", "sasl.kerberos.service.name"] {
        if written.property(key).is_some_and(|value| !value.chars().all(legal)) {
            return Err(written.invalid(key, "expected letters, digits, '/', '@', '.', '_' or '-'"));
        }
    }
    Ok(())
}

/// Names that other systems, and earlier pages of Laminar, have for options of the client; what they are here.
pub(crate) enum Foreign {
    /// Another name, perhaps with a value in another unit.
    Is(&'static str, String),
    /// What we do anyway.
    Already,
    /// It cannot be had: why, and what to do.
    Not(&'static str, &'static str),
    /// The value is wrong: what was expected.
    Wrong(&'static str),
}

/// What the option is here if it is another system's; `None` if it is not.
pub(crate) fn foreign(entry: &OptionEntry) -> Option<Foreign> {
    let value = entry.value.trim();
    let lower = value.to_ascii_lowercase();
    let same = |key: &'static str| Foreign::Is(key, value.to_string());
    let millis = |key: &'static str| match value.parse::<HumanDuration>() {
        Ok(HumanDuration(time)) => Foreign::Is(key, time.as_millis().to_string()),
        Err(_) => Foreign::Wrong("expected a duration such as 500ms or 5s"),
    };
    let bytes = |key: &'static str| match value.parse::<laminar_core::options::ByteSize>() {
        Ok(size) => Foreign::Is(key, size.0.to_string()),
        Err(_) => Foreign::Wrong("expected a size such as 1024KB"),
    };
    let list = || value.trim_matches(['[', ']']).split(',').map(|item| item.trim().trim_matches('"').to_string());
    Some(match entry.key.as_str() {
        "bootstrap_hosts" => same("bootstrap_servers"),
        "security_protocol" => same("security.protocol"),
        "sasl_username" | "authentication.username" => same("auth.username"),
        "sasl_password" | "authentication.password" => same("auth.password"),
        "authentication.protocol" => same("auth.protocol"),
        "authentication.region" | "awsRegion" | "aws_region" => same("auth.region"),
        "authentication" if lower == "none" || lower.is_empty() => Foreign::Is("auth.type", "none".into()),
        "auth.role" => same("auth.role_arn"),
        "sasl.oauthbearer.client.credentials.client.id" => same("sasl.oauthbearer.client.id"),
        "sasl.oauthbearer.client.credentials.client.secret" => same("sasl.oauthbearer.client.secret"),
        "ssl_ca_location" | "ssl.cacertfile" => same("ssl.ca.location"),
        "ssl_certificate_location" | "ssl.certfile" => same("ssl.certificate.location"),
        "ssl_key_location" | "ssl.keyfile" => same("ssl.key.location"),
        "ssl_key_password" | "ssl.password" => same("ssl.key.password"),
        "connect_timeout" | "connect.timeout" => millis("socket.connection.setup.timeout.ms"),
        "metadata_request_timeout" => millis("socket.timeout.ms"),
        "min_metadata_refresh_interval" => millis("topic.metadata.refresh.interval.ms"),
        "socket_opts.nodelay" | "tcp.nodelay" => same("socket.nagle.disable"),
        "socket_opts.recbuf" => bytes("socket.receive.buffer.bytes"),
        "socket_opts.sndbuf" => bytes("socket.send.buffer.bytes"),
        "ssl.verify" => match lower.as_str() {
            "verify_peer" => Foreign::Is("enable.ssl.certificate.verification", "true".into()),
            "verify_none" => Foreign::Is("enable.ssl.certificate.verification", "false".into()),
            _ => Foreign::Wrong("expected verify_peer or verify_none"),
        },
        "ssl.ciphers" => match list().filter(|cipher| !cipher.is_empty()).collect::<Vec<_>>().join(":") {
            none if none.is_empty() => Foreign::Already,
            ciphers => Foreign::Is("ssl.cipher.suites", ciphers),
        },
        "ssl.versions" | "ssl.enabled.protocols" => {
            let versions: Vec<String> = list().map(|v| v.to_lowercase().replace("tlsv", "")).collect();
            match versions.iter().any(|v| v == "1.2") && versions.iter().any(|v| v == "1.3") {
                true => Foreign::Already,
                false => Foreign::Not(
                    "the best version that both sides know is used, TLS 1.2 at least",
                    "remove it; MinProtocol in the server's openssl.cnf demands more",
                ),
            }
        }
        "ssl.server_name_indication" => match lower.as_str() {
            "auto" => Foreign::Already,
            _ => Foreign::Not(
                "the name in bootstrap_servers is sent and checked",
                "remove it; 'ssl.endpoint.identification.algorithm' = 'none' stops checking the name",
            ),
        },
        "ssl.depth"
        | "ssl.hibernate_after"
        | "ssl.reuse_sessions"
        | "ssl.secure_renegotiate"
        | "ssl.user_lookup_fun" => {
            Foreign::Not("only Erlang's TLS has it", "remove it: OpenSSL takes care of that itself")
        }
        "auth.mechanism" | "sasl.mechanism" | "sasl.mechanisms" | "sasl_mechanism" | "authentication.mechanism" => {
            match lower.replace(['-', '_'], "").as_str() {
                "awsmskiam" => Foreign::Not("it is not a mechanism of its own here", "use 'auth.type' = 'aws_msk_iam'"),
                "delegation" | "delegationtoken" | "tokenauth" => Foreign::Not(
                    "librdkafka cannot log in with delegation tokens",
                    "use SCRAM-SHA-512 with a user of its own, or OAUTHBEARER",
                ),
                "scramsha256" => Foreign::Is("auth.mechanism", "SCRAM-SHA-256".into()),
                "scramsha512" => Foreign::Is("auth.mechanism", "SCRAM-SHA-512".into()),
                _ => same("auth.mechanism"),
            }
        }
        _ => return None,
    })
}

/// The error for another system's option that cannot be had.
pub(crate) fn not_here(entry: &OptionEntry, why: &str, hint: &str) -> Error {
    Error::new(Code::NotSupported, format!("option {} of connector kafka cannot be set", entry.key))
        .with_detail(why)
        .with_hint(hint)
        .with_field(&entry.key)
        .at(entry.location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_msk_is_in_its_brokers_names() {
        let check = |servers, region: Option<&str>| assert_eq!(region_of(servers).as_deref(), region, "{servers}");
        check("b-1.demo.a1b2c3.c2.kafka.eu-west-1.amazonaws.com:9098,b-2:9098", Some("eu-west-1"));
        check("boot-a1.c3.kafka-serverless.us-east-1.amazonaws.com:9098", Some("us-east-1"));
        check("broker:9098", None);
        check("kafka.us-east-1.example.com", None);
    }
}
