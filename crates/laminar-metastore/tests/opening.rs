//! Opening a database: twice at once, again, with the wrong key, not at all, and while it goes away and comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed test panics

mod parts;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use laminar_core::options::Secret;
use laminar_core::{Code, Retry};
use laminar_metastore::{NewObject, ObjectKind, Page, SecretKey, connect, rotate};
use sqlx::ConnectOptions;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use parts::{Place, clock};

fn secret(name: &str, value: &str) -> NewObject {
    NewObject {
        kind: ObjectKind::Secret,
        name: name.into(),
        definition: serde_json::Value::Null,
        sql: String::new(),
        secret: Some(Secret::new(value)),
        uses: vec![],
    }
}

async fn check_reopening(place: Place) {
    let (url, _kept) = place.fresh().await;
    let key = SecretKey::random().unwrap();
    // Many servers start at once on an empty database.
    let mut starting = JoinSet::new();
    for _ in 0..6 {
        let (url, key) = (url.clone(), key.clone());
        starting.spawn(async move { connect(&url, key, clock()).await.unwrap() });
    }
    let started = starting.join_all().await;
    assert!(started.windows(2).all(|pair| pair[0].instance_id() == pair[1].instance_id()));
    let instance = started[0].instance_id().to_string();
    started[0].create_object(secret("s", "hunter2")).await.unwrap();
    assert_eq!(started[5].secret_value("s").await.unwrap().expose(), "hunter2");
    for metastore in &started {
        metastore.close().await;
    }

    let again = connect(&url, key, clock()).await.unwrap();
    assert_eq!(again.instance_id(), instance);
    assert_eq!(again.secret_value("s").await.unwrap().expose(), "hunter2");
    again.close().await;

    let error = connect(&url, SecretKey::random().unwrap(), clock()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidOption);
    assert_eq!(error.message(), "the secret key does not open what the metadata database holds");
}

async fn check_rotation(place: Place) {
    let (url, _kept) = place.fresh().await;
    let (old, new) = (SecretKey::random().unwrap(), SecretKey::random().unwrap());
    let metastore = connect(&url, old.clone(), clock()).await.unwrap();
    metastore.create_object(secret("s", "hunter2")).await.unwrap();
    let connection = NewObject {
        kind: ObjectKind::Connection,
        definition: serde_json::json!({"password": "hunter3"}),
        sql: "CREATE CONNECTION c".into(),
        secret: None,
        ..secret("c", "")
    };
    metastore.create_object(connection).await.unwrap();
    let view = NewObject { kind: ObjectKind::View, sql: "CREATE VIEW v".into(), secret: None, ..secret("v", "") };
    metastore.create_object(view).await.unwrap();
    metastore.close().await;

    // With a key that opens nothing, nothing changes.
    let other = SecretKey::random().unwrap();
    assert_eq!(rotate(&url, other, &new, clock()).await.unwrap_err().code(), Code::InvalidOption);
    assert_eq!(rotate(&url, old.clone(), &new, clock()).await.unwrap(), 2);
    assert_eq!(connect(&url, old, clock()).await.unwrap_err().code(), Code::InvalidOption);
    let metastore = connect(&url, new, clock()).await.unwrap();
    assert_eq!(metastore.secret_value("s").await.unwrap().expose(), "hunter2");
    let read = metastore.object(ObjectKind::Connection, "c").await.unwrap();
    assert_eq!((read.definition["password"].as_str(), read.sql.as_str()), (Some("hunter3"), "CREATE CONNECTION c"));
    assert_eq!(metastore.object(ObjectKind::View, "v").await.unwrap().sql, "CREATE VIEW v");
    metastore.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_opens_everything_in_sqlite() {
    check_rotation(Place::File).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_opens_everything_in_postgres() {
    check_rotation(Place::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_is_kept() {
    check_reopening(Place::File).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_database_is_kept() {
    check_reopening(Place::Postgres).await;
}

#[tokio::test]
async fn a_sqlite_file_is_private_and_holds_no_secret() {
    let (url, folder) = Place::File.fresh().await;
    let metastore = connect(&url, SecretKey::random().unwrap(), clock()).await.unwrap();
    metastore.create_object(secret("s", "hunter2-hunter2")).await.unwrap();
    let mut connection = secret("c", "");
    (connection.kind, connection.secret) = (ObjectKind::Connection, None);
    connection.sql = "CREATE CONNECTION c TO kafka ('sasl.password' = 'hunter2-hunter2')".into();
    metastore.create_object(connection).await.unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(folder.unwrap().path().join("sub")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|w| w == b"hunter2"), "{}", path.display());
        files += 1;
    }
    assert!(files >= 2, "the database and its log are there");
    metastore.close().await;
}

#[tokio::test]
async fn urls_that_cannot_be_used_say_so() {
    let key = SecretKey::random().unwrap();
    for url in ["mysql://x", "laminar.db", "", "postgres://u:hunter2@host:port/x"] {
        let error = connect(url, key.clone(), clock()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidOption, "{url}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    let error = connect("sqlite:/proc/no/such/folder/x.db", key, clock()).await.unwrap_err();
    assert_eq!(error.code(), Code::FileError);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_reported_within_seconds() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let start = Instant::now();
    let url = format!("postgres://u@127.0.0.1:{free}/x");
    let error = connect(&url, SecretKey::random().unwrap(), clock()).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), (Code::MetadataUnavailable, Retry::Backoff), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(6));
}

/// Passes bytes on between its port and the real server until it is dropped.
async fn proxy(port: u16, to: String) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(&to).await.unwrap();
            connections.spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, tasks)
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_go_away_and_come_back() {
    let real = parts::server();
    let to = format!("{}:{}", real.get_host(), real.get_port());
    let url = parts::fresh_postgres().await;
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let (port, running) = proxy(0, to.clone()).await;
    let url = options.host("127.0.0.1").port(port).to_url_lossy().to_string();
    let metastore = connect(&url, SecretKey::random().unwrap(), clock()).await.unwrap();
    metastore.create_object(secret("before", "1")).await.unwrap();

    drop(running);
    for _ in 0..3 {
        let start = Instant::now();
        let error = metastore.create_object(secret("during", "2")).await.unwrap_err();
        assert_eq!(error.code(), Code::MetadataUnavailable, "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(6));
    }

    let (_, _running) = proxy(port, to).await;
    let metastore = Arc::clone(&metastore);
    metastore.ping().await.unwrap();
    metastore.create_object(secret("after", "3")).await.unwrap();
    let names: Vec<_> = metastore.objects(None, &Page::all()).await.unwrap().into_iter().map(|o| o.name).collect();
    assert_eq!(names, ["before", "after"]);
}
