//! Where the checks run: databases that are fresh each time.

use std::str::FromStr;
use std::sync::Arc;

use laminar_core::time::{SharedClock, SystemClock};
use laminar_metastore::{Metastore, SecretKey, connect};
use proptest::prelude::*;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

#[allow(dead_code)] // each test binary uses some of them
pub enum Place {
    Memory,
    File,
    Postgres,
}

pub fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

impl Place {
    /// The URL of a fresh database; the folder it may be in goes when the second value is dropped.
    pub async fn fresh(&self) -> (String, Option<TempDir>) {
        match self {
            Self::Memory => ("sqlite::memory:".into(), None),
            Self::File => {
                let folder = tempfile::tempdir().unwrap();
                (format!("sqlite:{}", folder.path().join("sub/laminar.db").display()), Some(folder))
            }
            Self::Postgres => (fresh_postgres().await, None),
        }
    }

    #[allow(dead_code)] // each test binary uses some of them
    pub async fn open(&self) -> (Arc<dyn Metastore>, Option<TempDir>) {
        let (url, kept) = self.fresh().await;
        (connect(&url, SecretKey::random().unwrap(), clock()).await.unwrap(), kept)
    }
}

pub fn server() -> PgConnectOptions {
    let url = std::env::var("LAMINAR_TEST_POSTGRES")
        .expect("LAMINAR_TEST_POSTGRES is not set: run `scripts/parts.sh start` and export what it prints");
    PgConnectOptions::from_str(&url).unwrap()
}

/// Creates a database on the server; they go with the server's folder.
pub async fn fresh_postgres() -> String {
    let server = server();
    let name = format!("metastore_{}", uuid::Uuid::now_v7().simple());
    let mut connection = server.connect().await.expect("the PostgreSQL at LAMINAR_TEST_POSTGRES answers");
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    server.database(&name).to_url_lossy().to_string()
}

#[allow(dead_code)] // each test binary uses some of them
pub fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1.0e6..1.0e6f64).prop_map(|f| Value::from((f * 8.0).round() / 8.0)),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("nul \0 and \u{1f600} and \\u0000")),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((".{0,8}", inner), 0..5).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}
