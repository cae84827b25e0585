//! What is asked of AWS Glue, in which order, and what its answers mean: over a server that answers as a script says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use laminar_core::Retry;

use super::*;

const UUID: &str = "b7b4a7f0-9c96-4e4a-a687-fb5de9ef0c63";
const MISSING: (u16, &str) = (400, r#"{"__type":"EntityNotFoundException","Message":"not found"}"#);
const TAKEN: (u16, &str) = (400, r#"{"__type":"AlreadyExistsException","Message":"taken"}"#);
const BUSY: (u16, &str) = (400, r#"{"__type":"ThrottlingException","Message":"slowly"}"#);

/// An answer with the version's status.
fn version(status: &str) -> (u16, String) {
    let answer = json!({"SchemaVersionId": UUID, "Status": status, "SchemaVersionStatus": status,
        "SchemaDefinition": "{}", "DataFormat": "JSON"});
    (200, answer.to_string())
}

fn said((status, body): (u16, &str)) -> (u16, String) {
    (status, body.to_string())
}

/// An operation and a body each.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// Answers one request after the other so, and keeps what was asked.
fn server(answers: Vec<(u16, String)>) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&asked);
    std::thread::spawn(move || {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let request = read(&stream);
            list.lock().unwrap().push(request);
            let length = body.len();
            let head = format!("HTTP/1.1 {status} Any\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat());
        }
    });
    (address, asked)
}

/// The operation and the body of a request that is signed.
fn read(stream: &TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("POST / "), "{line}");
    let (mut operation, mut authorization, mut length, mut kind) = (String::new(), String::new(), 0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "x-amz-target" => operation = value.strip_prefix("AWSGlue.").unwrap().to_string(),
            "authorization" => authorization = value.to_string(),
            "content-length" => length = value.parse().unwrap(),
            "content-type" => kind = value.to_string(),
            _ => {}
        }
    }
    assert_eq!(kind, "application/x-amz-json-1.1");
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{authorization}");
    assert!(authorization.contains("/eu-west-1/glue/aws4_request, SignedHeaders="), "{authorization}");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (operation, serde_json::from_slice(&body).unwrap())
}

fn client(address: &str, patience: Patience, registry: Option<&str>) -> Glue {
    let options = RegistryOptions {
        kind: laminar_formats::registry::RegistryKind::Glue,
        region: Some("eu-west-1".into()),
        endpoint: Some(vec![address.to_string()]),
        registry_name: registry.map(str::to_string),
        ..RegistryOptions::default()
    };
    let client = Glue::new(&options, patience).unwrap();
    let credentials = Credentials::new("AKID", "secret", None, None, "the test");
    Glue { aws: client.aws.with_credentials(credentials), ..client }
}

fn avro() -> SchemaText {
    SchemaText { kind: SchemaKind::Avro, text: "\"long\"".into() }
}

/// What registering asks for and gives, where the answers are these.
async fn check(answers: Vec<(u16, String)>, operations: &[&str], expected: Result<(), Code>) {
    let (address, asked) = server(answers);
    let registered = client(&address, Patience::Job, None).register("t", &avro()).await;
    let asked: Vec<String> = asked.lock().unwrap().iter().map(|(operation, _)| operation.clone()).collect();
    assert_eq!(asked, operations);
    assert_eq!(registered.map(|id| assert_eq!(id.to_string(), UUID)).map_err(|error| error.code()), expected);
}

#[tokio::test]
async fn a_schema_is_looked_up_then_registered_then_created() {
    let (find, register, create) = ("GetSchemaByDefinition", "RegisterSchemaVersion", "CreateSchema");
    let ok = || version("AVAILABLE");
    check(vec![ok()], &[find], Ok(())).await;
    check(vec![said(MISSING), ok()], &[find, register], Ok(())).await;
    check(vec![said(MISSING), said(MISSING), ok()], &[find, register, create], Ok(())).await;
    let raced = vec![said(MISSING), said(MISSING), said(TAKEN), ok()];
    check(raced, &[find, register, create, register], Ok(())).await;
    // A version that was refused once may be allowed now.
    check(vec![version("FAILURE"), ok()], &[find, register], Ok(())).await;
    check(vec![said(BUSY), ok()], &[find, find], Ok(())).await;
}

#[tokio::test]
async fn a_version_is_waited_for_while_it_is_checked() {
    let (find, register, get) = ("GetSchemaByDefinition", "RegisterSchemaVersion", "GetSchemaVersion");
    let pending = || vec![said(MISSING), version("PENDING"), version("PENDING")];
    let asked = [find, register, get, get];
    check([pending(), vec![version("AVAILABLE")]].concat(), &asked, Ok(())).await;
    check([pending(), vec![version("FAILURE")]].concat(), &asked, Err(Code::IncompatibleSchema)).await;
    check([pending(), vec![version("DELETING")]].concat(), &asked, Err(Code::UnknownSchema)).await;
}

#[tokio::test]
async fn requests_name_the_registry_but_the_default_one_is_made_by_glue() {
    for (registry, expected) in [(None, Value::Null), (Some("shop"), json!({"RegistryName": "shop"}))] {
        let answers = vec![said(MISSING), said(MISSING), version("AVAILABLE")];
        let (address, asked) = server(answers);
        client(&address, Patience::Job, registry).register("t", &avro()).await.unwrap();
        let asked = asked.lock().unwrap();
        let name = registry.unwrap_or("default-registry");
        assert_eq!(asked[0].1["SchemaId"], json!({"RegistryName": name, "SchemaName": "t"}));
        let create = &asked[2].1;
        assert_eq!(create.get("RegistryId").cloned().unwrap_or_default(), expected);
        assert_eq!((&create["DataFormat"], &create["Compatibility"]), (&json!("AVRO"), &json!("BACKWARD")));
        assert_eq!(create["SchemaDefinition"], json!("\"long\""));
    }
}

#[tokio::test]
async fn schemas_come_by_their_uuid_and_the_newest_by_its_name() {
    let (address, asked) = server(vec![version("AVAILABLE"), version("AVAILABLE"), version("DELETING")]);
    let client = client(&address, Patience::Job, None);
    let id = SchemaId::of_uuid(UUID).unwrap();
    let schema = client.schema(id).await.unwrap();
    assert_eq!((schema.id, schema.kind, schema.text.as_str()), (id, SchemaKind::Json, "{}"));
    assert_eq!(client.latest("t").await.unwrap(), schema);
    assert_eq!(client.latest("t").await.unwrap_err().code(), Code::UnknownSchema);
    assert_eq!(client.schema(7.into()).await.unwrap_err().code(), Code::UnknownSchema);
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].1, json!({"SchemaVersionId": UUID}));
    let schema_id = json!({"RegistryName": "default-registry", "SchemaName": "t"});
    assert_eq!(asked[1].1, json!({"SchemaId": schema_id, "SchemaVersionNumber": {"LatestVersion": true}}));
}

/// A job asks again while Glue is not well; a person at a terminal is told at once.
#[tokio::test]
async fn no_answer_is_an_outage() {
    for (patience, times) in [(Patience::Job, 4), (Patience::Statement, 1)] {
        let (address, asked) = server(vec![said(BUSY); 4]);
        let error = client(&address, patience, None).latest("t").await.unwrap_err();
        assert_eq!((error.code(), error.retry()), (Code::Unreachable, Retry::Backoff), "{error:?}");
        assert_eq!(asked.lock().unwrap().len(), times);
    }
    // A port that nobody listens on any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client(&format!("http://{gone}"), Patience::Statement, None).latest("t").await.unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "{error:?}");
    let (stranger, _) = server(vec![said((200, "hello"))]);
    let error = client(&stranger, Patience::Job, None).latest("t").await.unwrap_err();
    assert_eq!((error.code(), error.field()), (Code::ConnectorError, Some("schema_registry.endpoint")));
    let (empty, _) = server(vec![said((200, "{}"))]);
    assert_eq!(client(&empty, Patience::Job, None).latest("t").await.unwrap_err().code(), Code::ConnectorError);
}

#[tokio::test]
async fn a_schema_that_must_be_there_is_not_registered() {
    let (address, asked) = server(vec![said(MISSING)]);
    let error = client(&address, Patience::Job, None).find("t", &avro()).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownSchema);
    assert!(error.hint().unwrap().contains("auto.register.schemas"), "{error:?}");
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[test]
fn no_credentials_print() {
    assert!(!format!("{:?}", client("http://h", Patience::Job, None)).contains("secret"));
}
