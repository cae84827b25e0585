//! Logins and TLS against real listeners: rows go in and come out through each, and each mistake has its own error, soon.

use std::time::{Duration, Instant};

use laminar_connectors::kafka::KafkaConnector;
use laminar_core::connector::{Connector, Role, SourceContext};
use laminar_core::time::SystemClock;
use laminar_core::{Code, Epoch, Error, PipelineId};

use super::support::*;

/// How long anybody waits for a clear answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn part(name: &str) -> String {
    let name = format!("LAMINAR_TEST_KAFKA_{name}");
    std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set: eval \"$(scripts/parts.sh start kafka)\""))
}

fn certificate(name: &str) -> String {
    format!("{}/{name}", part("CERTS"))
}

/// Options as owned pairs, with `more` added or winning.
fn with(base: &[(&str, &str)], more: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = base.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    for (key, value) in more {
        all.retain(|(k, _)| k != key);
        all.push((key.to_string(), value.to_string()));
    }
    all
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

fn name_and_password(server: &str, protocol: &str, mechanism: &str) -> Vec<(String, String)> {
    with(
        &[
            ("bootstrap_servers", server),
            ("auth.type", "sasl"),
            ("auth.mechanism", mechanism),
            ("auth.protocol", protocol),
        ],
        &[("auth.username", "test"), ("auth.password", "test-secret"), ("ssl.ca.location", &certificate("ca.pem"))],
    )
}

fn mutual_tls() -> Vec<(String, String)> {
    with(
        &[
            ("bootstrap_servers", &part("SSL")),
            ("security.protocol", "SSL"),
            ("ssl.ca.location", &certificate("ca.pem")),
        ],
        &[
            ("ssl.certificate.location", &certificate("client.pem")),
            ("ssl.key.location", &certificate("client-encrypted.key")),
            ("ssl.key.password", "key-secret"),
        ],
    )
}

/// Writes rows in a transaction, reads them back, both over the connection that `pairs` describe.
async fn rows_go_through(pairs: &[(String, String)]) {
    let topic = topic("secure", 2).await;
    let pairs = with(&borrowed(pairs), &[("topic", &topic)]);
    let pairs = borrowed(&pairs);
    let sink = Installation::new().sink(&pairs).unwrap();
    let mut open = open_sink(&sink).await;
    open.writer.write(&changes(names(0..500))).await.unwrap();
    open.writer.flush(Epoch(1)).await.unwrap();
    open.committer.commit(&super::transaction::marker(1), &[]).await.unwrap();
    // A partition's end may come before the mark that commits its rows.
    let mut found = 0;
    for _ in 0..50 {
        found = read(&topic, "read_committed").await.len();
        if found == 500 {
            break;
        }
    }
    assert_eq!(found, 500, "{pairs:?}");

    let source = open_source(&pairs, Some(&unique("pipeline")));
    let mut reader = reader(&source).await;
    assert_eq!(take(&mut reader, 500).await.len(), 500, "{pairs:?}");
    reader.checkpointed(&reader.positions()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_through_a_login_with_name_and_password() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        rows_go_through(&name_and_password(&part("SASL"), "SASL_PLAINTEXT", mechanism)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_through_a_login_inside_tls() {
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        rows_go_through(&name_and_password(&part("SASL_SSL"), "SASL_SSL", mechanism)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_through_mutual_tls() {
    rows_go_through(&mutual_tls()).await;
    let plain_key = [("ssl.key.location", certificate("client.key"))];
    let mut pairs = with(&borrowed(&mutual_tls()), &plain_key.each_ref().map(|(k, v)| (*k, v.as_str())));
    pairs.retain(|(key, _)| key != "ssl.key.password");
    rows_go_through(&pairs).await;
    // The same as PEM texts, and without checking the broker at all.
    let text = |name: &str| std::fs::read_to_string(certificate(name)).unwrap();
    let (server, pem, key) = (part("SSL"), text("client.pem"), text("client.key"));
    let pems = [("bootstrap_servers", server.as_str()), ("ssl.certificate.pem", &pem), ("ssl.key.pem", &key)];
    rows_go_through(&with(&pems, &[("enable.ssl.certificate.verification", "false")])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_through_a_login_with_a_token() {
    let server = part("SASL");
    let token = [("bootstrap_servers", server.as_str()), ("auth.mechanism", "OAUTHBEARER")];
    let unsecured = [
        ("auth.protocol", "SASL_PLAINTEXT"),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ("sasl.oauthbearer.config", "principal=alice scope=read,write lifeSeconds=600"),
        ("sasl.oauthbearer.extensions", "traceId=123"),
    ];
    rows_go_through(&with(&token, &unsecured)).await;
    let given = unsecured_token(600);
    rows_go_through(&with(&token, &[("auth.protocol", "SASL_PLAINTEXT"), ("auth.token", &given)])).await;
}

/// The broker ends a token's session when the token does: what is open then goes on with a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_while_rows_are_read() {
    let topic = topic("secure", 1).await;
    let provider = provider(|| unsecured_token(5)).await;
    let pairs = with(
        &[("bootstrap_servers", &part("SASL")), ("auth.mechanism", "OAUTHBEARER"), ("auth.protocol", "SASL_PLAINTEXT")],
        &[
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.token.endpoint.url", &provider.endpoint),
            ("sasl.oauthbearer.client.id", "laminar"),
            ("sasl.oauthbearer.client.secret", "hunter2"),
            ("topic", &topic),
        ],
    );
    let source = open_source(&borrowed(&pairs), Some(&unique("pipeline")));
    let mut reader = reader(&source).await;
    let begun = provider.answered();
    let mut read = 0;
    // Two lives of a token, and rows in each.
    while provider.answered() < begun + 3 {
        put(&topic, [value(0, format!("{{\"id\":{read}}}"))]);
        take(&mut reader, 1).await;
        read += 1;
    }
    assert!(read > 0);
}

async fn source_error(pairs: &[(String, String)]) -> Error {
    let pairs = with(&borrowed(pairs), &[("topic", "some-topic")]);
    let begun = Instant::now();
    let error = KafkaConnector::new().check_outside(Role::Source, &options(&borrowed(&pairs))).await.unwrap_err();
    assert!(begun.elapsed() < PATIENCE, "{error:?} took {:?}", begun.elapsed());
    // A sink's check and a running job's start say the same.
    let sink = KafkaConnector::new().check_outside(Role::Sink, &options(&borrowed(&pairs))).await.unwrap_err();
    assert_eq!(sink.code(), error.code(), "{sink:?}");
    let ctx = SourceContext {
        pipeline: Some(PipelineId::from("p")),
        clock: std::sync::Arc::new(SystemClock),
        partitions: None,
    };
    let source = KafkaConnector::new().source(&options(&borrowed(&pairs)), &table(), &ctx).unwrap();
    let begun = Instant::now();
    assert_eq!(source.discover().await.unwrap_err().code(), error.code());
    assert!(begun.elapsed() < PATIENCE);
    error
}

/// `expected` is the error's code, and words that its text must have.
async fn check(pairs: &[(String, String)], code: Code, expected: &[&str]) {
    let error = source_error(pairs).await;
    let text = format!("{error:?}");
    assert_eq!(error.code(), code, "{text}");
    assert!(error.hint().is_some(), "{text}");
    assert!(!text.contains("test-secret") && !text.contains("key-secret"), "{text}");
    for words in expected {
        assert!(text.contains(words), "{text}\nlacks {words}");
    }
    let stages = KafkaConnector::new().test(&options(&borrowed(pairs))).await;
    let failed = stages.last().unwrap();
    let stage = match code {
        Code::TlsFailed => "tls",
        _ => "sasl",
    };
    assert_eq!((failed.stage.as_str(), failed.ok), (stage, false), "{stages:?}");
    assert!(expected.iter().all(|words| failed.message.contains(words)), "{stages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_as_such() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let pairs = name_and_password(&part("SASL"), "SASL_PLAINTEXT", mechanism);
        let pairs = with(&borrowed(&pairs), &[("auth.password", "wrong-canary")]);
        check(&pairs, Code::AuthenticationFailed, &["refuses the login", "auth.password"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mechanism_that_is_not_offered_is_told_with_those_that_are() {
    let pairs = name_and_password(&part("SASL_SSL"), "SASL_SSL", "SCRAM-SHA-256");
    let words = ["does not offer this way to log in", "it offers", "SCRAM-SHA-512", "PLAIN", "auth.mechanism"];
    check(&pairs, Code::AuthenticationFailed, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_none_is_told_as_such() {
    let server = part("SASL");
    let pairs =
        [("bootstrap_servers", server.as_str()), ("auth.token", "not-a-token"), ("auth.protocol", "SASL_PLAINTEXT")];
    check(&with(&pairs, &[]), Code::AuthenticationFailed, &["refuses the login", "check the token"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_do_not_fit_are_told_apart() {
    let good = name_and_password(&part("SASL_SSL"), "SASL_SSL", "PLAIN");
    let other = with(&borrowed(&good), &[("ssl.ca.location", &certificate("other-ca.pem"))]);
    check(&other, Code::TlsFailed, &["is not trusted", "no known authority signed it", "ssl.ca.location"]).await;

    let by_name = part("SASL_SSL").replace("127.0.0.1", "localhost");
    let wrong_host = with(&borrowed(&good), &[("bootstrap_servers", &by_name)]);
    check(&wrong_host, Code::TlsFailed, &["is for another host", "127.0.0.1", "bootstrap_servers"]).await;
    // Whoever says that names do not count gets in.
    let unchecked = with(&borrowed(&wrong_host), &[("ssl.endpoint.identification.algorithm", "none")]);
    rows_go_through(&unchecked).await;
    let verify_none = with(&borrowed(&other), &[("ssl.verify", "verify_none")]);
    rows_go_through(&verify_none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_that_is_asked_for_must_be_shown() {
    let mut none = mutual_tls();
    none.retain(|(key, _)| key == "bootstrap_servers" || key == "security.protocol" || key == "ssl.ca.location");
    check(&none, Code::TlsFailed, &["asks for a client certificate", "ssl.certificate.location"]).await;

    // Certificates of somebody else's, and keys that do not fit, are found before anything is sent.
    let wrong_password = with(&borrowed(&mutual_tls()), &[("ssl.key.password", "wrong"), ("topic", "t")]);
    let error =
        KafkaConnector::new().check_outside(Role::Source, &options(&borrowed(&wrong_password))).await.unwrap_err();
    assert_eq!((error.code(), error.field()), (Code::InvalidOption, Some("ssl.key.location")), "{error:?}");
    assert!(error.hint().unwrap().contains("ssl.key.password"), "{error:?}");
    let other_key = with(&borrowed(&mutual_tls()), &[("ssl.key.location", &certificate("broker.key")), ("topic", "t")]);
    let error = KafkaConnector::new().check_outside(Role::Source, &options(&borrowed(&other_key))).await.unwrap_err();
    assert!(error.hint().unwrap().contains("is not the key of the certificate"), "{error:?}");
    let missing = with(&borrowed(&mutual_tls()), &[("ssl.ca.location", "/no/such.pem"), ("topic", "t")]);
    let error = KafkaConnector::new().check_outside(Role::Source, &options(&borrowed(&missing))).await.unwrap_err();
    assert!(error.hint().unwrap().contains("/no/such.pem"), "{error:?}");
}

/// Each pair of a client's and a port's protocols that do not fit.
#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_protocol_for_a_port_is_told_as_such() {
    let clear = bootstrap();
    let ca = certificate("ca.pem");
    let tls = |server: &str| with(&[("bootstrap_servers", server), ("ssl.ca.location", &ca)], &[]);
    let nothing = |server: &str| with(&[("bootstrap_servers", server)], &[]);
    let (sasl, sasl_ssl, ssl) = (part("SASL"), part("SASL_SSL"), part("SSL"));

    check(&tls(&clear), Code::TlsFailed, &["does not speak TLS", "'PLAINTEXT'"]).await;
    check(&tls(&sasl), Code::TlsFailed, &["does not speak TLS", "'SASL_PLAINTEXT'"]).await;
    check(&nothing(&ssl), Code::TlsFailed, &["speaks only TLS", "'SSL'"]).await;
    check(&nothing(&sasl_ssl), Code::TlsFailed, &["speaks only TLS", "'SASL_SSL'"]).await;
    check(&nothing(&sasl), Code::AuthenticationFailed, &["asks for a login", "SCRAM-SHA-512"]).await;
    check(&tls(&sasl_ssl), Code::AuthenticationFailed, &["asks for a login", "PLAIN"]).await;
    let login = name_and_password(&clear, "SASL_PLAINTEXT", "PLAIN");
    check(&login, Code::AuthenticationFailed, &["has no login on this port"]).await;
    let login = name_and_password(&sasl_ssl, "SASL_PLAINTEXT", "PLAIN");
    check(&login, Code::TlsFailed, &["speaks only TLS", "'SASL_SSL'"]).await;
}

/// What the port would speak explains a failure; where none was seen, it is no reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_broker_that_would_take_a_certificate_is_not_a_fault_of_tls() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let tls = std::sync::Arc::new(asks_for_certificates());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tls) = (stream.unwrap(), std::sync::Arc::clone(&tls));
            // A handshake, and no answer to any question.
            std::thread::spawn(move || {
                let mut session = rustls::ServerConnection::new(tls).unwrap();
                while session.is_handshaking() && session.complete_io(&mut stream).is_ok() {}
                std::io::copy(&mut stream, &mut std::io::sink())
            });
        }
    });
    let pairs = [("bootstrap_servers", server.as_str()), ("security.protocol", "SSL"), ("topic", "t")];
    let pairs = with(&pairs, &[("ssl.ca.location", &certificate("ca.pem"))]);
    let error = KafkaConnector::new().check_outside(Role::Source, &options(&borrowed(&pairs))).await.unwrap_err();
    assert_eq!((error.code(), error.detail()), (Code::Unreachable, Some("no answer in time")), "{error:?}");
}

/// A server's side of TLS that asks for a certificate and goes on without one.
fn asks_for_certificates() -> rustls::ServerConfig {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = |name: &str| CertificateDer::pem_file_iter(certificate(name)).unwrap().map(Result::unwrap);
    let mut roots = rustls::RootCertStore::empty();
    chain("ca.pem").for_each(|authority| roots.add(authority).unwrap());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let verifier = verifier.allow_unauthenticated().build().unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_file(certificate("broker.key")).unwrap();
    config.with_client_cert_verifier(verifier).with_single_cert(chain("broker.pem").collect(), key).unwrap()
}

/// MSK's tokens are not JWTs, so this broker refuses them: with words that show that one arrived.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_msk_reaches_the_broker() {
    const INNER: &str = "LAMINAR_TEST_MSK_INNER";
    if std::env::var_os(INNER).is_none() {
        // Credentials come from the environment, which a test must not change: it runs itself again with them set.
        let mut again = tokio::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "security::a_token_for_msk_reaches_the_broker", "--nocapture"]).env(INNER, "1");
        again.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI");
        let output = again.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let server = part("SASL_SSL");
    let ca = certificate("ca.pem");
    let pairs = [("bootstrap_servers", server.as_str()), ("auth.type", "aws_msk_iam"), ("auth.region", "eu-west-1")];
    let error = source_error(&with(&pairs, &[("ssl.ca.location", &ca)])).await;
    assert_eq!(error.code(), Code::AuthenticationFailed, "{error:?}");
    assert!(error.detail().unwrap().contains("invalid_token"), "{error:?}");
}

/// A client that runs is refused from one moment to the next, as when its password is changed: the job is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_not_let_in_any_more_says_so() {
    let topic = topic("secure", 1).await;
    let provider = provider(|| unsecured_token(4)).await;
    let pairs = with(
        &[("bootstrap_servers", &part("SASL")), ("auth.mechanism", "OAUTHBEARER"), ("auth.protocol", "SASL_PLAINTEXT")],
        &[
            ("sasl.oauthbearer.token.endpoint.url", &provider.endpoint),
            ("sasl.oauthbearer.client.id", "laminar"),
            ("sasl.oauthbearer.client.secret", "hunter2"),
            ("topic", &topic),
        ],
    );
    let source = open_source(&borrowed(&pairs), Some(&unique("pipeline")));
    let mut reader = reader(&source).await;
    put(&topic, [value(0, "{\"id\":1}")]);
    take(&mut reader, 1).await;
    provider.refuse();
    let error = loop {
        match tokio::time::timeout(SOON, reader.next(LIMIT)).await.expect("the reader waits for ever") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::AuthenticationFailed, "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

/// A JWT that nobody signed: the broker of the tests takes it.
fn unsecured_token(life_seconds: i64) -> String {
    use base64::Engine;
    let now = chrono::Utc::now().timestamp();
    let claims = serde_json::json!({ "sub": "alice", "iat": now, "exp": now + life_seconds });
    let part = |text: String| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part("{\"alg\":\"none\"}".into()), part(claims.to_string()))
}

/// An identity provider: gives whoever asks a token.
struct Provider {
    endpoint: String,
    answered: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    refuses: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Provider {
    fn answered(&self) -> usize {
        self.answered.load(std::sync::atomic::Ordering::SeqCst)
    }
    fn refuse(&self) {
        self.refuses.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

async fn provider(token: impl Fn() -> String + Send + 'static) -> Provider {
    use std::sync::atomic::Ordering::SeqCst;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/token", listener.local_addr().unwrap());
    let provider = Provider { endpoint, answered: Default::default(), refuses: Default::default() };
    let (answered, refuses) = (provider.answered.clone(), provider.refuses.clone());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut asked, mut buffer) = (String::new(), [0; 4096]);
            while !asked.contains("grant_type=client_credentials") {
                let read = stream.read(&mut buffer).await.unwrap();
                asked.push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
            let (status, body) = match refuses.load(SeqCst) {
                false => ("200 OK", serde_json::json!({ "access_token": token() })),
                true => ("401 Unauthorized", serde_json::json!({ "error": "invalid_client" })),
            };
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            answered.fetch_add(1, SeqCst);
        }
    });
    provider
}
