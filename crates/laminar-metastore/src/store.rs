//! The one implementation: opening a database and what all resources share.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use laminar_core::time::SharedClock;
use laminar_core::{Code, Error, Result};
use sqlx::migrate::Migrate;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Sqlite, SqlitePool};

use crate::database::{ACQUIRE_TIMEOUT, CALL_TIMEOUT, Database, Failure, Value, bounded, unreachable_database};
use crate::{Metastore, Page, SecretKey, new_id};

/// Embedded, so that the binary needs no files beside it.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// The schema in PostgreSQL: a database that also holds other tables may be used.
const SCHEMA: &str = "laminar";
pub(crate) const KEY_CHECK: &str = "settings:key_check";
const POSTGRES_CONNECTIONS: u32 = 8;
const SQLITE_CONNECTIONS: u32 = 4;

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) database: Database,
    pub(crate) key: SecretKey,
    pub(crate) clock: SharedClock,
    instance_id: String,
}

/// See [`crate::connect`].
pub(crate) async fn open(url: &str, key: SecretKey, clock: SharedClock) -> Result<Arc<dyn Metastore>> {
    Ok(Arc::new(Store::open(url, key, clock).await?))
}

async fn open_postgres(url: &str) -> Result<Database> {
    // The parser's message may repeat the password.
    let unusable = |_| Error::new(Code::InvalidOption, "the metadata database's postgres URL is not well-formed");
    let options = PgConnectOptions::from_str(url)
        .map_err(unusable)?
        .application_name("laminar")
        .options([("search_path", SCHEMA)]);
    // Not through the pool, which hides why a connection fails.
    let connecting = tokio::time::timeout(CALL_TIMEOUT, options.connect()).await;
    let mut first = match connecting {
        Ok(connected) => connected.map_err(|error| Error::from(Failure::from(error)))?,
        Err(_) => return Err(unreachable_database("no answer within 5 s")),
    };
    let created = sqlx::query("CREATE SCHEMA IF NOT EXISTS laminar").execute(&mut first).await;
    // Two servers may create it at the same time: IF NOT EXISTS does not exclude that, and the loser sees it exist.
    match created.map_err(Failure::from) {
        Ok(_) | Err(Failure::Unique) => {}
        Err(failure) => return Err(failure.into()),
    }
    migrate(&mut first).await?; // holds an advisory lock: one server at a time
    let _ = first.close().await;
    let pool = PgPoolOptions::new().max_connections(POSTGRES_CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
    Ok(Database::Postgres(pool.connect_lazy_with(options)))
}

async fn open_sqlite(url: &str) -> Result<Database> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|e| {
            Error::new(Code::InvalidOption, "the metadata database's sqlite URL is not well-formed")
                .with_detail(e.to_string())
        })?
        .create_if_missing(true)
        .busy_timeout(ACQUIRE_TIMEOUT)
        .foreign_keys(true);
    let pool = SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
    if url.contains(":memory:") || url.contains("mode=memory") {
        // The database lives as long as its one connection.
        let pool = pool.max_connections(1).idle_timeout(None).max_lifetime(None).connect_lazy_with(options);
        migrate(&mut *acquire(&pool).await?).await?;
        return Ok(Database::Sqlite(pool));
    }
    let path = options.get_filename().to_path_buf();
    let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    let lock = lock_file(&path).await?;
    let pool = pool.max_connections(SQLITE_CONNECTIONS).connect_lazy_with(options);
    migrate(&mut *acquire(&pool).await?).await?;
    drop(lock);
    Ok(Database::Sqlite(pool))
}

async fn acquire(pool: &SqlitePool) -> Result<PoolConnection<Sqlite>> {
    Ok(bounded(pool.acquire()).await?)
}

/// Brings the tables up to date. `run_direct` is what `run` calls; with `run` itself the future is not `Send`
/// ("implementation of `Acquire` is not general enough").
async fn migrate<C: Migrate>(connection: &mut C) -> Result<()> {
    MIGRATIONS.run_direct(None, connection, false).await.map_err(migration_failed)
}

/// Creates the database file, private to its owner, and takes the lock `<path>.lock` so that two servers that start at
/// once migrate one after the other; SQLite's own locks do not span several statements of a migration run.
async fn lock_file(path: &Path) -> Result<std::fs::File> {
    let path = path.to_path_buf();
    let shown = path.display().to_string();
    let locked = tokio::task::spawn_blocking(move || {
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let private = |path: &Path| {
            std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
        };
        private(&path)?;
        let mut lock_path = path.into_os_string();
        lock_path.push(".lock");
        let lock = private(Path::new(&lock_path))?;
        lock.lock()?;
        Ok::<_, std::io::Error>(lock)
    });
    let failed = |detail: String| {
        Error::new(Code::FileError, format!("metadata database {shown} cannot be opened")).with_detail(detail)
    };
    match locked.await {
        Ok(Ok(lock)) => Ok(lock),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn migration_failed(error: sqlx::migrate::MigrateError) -> Error {
    use sqlx::migrate::MigrateError::*;
    match error {
        Execute(error) | ExecuteMigration(error, _) => Failure::from(error).into(),
        VersionMissing(_) | VersionTooNew(..) => {
            Error::new(Code::WrongState, "the metadata database was used by a newer laminar")
                .with_detail(error.to_string())
        }
        other => Error::internal("the metadata database cannot be brought up to date").with_detail(other.to_string()),
    }
}

#[async_trait]
impl Metastore for Store {
    fn instance_id(&self) -> &str {
        &self.instance_id
    }

    async fn ping(&self) -> Result<()> {
        self.database.fetch("SELECT name FROM settings WHERE name = 'instance_id'", &[]).await?;
        Ok(())
    }

    async fn close(&self) {
        let _ = bounded(async {
            self.database.close().await;
            Ok(())
        })
        .await;
    }
}

impl Store {
    /// See [`crate::connect`].
    pub(crate) async fn open(url: &str, key: SecretKey, clock: SharedClock) -> Result<Self> {
        let database = match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => open_postgres(url).await?,
            Some("sqlite") => open_sqlite(url).await?,
            _ => {
                return Err(Error::new(Code::InvalidOption, "the metadata database's URL has an unknown scheme")
                    .with_hint("write sqlite:PATH, sqlite::memory: or postgres://user:password@host:port/database"));
            }
        };
        let made = new_id(&clock);
        let mut store = Store { database, key, clock, instance_id: String::new() };
        store.instance_id = store.setting("instance_id", made).await?;
        let check = store.key.seal(KEY_CHECK, "laminar")?;
        let check = store.setting("key_check", check).await?;
        store.key.open(KEY_CHECK, &check)?;
        Ok(store)
    }

    /// The setting's value; `first` is stored if it has none yet.
    async fn setting(&self, name: &str, first: String) -> Result<String> {
        let mut tx = self.database.begin().await?;
        let insert = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        tx.execute(insert, &[name.into(), first.into()]).await?;
        let rows = tx.fetch("SELECT value FROM settings WHERE name = $1", &[name.into()]).await?;
        tx.commit().await?;
        rows.first().ok_or_else(|| crate::database::damaged("setting"))?.text("value")
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now_millis()
    }
}

/// The page's `starting_after` and `limit` as parameters; an absent id sorts before (`none`) every other.
pub(crate) fn page_values(page: &Page, none: &str) -> [Value; 2] {
    let after = page.starting_after.clone().unwrap_or_else(|| none.to_string());
    [after.into(), i64::from(page.limit).into()]
}

/// A count as the database stores it.
pub(crate) fn to_stored(number: u64, what: &str) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::new(Code::InvalidValue, format!("{what} {number} is too large")))
}

/// A stored count.
pub(crate) fn from_stored<T: TryFrom<i64>>(number: i64, what: &str) -> Result<T> {
    T::try_from(number).map_err(|_| crate::database::damaged(what))
}

/// Text as both databases can hold it: PostgreSQL has no NUL in text.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Stored JSON.
pub(crate) fn json(text: &str, what: &str) -> Result<serde_json::Value> {
    serde_json::from_str(text).map_err(|_| crate::database::damaged(what))
}
