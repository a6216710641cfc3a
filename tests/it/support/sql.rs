//! The database from outside, whichever it is.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row, SqliteConnection};

enum Db {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

async fn connect(url: &str) -> Db {
    try_connect(url).await.expect("the database answers")
}

async fn try_connect(url: &str) -> Result<Db, sqlx::Error> {
    Ok(match url.strip_prefix("sqlite:") {
        // As any other program would open it: without our pragmas.
        Some(path) => {
            let options = SqliteConnectOptions::new().filename(path);
            Db::Sqlite(options.connect().await?)
        }
        None => {
            let options = PgConnectOptions::from_str(url).expect("a URL");
            Db::Postgres(options.connect().await?)
        }
    })
}

impl Db {
    async fn texts(&mut self, query: &str) -> Vec<String> {
        self.try_texts(query).await.expect("a query")
    }

    async fn try_texts(&mut self, query: &str) -> Result<Vec<String>, sqlx::Error> {
        let query = AssertSqlSafe(query.to_owned());
        Ok(match self {
            Db::Sqlite(db) => {
                let rows = sqlx::query(query).fetch_all(db).await?;
                rows.iter().map(|row| row.get::<String, _>(0)).collect()
            }
            Db::Postgres(db) => {
                let rows = sqlx::query(query).fetch_all(db).await?;
                rows.iter().map(|row| row.get::<String, _>(0)).collect()
            }
        })
    }

    async fn close(self) {
        match self {
            Db::Sqlite(db) => db.close().await.expect("closed"),
            Db::Postgres(db) => db.close().await.expect("closed"),
        }
    }
}

/// Runs a query whose rows are one text each.
pub async fn rows(url: &str, query: &str) -> Vec<String> {
    let rows = try_rows(url, query).await;
    rows.unwrap_or_else(|why| panic!("{query}: {why}"))
}

/// Runs such a query on a database that may be broken.
pub async fn try_rows(url: &str, query: &str) -> Result<Vec<String>, String> {
    let rows = async {
        let mut db = try_connect(url).await?;
        let rows = db.try_texts(query).await?;
        db.close().await;
        Ok(rows)
    };
    rows.await.map_err(|error: sqlx::Error| error.to_string())
}

/// Says how the database would run a statement whose values it does not know: steps on SQLite, JSON on PostgreSQL.
pub async fn plan(url: &str, statement: &str) -> Vec<String> {
    match connect(url).await {
        Db::Sqlite(mut db) => {
            let query = AssertSqlSafe(format!("explain query plan {statement}"));
            let steps = sqlx::query(query).fetch_all(&mut db).await;
            let steps = steps.unwrap_or_else(|error| panic!("{statement}: {error}"));
            steps.iter().map(|step| step.get("detail")).collect()
        }
        Db::Postgres(mut db) => {
            // Small tables are read whole and joined by hash where that is cheaper: the question is whether it must be.
            let values = (1..100).take_while(|n| statement.contains(&format!("${n}")));
            let nulls = vec!["null"; values.count()].join(", ");
            let arguments = if nulls.is_empty() {
                nulls
            } else {
                format!("({nulls})")
            };
            for text in [
                "set plan_cache_mode = force_generic_plan".to_owned(),
                "set enable_seqscan = off".to_owned(),
                "set enable_hashjoin = off".to_owned(),
                "set enable_mergejoin = off".to_owned(),
                format!("prepare asked as {statement}"),
            ] {
                let done = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut db).await;
                done.unwrap_or_else(|error| panic!("{statement}: {error}"));
            }
            let explain = format!("explain (format json, costs off) execute asked{arguments}");
            let rows = sqlx::raw_sql(AssertSqlSafe(explain))
                .fetch_all(&mut db)
                .await;
            let rows = rows.unwrap_or_else(|error| panic!("{statement}: {error}"));
            rows.iter()
                .map(|row| row.get_unchecked::<String, _>(0))
                .collect()
        }
    }
}

/// Runs statements.
pub async fn execute(url: &str, statement: &str) -> Result<u64, String> {
    let statement = AssertSqlSafe(statement.to_owned());
    match connect(url).await {
        Db::Sqlite(mut db) => {
            let done = sqlx::raw_sql(statement).execute(&mut db).await;
            done.map(|done| done.rows_affected())
                .map_err(|e| e.to_string())
        }
        Db::Postgres(mut db) => {
            let done = sqlx::raw_sql(statement).execute(&mut db).await;
            done.map(|done| done.rows_affected())
                .map_err(|e| e.to_string())
        }
    }
}

/// Writes every row of every table as a line, ordered.
pub async fn dump(url: &str) -> String {
    let mut db = connect(url).await;
    let tables = match db {
        Db::Sqlite(_) => "select name from sqlite_master where type = 'table' order by name",
        Db::Postgres(_) => {
            "select table_name::text from information_schema.tables where table_schema = 'public' order by 1"
        }
    };
    let mut lines = Vec::new();
    for table in db.texts(tables).await {
        let query = match db {
            Db::Sqlite(_) => {
                let columns = format!("select name from pragma_table_info('{table}') order by cid");
                let columns = db.texts(&columns).await;
                let quoted: Vec<_> = columns.iter().map(|c| format!("quote(\"{c}\")")).collect();
                let row = quoted.join(" || '|' || ");
                format!("select {row} from \"{table}\" order by 1")
            }
            Db::Postgres(_) => format!("select t::text from \"{table}\" t order by 1"),
        };
        let rows = db.texts(&query).await;
        lines.extend(
            rows.iter()
                .map(|row| format!("{table}: {}", row.replace('\n', " "))),
        );
    }
    db.close().await;
    lines.join("\n")
}

/// A connection of somebody who owns the database: no reference between tables is kept.
pub struct Raw(Db);

impl Raw {
    pub async fn open(url: &str) -> Raw {
        Raw(match url.strip_prefix("sqlite:") {
            Some(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .foreign_keys(false);
                Db::Sqlite(options.connect().await.expect("SQLite opens"))
            }
            None => connect(url).await,
        })
    }

    /// Runs statements.
    pub async fn run(&mut self, statements: &str) {
        let text = AssertSqlSafe(statements.to_owned());
        let done = match &mut self.0 {
            Db::Sqlite(db) => sqlx::raw_sql(text).execute(db).await.map(drop),
            Db::Postgres(db) => sqlx::raw_sql(text).execute(db).await.map(drop),
        };
        let short: String = statements.chars().take(300).collect();
        done.unwrap_or_else(|error| panic!("{short}: {error}"));
    }
}
