//! Why a cluster does not let us in, as an error that says what to change.
//!
//! ```text
//!  librdkafka's text (an event)  ──► said()      who was refused, and with which words; no waiting
//!  what the port speaks (probe)  ──► found()     TLS where we speak none, a login that we do not try, a certificate's fault
//! ```
//!
//! The rule that must stay true: each cause has its own words. "Cannot reach" is left for what cannot be reached.

use laminar_core::{Code, Error};
use rdkafka::error::RDKafkaErrorCode;
use rustls::CertificateError;

use super::Cluster;
use super::error::{from_code, is_refusal};
use super::options::Protocol;
use super::probe::{self, Login, Port, Tls};

/// How librdkafka lists a broker's mechanisms when it got no answer.
const UNNAMED: &str = "broker's supported mechanisms: (n/a)";

/// The error for an event that a client of the cluster at `name` got; `None` if waiting may help.
pub(crate) fn said(name: &str, code: RDKafkaErrorCode, reason: &str) -> Option<Error> {
    let reason = without_state(reason);
    match code {
        // Reading does not need the group: its offsets are only for others to see.
        RDKafkaErrorCode::GroupAuthorizationFailed => None,
        // The broker went away before it named any: nobody was refused.
        RDKafkaErrorCode::Authentication if reason.ends_with(UNNAMED) => None,
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => Some(login(name, reason)),
        code if is_refusal(code) => Some(from_code(format!("kafka at {name} refuses us"), code, reason)),
        // A broker that is being stopped ends handshakes too.
        RDKafkaErrorCode::SSL if !reason.contains("unexpected eof") => Some(tls(name, reason)),
        _ => None,
    }
}

fn login(name: &str, reason: &str) -> Error {
    if reason.contains("Request not valid in current SASL state") {
        return no_login(name);
    }
    if let Some((_, offered)) = reason.split_once("broker's supported mechanisms: ") {
        return other_mechanism(name, &offered.split(',').map(str::trim).collect::<Vec<_>>().join(", "));
    }
    let error =
        Error::new(Code::AuthenticationFailed, format!("kafka at {name} refuses the login")).with_detail(reason);
    // RFC 7628 section 3.2.2: what a broker says of a token is a JSON object with a status.
    match reason.contains("OAUTHBEARER") || reason.contains("\"status\"") {
        true => error.with_hint("check the token: its issuer, audience, scope and clock").with_field("auth.mechanism"),
        false => error.with_hint("check auth.username, auth.password and auth.mechanism").with_field("auth.password"),
    }
}

fn no_login(name: &str) -> Error {
    Error::new(Code::AuthenticationFailed, format!("kafka at {name} has no login on this port"))
        .with_hint("use the port of its SASL listener, or 'security.protocol' = 'PLAINTEXT' or 'SSL' without auth.*")
        .with_field("security.protocol")
}

fn other_mechanism(name: &str, offered: &str) -> Error {
    Error::new(Code::AuthenticationFailed, format!("kafka at {name} does not offer this way to log in"))
        .with_detail(format!("it offers {offered}"))
        .with_hint("set 'auth.mechanism' to one of them")
        .with_field("auth.mechanism")
}

fn tls(name: &str, reason: &str) -> Error {
    if reason.contains("certificate verify failed") || reason.contains("Failed to verify broker certificate") {
        return Error::new(Code::TlsFailed, format!("the certificate of kafka at {name} is not trusted"))
            .with_detail(reason)
            .with_hint("check ssl.ca.location, and that the certificate is for the host in bootstrap_servers")
            .with_field("ssl.ca.location");
    }
    if reason.contains("alert") {
        return Error::new(Code::TlsFailed, format!("kafka at {name} refuses our certificate"))
            .with_detail(reason)
            .with_hint("set ssl.certificate.location and ssl.key.location to a certificate that its authority signed")
            .with_field("ssl.certificate.location");
    }
    Error::new(Code::TlsFailed, format!("TLS with kafka at {name} fails"))
        .with_detail(reason)
        .with_hint("check security.protocol and the port")
        .with_field("security.protocol")
}

/// Asks a port of the cluster why it does not let us in; `None` if it cannot be asked, or sees no reason. Blocks for seconds.
pub(crate) fn ask(cluster: &Cluster) -> Option<Error> {
    found(cluster, &probe::ask(cluster)?)
}

fn found(cluster: &Cluster, port: &Port) -> Option<Error> {
    let (name, protocol) = (port.server.as_str(), cluster.protocol());
    match (&port.tls, protocol.has_tls()) {
        (None, true) => {
            return Some(
                Error::new(Code::TlsFailed, format!("kafka at {name} does not speak TLS"))
                    .with_detail(format!("security.protocol is {}, and the port answers in clear", written(protocol)))
                    .with_hint(format!("set 'security.protocol' = '{}', or use its TLS port", in_clear(&port.login)))
                    .with_field("security.protocol"),
            );
        }
        (Some(_), false) => {
            return Some(
                Error::new(Code::TlsFailed, format!("kafka at {name} speaks only TLS"))
                    .with_detail(format!("security.protocol is {}", written(protocol)))
                    .with_hint(format!(
                        "set 'security.protocol' = '{}', or use its port without TLS",
                        inside(&port.login)
                    ))
                    .with_field("security.protocol"),
            );
        }
        (Some(tls), true) => {
            if let Some(error) = certificates(cluster, name, tls) {
                return Some(error);
            }
        }
        (None, false) => {}
    }
    match (&port.login, protocol.has_login()) {
        (Login::No, true) => Some(no_login(name)),
        (Login::With(offered), false) => Some(
            Error::new(Code::AuthenticationFailed, format!("kafka at {name} asks for a login"))
                .with_detail(format!("it offers {}", offered.join(", ")))
                .with_hint("set 'auth.type' = 'sasl', 'auth.mechanism', 'auth.username' and 'auth.password'")
                .with_field("auth.type"),
        ),
        (Login::With(offered), true) => {
            let ours = cluster.get("sasl.mechanism").unwrap_or_default();
            (!offered.iter().any(|offer| offer == ours)).then(|| other_mechanism(name, &offered.join(", ")))
        }
        (Login::No, false) | (Login::Unknown, _) => None,
    }
}

fn certificates(cluster: &Cluster, name: &str, tls: &Tls) -> Option<Error> {
    let verifies = cluster.get("enable.ssl.certificate.verification").is_none_or(|value| value != "false");
    let names_count = cluster.get("ssl.endpoint.identification.algorithm").is_none_or(|value| value != "none");
    match &tls.problem {
        Some(rustls::Error::InvalidCertificate(problem)) if verifies => match problem {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } if !names_count => {}
            problem => return Some(certificate(name, problem)),
        },
        _ => {}
    }
    let shows_one = ["ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"];
    if tls.asks_for_certificate && !shows_one.iter().any(|key| cluster.get(key).is_some()) {
        return Some(
            Error::new(Code::TlsFailed, format!("kafka at {name} asks for a client certificate"))
                .with_detail("none is configured")
                .with_hint("set 'ssl.certificate.location' and 'ssl.key.location'")
                .with_field("ssl.certificate.location"),
        );
    }
    None
}

fn certificate(name: &str, problem: &CertificateError) -> Error {
    let error = |what: &str| Error::new(Code::TlsFailed, format!("the certificate of kafka at {name} {what}"));
    match problem {
        CertificateError::NotValidForNameContext { presented, .. } => error("is for another host")
            .with_detail(format!(
                "it is for {}",
                presented.iter().map(|p| plain_name(p)).collect::<Vec<_>>().join(", ")
            ))
            .with_hint(
                "name one of these hosts in bootstrap_servers, or set 'ssl.endpoint.identification.algorithm' = 'none'",
            )
            .with_field("bootstrap_servers"),
        CertificateError::NotValidForName => error("is for another host")
            .with_hint("name its host in bootstrap_servers, or set 'ssl.endpoint.identification.algorithm' = 'none'")
            .with_field("bootstrap_servers"),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            error("has expired").with_hint("the broker needs a new certificate; or check this machine's clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            error("is not valid yet").with_hint("check this machine's clock and the broker's")
        }
        problem => error("is not trusted")
            .with_detail(match problem {
                CertificateError::UnknownIssuer => "no known authority signed it".to_string(),
                problem => problem.to_string(),
            })
            .with_hint("set 'ssl.ca.location' to the PEM file of the authority that signed it")
            .with_field("ssl.ca.location"),
    }
}

/// `IpAddress(127.0.0.1)` and `DnsName("a.b")`, as rustls tells names, without the wrapping.
fn plain_name(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner.trim_end_matches(')'));
    inner.trim_matches('"')
}

fn in_clear(login: &Login) -> &'static str {
    if matches!(login, Login::With(_)) { "SASL_PLAINTEXT" } else { "PLAINTEXT" }
}

fn inside(login: &Login) -> &'static str {
    if matches!(login, Login::With(_)) { "SASL_SSL" } else { "SSL" }
}

fn written(protocol: Protocol) -> String {
    protocol.as_str().to_uppercase()
}

/// librdkafka's text without `sasl_ssl://host:1/bootstrap: ` before it and ` (after 3ms in state UP)` behind.
fn without_state(reason: &str) -> &str {
    let text = reason.trim();
    let text = text.split_once("/bootstrap: ").map_or(text, |(_, rest)| rest);
    text.rsplit_once(" (after ").map_or(text, |(rest, _)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: RDKafkaErrorCode, reason: &str, expected: &str) {
        let text = said("b:1", code, reason).map_or_else(|| "wait".to_string(), |error| format!("{error:?}"));
        assert!(text.starts_with(expected), "{text}\nexpected {expected}");
    }

    #[test]
    fn what_librdkafka_says_is_told_apart() {
        use RDKafkaErrorCode::{Authentication, BrokerTransportFailure, SSL};
        check(
            Authentication,
            "sasl_ssl://b:1/bootstrap: SASL authentication error: Authentication failed: Invalid username or password (after 3ms in state AUTH_REQ)",
            "authentication_failed: kafka at b:1 refuses the login: SASL authentication error: Authentication failed: \
             Invalid username or password (hint: check auth.username",
        );
        check(
            Authentication,
            "b:1/bootstrap: SASL GSSAPI mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN,OAUTHBEARER (after 1ms in state AUTH_HANDSHAKE)",
            "authentication_failed: kafka at b:1 does not offer this way to log in: it offers PLAIN, OAUTHBEARER",
        );
        check(
            Authentication,
            "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: broker's supported mechanisms:  (after 1ms in state AUTH_HANDSHAKE)",
            "authentication_failed: kafka at b:1 has no login on this port",
        );
        check(
            SSL,
            "ssl://b:1/1: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified",
            "tls_failed: the certificate of kafka at b:1 is not trusted",
        );
        check(
            SSL,
            "ssl://b:1/1: error:0A000412:SSL routines::sslv3 alert bad certificate",
            "tls_failed: kafka at b:1 refuses our certificate",
        );
        check(SSL, "SSL handshake failed: error:0A000126:SSL routines::unexpected eof while reading", "wait");
        check(
            Authentication,
            "b:1/bootstrap: SASL OAUTHBEARER mechanism handshake failed: Local: Broker transport failure: broker's supported mechanisms: (n/a) (after 9ms in state AUTH_HANDSHAKE)",
            "wait",
        );
        check(BrokerTransportFailure, "Connect to ipv4#127.0.0.1:1 failed: Connection refused", "wait");
    }
}
