//! What a broker's port speaks: TLS or not, a login or not. Asked directly, without librdkafka, once a client got no answer.
//!
//! librdkafka hides why: a port that wants TLS or a login just closes the connection. Two questions settle it.
//!
//! ```text
//!  TLS?    a handshake that trusts everything and notes what it would have refused
//!  login?  SaslHandshake: the answer lists the mechanisms, or says that there is no login here
//! ```
//!
//! The rule that must stay true: nothing secret is sent; the connection ends before any login. What is found explains a
//! failure and never decides one: librdkafka's TLS is OpenSSL's, which judges a few certificates otherwise.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};

use super::Cluster;

/// How long one step may take.
const STEP: Duration = Duration::from_secs(2);

/// Requests of the protocol that the probe knows: <https://kafka.apache.org/protocol#The_Messages_SaslHandshake>.
const SASL_HANDSHAKE: i16 = 17;
const SASL_HANDSHAKE_VERSION: i16 = 1;
const NO_ERROR: i16 = 0;
const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const ILLEGAL_SASL_STATE: i16 = 34;

/// Longest answer that is read; the list of mechanisms is far shorter.
const LONGEST: usize = 4096;

/// What a port speaks.
#[derive(Debug)]
pub(crate) struct Port {
    pub server: String,
    /// `None`: it speaks Kafka in clear.
    pub tls: Option<Tls>,
    pub login: Login,
}

/// What the handshake showed.
#[derive(Debug)]
pub(crate) struct Tls {
    /// Why the certificate would not be trusted.
    pub problem: Option<rustls::Error>,
    pub asks_for_certificate: bool,
}

/// Whether one has to log in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Login {
    No,
    /// With one of these mechanisms.
    With(Vec<String>),
    /// It did not say, as when it first wants a client's certificate.
    Unknown,
}

/// Asks the first of the cluster's servers that answers; `None` if none speaks Kafka. Blocks for a few seconds at most.
pub(crate) fn ask(cluster: &Cluster) -> Option<Port> {
    let mechanism = cluster.get("sasl.mechanism").unwrap_or("PLAIN");
    cluster.server_list().iter().take(2).filter(|server| connect(server).is_ok()).find_map(|server| {
        #[allow(clippy::type_complexity)] // two functions of one kind
        let asked: [fn(&Cluster, &str, &str) -> Option<Port>; 2] =
            if cluster.protocol().has_tls() { [ask_tls, ask_clear] } else { [ask_clear, ask_tls] };
        asked.iter().find_map(|ask| ask(cluster, server, mechanism))
    })
}

fn ask_clear(_: &Cluster, server: &str, mechanism: &str) -> Option<Port> {
    let mut stream = connect(server).ok()?;
    let login = ask_login(&mut stream, mechanism).ok()?;
    Some(Port { server: server.to_string(), tls: None, login })
}

fn ask_tls(cluster: &Cluster, server: &str, mechanism: &str) -> Option<Port> {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_string()).ok()?;
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let notes = Arc::new(Notes::new(cluster, &provider));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Notes>::clone(&notes))
        .with_client_cert_resolver(Arc::<Notes>::clone(&notes));
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut stream = connect(server).ok()?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).ok()?;
    }
    let login = ask_login(&mut StreamOwned::new(connection, stream), mechanism).unwrap_or(Login::Unknown);
    let found = notes.found();
    let tls = Tls { problem: found.problem.clone(), asks_for_certificate: found.asks_for_certificate };
    Some(Port { server: server.to_string(), tls: Some(tls), login })
}

fn connect(server: &str) -> io::Result<TcpStream> {
    let mut failure = io::ErrorKind::NotFound.into();
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, STEP) {
            Ok(stream) => {
                stream.set_read_timeout(Some(STEP))?;
                stream.set_write_timeout(Some(STEP))?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Errors: the port does not answer as Kafka does.
fn ask_login(stream: &mut (impl Read + Write), mechanism: &str) -> io::Result<Login> {
    stream.write_all(&login_request(mechanism))?;
    stream.flush()?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = usize::try_from(i32::from_be_bytes(size)).ok().filter(|size| *size <= LONGEST);
    let mut answer = vec![0; size.ok_or(io::ErrorKind::InvalidData)?];
    stream.read_exact(&mut answer)?;
    login_answer(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn login_request(mechanism: &str) -> Vec<u8> {
    let text = |text: &str| [&i16::try_from(text.len()).unwrap_or(0).to_be_bytes()[..], text.as_bytes()].concat();
    let correlation = 0i32;
    let body = [
        &SASL_HANDSHAKE.to_be_bytes()[..],
        &SASL_HANDSHAKE_VERSION.to_be_bytes(),
        &correlation.to_be_bytes(),
        &text("laminar"),
        &text(mechanism),
    ]
    .concat();
    [&i32::try_from(body.len()).unwrap_or(0).to_be_bytes()[..], &body].concat()
}

/// Correlation id, error code, and an array of texts.
fn login_answer(answer: &[u8]) -> Option<Login> {
    let mut rest = answer;
    let correlation = i32::from_be_bytes(take(&mut rest)?);
    let code = i16::from_be_bytes(take(&mut rest)?);
    match code {
        _ if correlation != 0 => None,
        ILLEGAL_SASL_STATE => Some(Login::No),
        NO_ERROR | UNSUPPORTED_SASL_MECHANISM => {
            let count = i32::from_be_bytes(take(&mut rest)?);
            let mut mechanisms = Vec::new();
            for _ in 0..count {
                let size = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
                let (text, after) = rest.split_at_checked(size)?;
                mechanisms.push(String::from_utf8_lossy(text).into_owned());
                rest = after;
            }
            Some(Login::With(mechanisms))
        }
        _ => None,
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

/// Trusts everything, and notes what it would have refused and what it was asked for.
#[derive(Debug)]
struct Notes {
    provider: Arc<CryptoProvider>,
    /// `None` if the authorities cannot be read: librdkafka says so before it connects.
    judge: Option<Arc<WebPkiServerVerifier>>,
    found: Mutex<Tls>,
}

impl Notes {
    fn new(cluster: &Cluster, provider: &Arc<CryptoProvider>) -> Self {
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities(cluster)), Arc::clone(provider));
        let found = Mutex::new(Tls { problem: None, asks_for_certificate: false });
        Self { provider: Arc::clone(provider), judge: judge.build().ok(), found }
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Tls> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that the cluster's options name, else the system's.
fn authorities(cluster: &Cluster) -> RootCertStore {
    let mut store = RootCertStore::empty();
    let certificates: Vec<CertificateDer<'static>> = match (cluster.get("ssl.ca.location"), cluster.get("ssl.ca.pem")) {
        (Some(file), _) => CertificateDer::pem_file_iter(file).into_iter().flatten().flatten().collect(),
        (None, Some(text)) => CertificateDer::pem_slice_iter(text.as_bytes()).flatten().collect(),
        (None, None) => rustls_native_certs::load_native_certs().certs,
    };
    store.add_parsable_certificates(certificates);
    store
}

impl ServerCertVerifier for Notes {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(judge) = &self.judge {
            let judged = judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
            self.found().problem = judged.err();
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Notes {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.found().asks_for_certificate = true;
        None
    }
    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_asked_for_and_its_answer_read() {
        assert_eq!(login_request("PLAIN"), b"\0\0\0\x18\0\x11\0\x01\0\0\0\0\0\x07laminar\0\x05PLAIN");
        let offers = Login::With(vec!["PLAIN".into(), "SCRAM-SHA-256".into()]);
        assert_eq!(login_answer(b"\0\0\0\0\0\x21\0\0\0\x02\0\x05PLAIN\0\x0dSCRAM-SHA-256"), Some(offers));
        assert_eq!(login_answer(b"\0\0\0\0\0\x22\0\0\0\0"), Some(Login::No));
        for broken in [&b""[..], b"HTTP/1.1", b"\0\0\0\0\0\0\0\0\0\x02\0\x05PLA", b"\0\0\0\x01\0\0\0\0\0\0"] {
            assert_eq!(login_answer(broken), None, "{broken:?}");
        }
    }
}
