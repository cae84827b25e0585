//! What the registry answers, and what it means.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use laminar_connectors::kafka::KafkaConnector;
use laminar_core::connector::{Connector, Role};
use laminar_core::{Code, Retry};
use laminar_formats::registry::{SchemaKind, SchemaRegistry, SchemaText};

use super::support::unique;
use super::{client_at, compatibility, endpoint};

fn avro(fields: &str) -> SchemaText {
    SchemaText { kind: SchemaKind::Avro, text: format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#) }
}

const A: &str = r#"{"name":"a","type":"long"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_comes_back_by_its_id_and_under_its_subject() {
    let (writer, reader) = (client_at(&endpoint()), client_at(&endpoint()));
    let subject = unique("sub/ject %");
    let id = writer.register(&subject, &avro(A)).unwrap();
    assert_eq!(writer.register(&subject, &avro(A)).unwrap(), id);
    assert_eq!(reader.find(&subject, &avro(A)).unwrap(), id);
    let schema = reader.schema(id).unwrap();
    assert_eq!((schema.id, schema.kind, schema.text.as_str()), (id, SchemaKind::Avro, avro(A).text.as_str()));
    assert_eq!(*reader.latest(&subject).unwrap(), *schema);
    let proto =
        SchemaText { kind: SchemaKind::Protobuf, text: "syntax = \"proto3\"; message M { int32 a = 1; }".into() };
    let id = writer.register(&unique("proto"), &proto).unwrap();
    assert_eq!(reader.schema(id).unwrap().kind, SchemaKind::Protobuf);
}

/// As a source does, which decodes within its task; and as a tool does that has no other threads.
#[test]
fn it_can_be_asked_from_any_thread() {
    let subject = unique("threads");
    let id = client_at(&endpoint()).register(&subject, &avro(A)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { assert_eq!(client_at(&endpoint()).schema(id).unwrap().id, id) });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_schema_refers_to_comes_with_it_in_order() {
    let client = client_at(&endpoint());
    let (inner, outer) = (unique("inner"), unique("outer"));
    let named = |name: &str, fields: &str| format!(r#"{{"type":"record","name":"ns.{name}","fields":[{fields}]}}"#);
    let first = SchemaText { kind: SchemaKind::Avro, text: named("Inner", A) };
    client.register(&inner, &first).unwrap();
    let post = |subject: &str, text: String, name: &str, of: &str| {
        let body = serde_json::json!({"schemaType": "AVRO", "schema": text,
            "references": [{"name": name, "subject": of, "version": 1}]});
        let request = reqwest::Client::new().post(format!("{}/subjects/{subject}/versions", endpoint()));
        request.header("Content-Type", "application/vnd.schemaregistry.v1+json").body(body.to_string()).send()
    };
    let middle = unique("middle");
    let text = named("Middle", r#"{"name":"i","type":"ns.Inner"}"#);
    post(&middle, text, "ns.Inner", &inner).await.unwrap().error_for_status().unwrap();
    let text = named("Outer", r#"{"name":"m","type":"ns.Middle"}"#);
    post(&outer, text, "ns.Middle", &middle).await.unwrap().error_for_status().unwrap();
    let names: Vec<String> =
        client.latest(&outer).unwrap().references.iter().map(|reference| reference.name.clone()).collect();
    assert_eq!(names, ["ns.Inner", "ns.Middle"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_who_must_act() {
    let client = client_at(&endpoint());
    assert_eq!(client.schema(2_000_000_000.into()).unwrap_err().code(), Code::UnknownSchema);
    assert_eq!(client.latest(&unique("none")).unwrap_err().code(), Code::UnknownSchema);
    let subject = unique("strict");
    client.register(&subject, &avro(A)).unwrap();
    assert_eq!(client.find(&subject, &avro("")).unwrap_err().code(), Code::UnknownSchema);
    compatibility(&subject, "BACKWARD").await;
    let error = client.register(&subject, &avro(r#"{"name":"b","type":"string"}"#)).unwrap_err();
    assert_eq!(error.code(), Code::IncompatibleSchema);
    assert_eq!(error.retry(), Retry::Never);
    let detail = error.detail().unwrap_or_default();
    assert!(detail.contains("/fields/0"), "the registry's explanation is missing: {detail}");
    let nonsense = SchemaText { kind: SchemaKind::Avro, text: "{".into() };
    assert_eq!(client.register(&unique("nonsense"), &nonsense).unwrap_err().code(), Code::InvalidSchema);
    let error = client_at(&format!("{}/nowhere", endpoint())).schema(1.into()).unwrap_err();
    assert_eq!(error.code(), Code::ConnectorError, "{error}");
}

/// A server that answers every request so; its address.
fn answering(answer: &'static str) -> String {
    counting(answer).0
}

/// The same, and how many requests came.
fn counting(answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counts.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_an_outage() {
    // A port that nobody listens on any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client_at(&format!("http://{gone}")).schema(1.into()).unwrap_err();
    assert_eq!((error.code(), error.retry()), (Code::Unreachable, Retry::Backoff), "{error}");
    let ill = answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let error = client_at(&ill).schema(1.into()).unwrap_err();
    assert_eq!((error.code(), error.retry()), (Code::Unreachable, Retry::Backoff), "{error}");
    let stranger = answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    assert_eq!(client_at(&stranger).schema(1.into()).unwrap_err().code(), Code::ConnectorError);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_not_tried_again() {
    let body = r#"{"error_code":401,"message":"Unauthorized"}"#;
    let answer = format!(
        "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let error = client_at(&answering(answer.leak())).schema(1.into()).unwrap_err();
    assert_eq!((error.code(), error.retry()), (Code::AuthenticationFailed, Retry::Never), "{error}");
}

/// A job waits for a registry that starts anew; a person at a terminal is told at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_asks_once() {
    let (address, asked) =
        counting("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let topic = super::support::topic("avro", 1).await;
    let pairs = [("topic", topic.as_str()), ("format", "avro"), ("schema_registry.endpoint", address.as_str())];
    let options = super::support::options(&pairs);
    for role in [Role::Source, Role::Sink] {
        let before = asked.load(Ordering::SeqCst);
        let error = KafkaConnector::new().check_outside(role, &options).await.unwrap_err();
        assert_eq!((error.code(), asked.load(Ordering::SeqCst) - before), (Code::Unreachable, 1), "{error:?}");
    }
    let before = asked.load(Ordering::SeqCst);
    client_at(&address).schema(1.into()).unwrap_err();
    assert_eq!(asked.load(Ordering::SeqCst) - before, 4);
}
