//! The schema: `confirmd serve` makes it and brings it up to date; whoever else comes only compares it.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};

use super::ConnectError;

type Migrations = &'static [(i64, &'static str, &'static str)];

pub(super) const SQLITE: Migrations = &[(
    1,
    "initial",
    include_str!("../../../migrations/sqlite/0001_initial.sql"),
)];
pub(super) const POSTGRES: Migrations = &[(
    1,
    "initial",
    include_str!("../../../migrations/postgres/0001_initial.sql"),
)];

/// Where sqlx notes what it ran.
const TABLE: &str = "_sqlx_migrations";
/// What SQLite and PostgreSQL say where that table is missing.
const NO_TABLE: [&str; 2] = ["1", "42P01"];

/// Returns the number of the newest schema of SQLite that this program knows.
pub(in crate::store) fn newest() -> i64 {
    SQLITE.last().map_or(0, |(version, _, _)| *version)
}

/// What is done with the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schema {
    /// It is made, or brought up to date.
    Make,
    /// It must be this program's. Whoever mistyped an address must not leave tables there.
    Compare,
}

impl Schema {
    /// Does so; `place` says whose schema it is.
    pub async fn settle<C: Migrate>(
        self,
        connection: &mut C,
        migrations: Migrations,
        place: &str,
    ) -> Result<(), ConnectError> {
        let all = migrations.iter().map(|&(version, name, sql)| {
            let kind = MigrationType::Simple;
            Migration::new(version, name.into(), kind, sql.into_sql_str(), false)
        });
        let all: Vec<_> = all.collect();
        match self {
            Schema::Make => {
                let migrator = Migrator::with_migrations(all);
                let migrated = migrator.run_direct(None, connection, false).await;
                migrated.map_err(fault)
            }
            Schema::Compare => compare(connection, &all, place).await,
        }
    }
}

async fn compare<C: Migrate>(
    connection: &mut C,
    known: &[Migration],
    place: &str,
) -> Result<(), ConnectError> {
    let applied = match connection.list_applied_migrations(TABLE).await {
        Err(MigrateError::Execute(sqlx::Error::Database(error)))
            if error.code().is_some_and(|code| NO_TABLE.contains(&&*code)) =>
        {
            return Err(ConnectError::Absent(place.to_owned()));
        }
        applied => applied.map_err(fault)?,
    };
    for one in &applied {
        match known.iter().find(|known| known.version == one.version) {
            None => return Err(ConnectError::Newer(one.version)),
            Some(known) if known.checksum != one.checksum => {
                return Err(fault(MigrateError::VersionMismatch(one.version)));
            }
            Some(_) => {}
        }
    }
    match applied.len() {
        // The table is made before the first migration runs.
        0 => Err(ConnectError::Absent(place.to_owned())),
        some if some < known.len() => Err(ConnectError::Older),
        _ => Ok(()),
    }
}

fn fault(error: MigrateError) -> ConnectError {
    match error {
        MigrateError::VersionMissing(version) => ConnectError::Newer(version),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMismatch(version) => ConnectError::Migration(format!(
            "{version} differs from the one that made this database"
        )),
        other => ConnectError::Migration(other.to_string()),
    }
}
