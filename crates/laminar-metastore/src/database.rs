//! Two drivers, one SQL: statements are written once, in what PostgreSQL and SQLite have in common.
//!
//! That is: `$1` parameters, TEXT and BIGINT columns, `INSERT … ON CONFLICT`, `RETURNING`. Every call is bounded in time:
//! a database that is down or hangs is `metadata_unavailable` after [`CALL_TIMEOUT`] at most, and the next call tries
//! again with a fresh connection.

use std::time::Duration;

use laminar_core::{Code, Error, Result};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{PgPool, Postgres, Row as _, Sqlite, SqlitePool, Transaction};

/// How long a call waits for a free connection.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one statement may take, acquiring included.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A pool of connections to either database.
#[derive(Clone, Debug)]
pub enum Database {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// A statement's parameter; the variants are the column types of the schema.
#[derive(Clone, Debug)]
pub enum Value {
    Text(Option<String>),
    Int(Option<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_string()))
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}
impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}
impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

/// A row of an answer; columns are read by name.
pub enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

impl Row {
    pub fn optional_text(&self, column: &str) -> Result<Option<String>> {
        Ok(match self {
            Self::Postgres(row) => row.try_get(column),
            Self::Sqlite(row) => row.try_get(column),
        }
        .map_err(Failure::from)?)
    }
    pub fn optional_int(&self, column: &str) -> Result<Option<i64>> {
        Ok(match self {
            Self::Postgres(row) => row.try_get(column),
            Self::Sqlite(row) => row.try_get(column),
        }
        .map_err(Failure::from)?)
    }
    pub fn text(&self, column: &str) -> Result<String> {
        self.optional_text(column)?.ok_or_else(|| damaged(column))
    }
    pub fn int(&self, column: &str) -> Result<i64> {
        self.optional_int(column)?.ok_or_else(|| damaged(column))
    }
}

/// The error for a stored value that the code cannot have written.
pub fn damaged(what: &str) -> Error {
    Error::internal(format!("the metadata database holds an unusable {what}"))
}

/// Why a statement failed, as far as callers distinguish.
#[derive(Debug)]
pub enum Failure {
    /// A row with this key exists.
    Unique,
    /// A row that this one refers to is missing, or one that refers to it is there.
    ForeignKey,
    Other(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(e) if e.is_unique_violation() => Self::Unique,
            Some(e) if e.is_foreign_key_violation() => Self::ForeignKey,
            _ => Self::Other(describe(&error)),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unique => Error::new(Code::DuplicateName, "a row with this key exists"),
            Failure::ForeignKey => Error::new(Code::NotFound, "a row that this one refers to does not exist"),
            Failure::Other(error) => error,
        }
    }
}

/// Faults of the connection or of the server as a whole pass; anything else is our own.
fn describe(error: &sqlx::Error) -> Error {
    use sqlx::Error::*;
    let unavailable = match error {
        Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed | BeginFailed => true,
        Database(error) => {
            let code = error.code().unwrap_or_default();
            // SQLite: busy 5, locked 6, read-only 8, I/O 10, corrupt 11, full 13, cannot open 14, in the low byte.
            let sqlite =
                code.parse::<u32>().is_ok_and(|c| code.len() != 5 && matches!(c & 0xff, 5 | 6 | 8 | 10 | 11 | 13 | 14));
            // PostgreSQL: connection, credentials, resources, operator intervention, system error.
            let classes = ["08", "28", "3D", "53", "57", "58"];
            sqlite || (code.len() == 5 && classes.iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    };
    let answer = match error {
        PoolTimedOut => "no connection within 3 s".to_string(),
        other => other.to_string(),
    };
    if unavailable {
        unreachable_database(answer)
    } else {
        Error::internal("the metadata database refused a statement").with_detail(answer)
    }
}

/// The error for a database that does not answer.
pub fn unreachable_database(detail: impl Into<String>) -> Error {
    Error::new(Code::MetadataUnavailable, "the metadata database cannot be reached").with_detail(detail)
}

/// `call`, but no longer than [`CALL_TIMEOUT`].
pub async fn bounded<T>(call: impl Future<Output = sqlx::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::Other(unreachable_database("no answer within 5 s"))),
    }
}

impl Database {
    /// Runs one query on its own.
    pub async fn fetch(&self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>, Failure> {
        bounded(async {
            Ok(match self {
                Self::Postgres(pool) => wrap(postgres(sql, values).fetch_all(pool).await?, Row::Postgres),
                Self::Sqlite(pool) => wrap(sqlite(sql, values).fetch_all(pool).await?, Row::Sqlite),
            })
        })
        .await
    }

    /// Opens a transaction that will write; dropped without `commit`, it leaves nothing.
    pub async fn begin(&self) -> Result<Write> {
        // SQLite must take its write lock now: a transaction that reads first cannot wait for it later.
        let begun = bounded(async {
            Ok(match self {
                Self::Postgres(pool) => Write::Postgres(pool.begin().await?),
                Self::Sqlite(pool) => Write::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            })
        });
        Ok(begun.await?)
    }

    /// Closes every connection.
    pub async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}

/// A transaction that writes.
pub enum Write {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

impl Write {
    pub async fn fetch(&mut self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>, Failure> {
        bounded(async {
            Ok(match self {
                Self::Postgres(tx) => wrap(postgres(sql, values).fetch_all(&mut **tx).await?, Row::Postgres),
                Self::Sqlite(tx) => wrap(sqlite(sql, values).fetch_all(&mut **tx).await?, Row::Sqlite),
            })
        })
        .await
    }

    /// Returns how many rows the statement changed.
    pub async fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, Failure> {
        bounded(async {
            Ok(match self {
                Self::Postgres(tx) => postgres(sql, values).execute(&mut **tx).await?.rows_affected(),
                Self::Sqlite(tx) => sqlite(sql, values).execute(&mut **tx).await?.rows_affected(),
            })
        })
        .await
    }

    pub async fn commit(self) -> Result<()> {
        let committed = bounded(async {
            match self {
                Self::Postgres(tx) => tx.commit().await,
                Self::Sqlite(tx) => tx.commit().await,
            }
        });
        Ok(committed.await?)
    }
}

fn wrap<T>(rows: Vec<T>, variant: fn(T) -> Row) -> Vec<Row> {
    rows.into_iter().map(variant).collect()
}

fn postgres(sql: &'static str, values: &[Value]) -> sqlx::query::Query<'static, Postgres, PgArguments> {
    values.iter().fold(sqlx::query(sql), |query, value| match value.clone() {
        Value::Text(text) => query.bind(text),
        Value::Int(number) => query.bind(number),
    })
}

fn sqlite(sql: &'static str, values: &[Value]) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
    values.iter().fold(sqlx::query(sql), |query, value| match value.clone() {
        Value::Text(text) => query.bind(text),
        Value::Int(number) => query.bind(number),
    })
}
