//! Copies of a SQLite file: made while others write, and opened without a change to a byte of them.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::connect::{ConnectError, schema};
use super::sqlite::Single;
use super::{Error, Pool};

impl Pool {
    /// Writes one moment of a SQLite file into a new file, while others go on writing; tells whether it is one.
    pub async fn copy_into(&self, path: &str) -> Result<bool, Error> {
        let Pool::Sqlite { writer, .. } = self else {
            return Ok(false);
        };
        sqlx::query("vacuum into $1")
            .bind(path)
            .execute(&mut *writer.turn().await?)
            .await?;
        Ok(true)
    }

    /// Has SQLite read the whole of a copy, and returns the first thing that is wrong with it.
    pub async fn damage(&self) -> Result<Option<String>, Error> {
        let Pool::Sqlite { writer, .. } = self else {
            return Ok(None);
        };
        let found: (String,) = sqlx::query_as("pragma integrity_check(1)")
            .fetch_one(&mut *writer.turn().await?)
            .await?;
        Ok(Some(found.0).filter(|found| found != "ok"))
    }
}

/// Opens a copy that nobody writes to, to be read.
///
/// # Errors
/// When it is no database of confirmd, or one of a newer confirmd.
pub async fn open_copy(path: &Path) -> Result<Pool, ConnectError> {
    const SCHEMA: &str = "select coalesce(max(version), 0) from _sqlx_migrations";
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(true)
        .pragma("trusted_schema", "off");
    let cannot = |_| ConnectError::NoCopy(path.display().to_string());
    let writer = Single::connect(options.clone()).await.map_err(cannot)?;
    let made_by = sqlx::query_as(SCHEMA)
        .fetch_one(&mut *writer.turn().await?)
        .await;
    let (made_by,): (i64,) = made_by.map_err(|error| cannot(error.into()))?;
    if made_by > schema::newest() {
        return Err(ConnectError::Newer(made_by));
    }
    let reader = SqlitePoolOptions::new().connect_with(options).await?;
    Ok(Pool::Sqlite { writer, reader })
}
