//! The SQLite backend: one file, WAL, every commit synced (a crash loses nothing that was answered).

mod catalog;
mod enrolments;
mod policies;

use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::StoreError;

/// The schema, step by step. `PRAGMA user_version` says how many steps a file has behind it. Steps are never changed.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE records (
        serial INTEGER PRIMARY KEY,
        content BLOB NOT NULL,
        sha256 BLOB NOT NULL,
        scopes INTEGER NOT NULL,
        not_after INTEGER NOT NULL,
        signed BLOB NOT NULL
    ) STRICT;
    CREATE INDEX records_content ON records (content, serial, scopes, not_after);
    CREATE INDEX records_sha256 ON records (sha256, serial);
    CREATE INDEX records_not_after ON records (not_after);
    CREATE TABLE urls (
        url TEXT PRIMARY KEY,
        serial INTEGER NOT NULL REFERENCES records (serial) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX urls_serial ON urls (serial);
    CREATE TABLE tokens (
        hash BLOB PRIMARY KEY,
        created INTEGER NOT NULL,
        expires INTEGER,
        uses_left INTEGER,
        standing INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE devices (
        epoch INTEGER PRIMARY KEY AUTOINCREMENT,
        peer BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        enrolled INTEGER NOT NULL,
        token BLOB NOT NULL,
        revoked INTEGER
    ) STRICT;
",
    "
    ALTER TABLE tokens ADD COLUMN tags TEXT NOT NULL DEFAULT '';
    ALTER TABLE devices ADD COLUMN tags TEXT NOT NULL DEFAULT '';
    CREATE TABLE policies (
        serial INTEGER PRIMARY KEY,
        selector TEXT NOT NULL,
        percent INTEGER NOT NULL,
        text TEXT NOT NULL,
        created INTEGER NOT NULL,
        note TEXT NOT NULL
    ) STRICT;
    CREATE INDEX policies_selector ON policies (selector, serial);
",
];

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sqlite {
    pool: SqlitePool,
}

impl Sqlite {
    /// Opens (or makes) the database and brings its schema up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let fail = |source| StoreError::Open { path: path.to_owned(), source };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await.map_err(fail)?;
        let store = Self { pool };
        store.migrate(path).await?;
        Ok(store)
    }

    async fn migrate(&self, path: &Path) -> Result<(), StoreError> {
        let fail = |source| StoreError::Open { path: path.to_owned(), source };
        let (found,): (i64,) =
            sqlx::query_as("PRAGMA user_version").fetch_one(&self.pool).await.map_err(fail)?;
        let known = MIGRATIONS.len() as i64;
        if found > known {
            return Err(StoreError::Newer { path: path.to_owned(), found, known });
        }
        for (index, step) in MIGRATIONS.iter().copied().enumerate().skip(usize::try_from(found).unwrap_or(0))
        {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(fail)?;
            sqlx::raw_sql(step).execute(&mut *transaction).await.map_err(fail)?;
            // A pragma takes no parameters; the number is our own.
            let done = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", index + 1));
            sqlx::raw_sql(done).execute(&mut *transaction).await.map_err(fail)?;
            transaction.commit().await.map_err(fail)?;
        }
        Ok(())
    }

    /// Writes the log back into the database file and closes it.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// SQLite's integers are signed; no time, serial or size here comes near that.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn query(action: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Query { action, source }
}

fn bytes32(bytes: &[u8], action: &'static str) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Damaged { action })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{catalog, enrolments, policies};

    #[tokio::test]
    async fn catalog_conforms() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.db");
        catalog::conformance::run(|| async { Sqlite::open(&path).await.unwrap() }).await;
    }

    #[tokio::test]
    async fn enrolments_conform() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.db");
        enrolments::conformance::run(|| async { Sqlite::open(&path).await.unwrap() }).await;
    }

    #[tokio::test]
    async fn policies_conform() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.db");
        policies::conformance::run(|| async { Sqlite::open(&path).await.unwrap() }).await;
    }

    #[tokio::test]
    async fn a_newer_schema_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n.db");
        let store = Sqlite::open(&path).await.unwrap();
        sqlx::raw_sql("PRAGMA user_version = 99").execute(&store.pool).await.unwrap();
        store.close().await;
        assert!(matches!(Sqlite::open(&path).await, Err(StoreError::Newer { found: 99, .. })));
    }
}
