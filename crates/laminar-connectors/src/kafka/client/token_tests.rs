//! Tokens of each origin; the identity provider is a small one on a port of this machine.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

/// Answers one request; returns what was asked.
fn provider(answer: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/token", listener.local_addr().unwrap());
    let serve = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut asked, mut buffer) = (String::new(), [0; 4096]);
        while !asked.contains("grant_type=") {
            let read = stream.read(&mut buffer).unwrap();
            asked.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        stream.write_all(answer.as_bytes()).unwrap();
        asked
    };
    (endpoint, thread::spawn(serve))
}

fn client_credentials(endpoint: &str) -> Origin {
    Origin::ClientCredentials {
        endpoint: endpoint.into(),
        client_id: "laminar:1".into(),
        client_secret: Secret::new("hunter2 &"),
        scope: Some("kafka read".into()),
        authorities: None,
    }
}

fn http(status: &str, body: &str) -> &'static str {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    Box::leak(text.into_boxed_str())
}

#[test]
fn a_provider_gives_a_token_for_client_credentials() {
    let (endpoint, asked) = provider(http("200 OK", r#"{"access_token":"a.b.c","expires_in":60}"#));
    let before = now_ms();
    let token = fetch(&client_credentials(&endpoint)).unwrap();
    assert_eq!(token.value, "a.b.c");
    assert!((before + 60_000..=now_ms() + 60_000).contains(&token.expires_ms));
    let asked = asked.join().unwrap();
    // RFC 6749 section 2.3.1: name and password are encoded before base64.
    let login = BASE64_STANDARD.encode("laminar%3A1:hunter2%20%26");
    assert!(asked.contains(&format!("authorization: Basic {login}")), "{asked}");
    assert!(asked.ends_with("grant_type=client_credentials&scope=kafka%20read"), "{asked}");
}

#[test]
fn what_a_provider_refuses_is_told_without_its_secrets() {
    let body = r#"{"error":"invalid_client","error_description":"no such client","echo":"hunter2"}"#;
    let (endpoint, _) = provider(http("401 Unauthorized", body));
    let error = fetch(&client_credentials(&endpoint)).unwrap_err();
    assert_eq!(error.code(), Code::AuthenticationFailed);
    assert_eq!(error.detail(), Some("HTTP 401 invalid_client: no such client"));
    assert!(!format!("{error:?}").contains("hunter2"));

    // Later it may give one.
    for status in ["503 Down", "408 Request Timeout", "429 Too Many Requests"] {
        let (endpoint, _) = provider(http(status, ""));
        assert_eq!(fetch(&client_credentials(&endpoint)).unwrap_err().code(), Code::Unreachable, "{status}");
    }
    let (endpoint, _) = provider(http("200 OK", r#"{"token":"a"}"#));
    assert_eq!(fetch(&client_credentials(&endpoint)).unwrap_err().code(), Code::Unreachable);
    let error = fetch(&client_credentials("http://127.0.0.1:1/token")).unwrap_err();
    assert_eq!(error.code(), Code::Unreachable);
}

#[test]
fn a_given_token_lives_as_long_as_it_says() {
    let scope = ("scope".to_string(), vec!["read".to_string()]);
    let made = unsecured("alice", "sub", Some(&scope), Duration::from_secs(60), now_ms());
    let read = given(&made.value, now_ms()).unwrap();
    assert_eq!((read.principal.as_str(), read.expires_ms / 1000), ("alice", made.expires_ms / 1000));
    assert_eq!(claims(&made.value)["scope"], json!(["read"]));
    let old = unsecured("alice", "sub", None, Duration::from_secs(60), now_ms() - 120_000);
    assert_eq!(given(&old.value, now_ms()).unwrap_err().field(), Some("auth.token"));
    assert_eq!(given("opaque", 1000).unwrap().expires_ms, 1000 + GIVEN_MS);
}

#[test]
fn an_old_token_is_replaced_without_waiting() {
    let (endpoint, _) = provider(http("200 OK", r#"{"access_token":"new","expires_in":60}"#));
    let tokens = Arc::new(Tokens::new(client_credentials(&endpoint), Vec::new()));
    let now = now_ms();
    let old = Token { value: "old".into(), principal: String::new(), expires_ms: now + 1000, made_ms: now - 10_000 };
    tokens.state().last = Some(Arc::new(old.clone()));
    // The first look only starts the replacement.
    assert_eq!(tokens.newer(old.expires_ms), None);
    let new = loop {
        if let Some(new) = tokens.newer(old.expires_ms) {
            break new;
        }
        thread::yield_now();
    };
    assert_eq!(new.value, "new");
    assert_eq!(tokens.newer(new.expires_ms), None);
    assert_eq!(tokens.first().unwrap(), new);
}

#[test]
fn a_login_is_shared_while_it_is_in_use() {
    let (logins, made) = (Logins::default(), |endpoint| Tokens::new(client_credentials(endpoint), Vec::new()));
    let first = logins.shared(made("http://a"));
    assert!(Arc::ptr_eq(&first, &logins.shared(made("http://a"))));
    assert!(!Arc::ptr_eq(&first, &logins.shared(made("http://b"))));
    let token = unsecured("alice", "sub", None, Duration::from_secs(60), now_ms());
    first.state().last = Some(Arc::new(token.clone()));
    first.forget(token.expires_ms - 1);
    assert_eq!(first.first().unwrap().value, token.value);
    drop(first);
    assert_eq!(logins.shared(made("http://a")).state().last, None);
}

/// Else each client that is made later would be refused with it too.
#[test]
fn a_token_that_a_broker_refused_is_not_given_again() {
    let (endpoint, _) = provider(http("200 OK", r#"{"access_token":"new","expires_in":60}"#));
    let tokens = Tokens::new(client_credentials(&endpoint), Vec::new());
    let refused = unsecured("alice", "sub", None, Duration::from_secs(60), now_ms());
    tokens.state().last = Some(Arc::new(refused.clone()));
    tokens.forget(refused.expires_ms);
    assert_eq!(tokens.first().unwrap().value, "new");
}

#[test]
fn nothing_secret_prints() {
    let token = unsecured("alice", "sub", None, Duration::from_secs(60), 0);
    assert!(!format!("{token:?}").contains(&token.value));
    assert!(!format!("{:?}", client_credentials("http://x")).contains("hunter2"));
}

/// Credentials come from the environment, which a test must not change: the test runs itself again with them set.
#[test]
fn a_token_for_msk_is_signed_with_the_credentials_of_the_environment() {
    const INNER: &str = "LAMINAR_TEST_MSK_INNER";
    if std::env::var_os(INNER).is_none() {
        let name = "kafka::token::tests::a_token_for_msk_is_signed_with_the_credentials_of_the_environment";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name, "--nocapture"]).env(INNER, "1").env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
        again.env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI").env("AWS_SESSION_TOKEN", "session");
        let output = again.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let before = now_ms();
    let token = fetch(&Origin::MskIam { region: "eu-west-1".into(), role: None }).unwrap();
    let url = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(&token.value).unwrap()).unwrap();
    let url = reqwest::Url::parse(&url).unwrap();
    assert_eq!((url.scheme(), url.host_str()), ("https", Some("kafka.eu-west-1.amazonaws.com")));
    let parameters: std::collections::BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(parameters["Action"], "kafka-cluster:Connect");
    assert_eq!(parameters["X-Amz-Algorithm"], "AWS4-HMAC-SHA256");
    assert_eq!(parameters["X-Amz-Expires"], "900");
    assert_eq!(parameters["X-Amz-Security-Token"], "session");
    let scope = &parameters["X-Amz-Credential"];
    assert!(scope.starts_with("AKIDEXAMPLE/") && scope.ends_with("/eu-west-1/kafka-cluster/aws4_request"), "{scope}");
    assert!(parameters["X-Amz-Signature"].len() == 64 && !url.as_str().contains("wJalrXUtnFEMI"));
    assert!((before..before + 901_000).contains(&token.expires_ms));
}
