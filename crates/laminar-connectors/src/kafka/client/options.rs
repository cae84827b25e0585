//! How to reach the brokers: the options of every client. What a login is made of is in `login`.

use laminar_core::options::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// How to reach the brokers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ClientOptions {
    /// Brokers to start from: `host:port`, several separated by commas. The others of the cluster are found from there.
    #[schemars(required)]
    pub bootstrap_servers: Option<String>,
    /// How Laminar logs in. Default: `sasl` if any part of a login is given (a user name, a password, a token, an identity provider, a
    /// mechanism or a protocol), else `none`.
    #[serde(rename = "auth.type")]
    pub auth_type: Option<AuthType>,
    /// How the login is proved. The names may be written in lower case. Default: `OAUTHBEARER` with a token, else `PLAIN`.
    #[serde(rename = "auth.mechanism")]
    pub auth_mechanism: Option<Mechanism>,
    /// The same as `security.protocol`, under the name that goes with the login's other options.
    #[serde(rename = "auth.protocol")]
    pub auth_protocol: Option<Protocol>,
    /// Name to log in with.
    #[serde(rename = "auth.username")]
    pub auth_username: Option<String>,
    /// Password to log in with; best given as `${secret:name}`, after `CREATE SECRET`.
    #[serde(rename = "auth.password")]
    pub auth_password: Option<Secret>,
    /// What travels on the connection. The names may be written in lower case. Default: `SASL_SSL` with a login, `SSL` with
    /// a certificate or authorities given, else `PLAINTEXT`.
    #[serde(rename = "security.protocol")]
    pub security_protocol: Option<Protocol>,
    /// PEM file of the authorities that sign the brokers' certificates. Default: those that the system trusts.
    #[serde(rename = "ssl.ca.location")]
    pub ssl_ca_location: Option<String>,
    /// PEM file of the certificate that Laminar shows to the brokers, where they ask for one.
    #[serde(rename = "ssl.certificate.location")]
    pub ssl_certificate_location: Option<String>,
    /// PEM file of that certificate's key.
    #[serde(rename = "ssl.key.location")]
    pub ssl_key_location: Option<String>,
    /// Password of the key file, if it has one.
    #[serde(rename = "ssl.key.password")]
    pub ssl_key_password: Option<Secret>,
    /// Is there TLS at all? Another way to write `security.protocol`, which then need not be given.
    #[serde(rename = "ssl.enable")]
    pub ssl_enable: Option<bool>,
}

/// How we log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthType {
    /// Not at all.
    None,
    /// With a name and password, or a token.
    Sasl,
    /// With a token that the server's AWS credentials sign, as Amazon MSK wants it.
    AwsMskIam,
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// The password itself; only sensible inside TLS.
    #[serde(rename = "PLAIN", alias = "plain")]
    Plain,
    /// RFC 5802 with SHA-256.
    #[serde(rename = "SCRAM-SHA-256", alias = "scram-sha-256")]
    ScramSha256,
    /// RFC 5802 with SHA-512.
    #[serde(rename = "SCRAM-SHA-512", alias = "scram-sha-512")]
    ScramSha512,
    /// RFC 7628: a token of OAuth 2.0.
    #[serde(rename = "OAUTHBEARER", alias = "oauthbearer")]
    OauthBearer,
    /// Kerberos; only in a build with the feature `gssapi`.
    #[serde(rename = "GSSAPI", alias = "gssapi")]
    Gssapi,
}

impl Mechanism {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
            Self::Gssapi => "GSSAPI",
        }
    }
}

/// What travels on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Protocol {
    /// Neither TLS nor a login.
    #[serde(alias = "plaintext")]
    Plaintext,
    /// TLS.
    #[serde(alias = "ssl")]
    Ssl,
    /// A login without TLS.
    #[serde(alias = "sasl_plaintext")]
    SaslPlaintext,
    /// A login inside TLS.
    #[serde(alias = "sasl_ssl")]
    SaslSsl,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }
    pub(crate) fn has_login(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
    pub(crate) fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}
