//! Sets: many rows in one statement, as `unnest` on PostgreSQL and `jsonb_each` on SQLite, where one row is bound as it is.
//!
//! A statement names its set `{set}` and reads the columns that it was built with, and `n`, the number of the row.
//! Rows one by one cost a round trip each on PostgreSQL and a change of threads each on SQLite.

use std::fmt::Write;

use serde::Serialize;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgRow;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, FromRow, Postgres};
use uuid::Uuid;

use super::types::Document;
use super::{Error, Tx};
use crate::domain::hex;
use crate::domain::time::Timestamp;

/// The rows of one statement, column by column.
#[derive(Default)]
pub struct Set {
    columns: Vec<(&'static str, Column)>,
}

enum Column {
    Uuid(Vec<Option<Uuid>>),
    Bytes(Vec<Option<Vec<u8>>>),
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Time(Vec<Option<Timestamp>>),
    Json(Vec<Option<Document>>),
}

macro_rules! columns {
    ($($(#[$doc:meta])* $method:ident, $variant:ident, $type:ty;)+) => {$(
        $(#[$doc])*
        pub fn $method<I, T>(mut self, name: &'static str, values: I) -> Self
        where
            I: IntoIterator<Item = T>,
            T: Into<Option<$type>>,
        {
            let values = values.into_iter().map(Into::into).collect();
            self.columns.push((name, Column::$variant(values)));
            self
        }
    )+};
}

impl Set {
    /// Starts a set without columns.
    pub fn new() -> Self {
        Self::default()
    }

    columns! {
        /// Adds a column of UUIDs.
        uuid, Uuid, Uuid;
        /// Adds a column of bytes.
        bytes, Bytes, Vec<u8>;
        /// Adds a column of texts.
        text, Text, String;
        /// Adds a column of integers.
        int, Int, i64;
        /// Adds a column of instants.
        time, Time, Timestamp;
        /// Adds a column of JSON values.
        json, Json, Document;
    }

    fn postgres(&self, sql: &str) -> String {
        let (mut arrays, mut names) = (String::new(), String::new());
        for (i, (name, column)) in self.columns.iter().enumerate() {
            let kind = match column {
                Column::Uuid(_) => "uuid",
                Column::Bytes(_) => "bytea",
                Column::Text(_) => "text",
                Column::Int(_) => "bigint",
                Column::Time(_) => "timestamptz",
                Column::Json(_) => "jsonb",
            };
            let comma = if i == 0 { "" } else { ", " };
            let _ = write!(arrays, "{comma}${}::{kind}[]", i + 1);
            let _ = write!(names, "{name}, ");
        }
        let set = format!("unnest({arrays}) with ordinality as s ({names}n)");
        sql.replace("{set}", &set)
    }

    /// Returns the text for SQLite, and adds what it binds to what the statements before it do.
    pub(super) fn sqlite(
        self,
        sql: &str,
        bound: &mut SqliteArguments,
    ) -> Result<String, sqlx::Error> {
        let set = match self.rows() {
            1 => self.one_row(bound),
            // A text for each number of rows would be prepared anew each time.
            _ => self.json_rows(bound),
        };
        Ok(sql.replace("{set}", &set.map_err(sqlx::Error::Encode)?))
    }

    fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, column)| column.len())
    }

    fn one_row(self, bound: &mut SqliteArguments) -> Result<String, BoxDynError> {
        let mut picks = String::new();
        for (name, column) in self.columns {
            column.bind_one(bound)?;
            let _ = write!(picks, "${} as {name}, ", bound.len());
        }
        Ok(format!("(select {picks}1 as n) as s"))
    }

    fn json_rows(self, bound: &mut SqliteArguments) -> Result<String, BoxDynError> {
        let mut picks = String::new();
        for (i, (name, column)) in self.columns.iter().enumerate() {
            let _ = match column {
                Column::Uuid(_) | Column::Bytes(_) => {
                    write!(picks, "unhex(row ->> {i}) as {name}, ")
                }
                _ => write!(picks, "row ->> {i} as {name}, "),
            };
        }
        bound.add(self.array())?;
        // Without the table between them, SQLite makes each row once for every column that is picked; as JSONB it is not
        // parsed again for each.
        Ok(format!(
            "(with rows as materialized (select key, value as row from jsonb_each(${}))
            select {picks}key + 1 as n from rows) as s",
            bound.len()
        ))
    }

    /// The rows as a JSON array of arrays.
    fn array(&self) -> String {
        let mut json = vec![b'['];
        for row in 0..self.rows() {
            json.extend_from_slice(if row == 0 { b"[" } else { b",[" });
            for (i, (_, column)) in self.columns.iter().enumerate() {
                if i > 0 {
                    json.push(b',');
                }
                column.write_json(row, &mut json);
            }
            json.push(b']');
        }
        json.push(b']');
        String::from_utf8(json).unwrap_or_default()
    }
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Column::Uuid(v) => v.len(),
            Column::Bytes(v) => v.len(),
            Column::Text(v) => v.len(),
            Column::Int(v) => v.len(),
            Column::Time(v) => v.len(),
            Column::Json(v) => v.len(),
        }
    }

    /// Binds the value of the only row.
    fn bind_one(self, bound: &mut SqliteArguments) -> Result<(), BoxDynError> {
        match self {
            Column::Uuid(mut v) => bound.add(v.pop().flatten()),
            Column::Bytes(mut v) => bound.add(v.pop().flatten()),
            Column::Text(mut v) => bound.add(v.pop().flatten()),
            Column::Int(mut v) => bound.add(v.pop().flatten()),
            Column::Time(mut v) => bound.add(v.pop().flatten()),
            Column::Json(mut v) => bound.add(v.pop().flatten()),
        }
    }

    fn write_json(&self, row: usize, json: &mut Vec<u8>) {
        let written = match self {
            Column::Uuid(v) => v[row].map(|id| write_hex(id.as_bytes(), json)),
            Column::Bytes(v) => v[row].as_ref().map(|bytes| write_hex(bytes, json)),
            Column::Text(v) => v[row].as_ref().map(|text| write_value(text, json)),
            Column::Int(v) => v[row].map(|n| write_value(&n, json)),
            Column::Time(v) => v[row].map(|at| write_value(&at.as_micros(), json)),
            // A JSON column is TEXT: the document goes in as one string.
            Column::Json(v) => v[row].as_ref().map(|doc| write_value(doc.get(), json)),
        };
        if written.is_none() {
            json.extend_from_slice(b"null");
        }
    }
}

fn write_value<T: Serialize + ?Sized>(value: &T, json: &mut Vec<u8>) {
    // Texts and numbers always can be written to memory.
    let _ = serde_json::to_writer(json, value);
}

fn write_hex(bytes: &[u8], json: &mut Vec<u8>) {
    json.push(b'"');
    json.extend(hex::digits(bytes));
    json.push(b'"');
}

macro_rules! bind_columns {
    ($query:expr, $set:expr) => {
        $set.columns
            .into_iter()
            .fold($query, |query, (_, column)| match column {
                Column::Uuid(v) => query.bind(v),
                Column::Bytes(v) => query.bind(v),
                Column::Text(v) => query.bind(v),
                Column::Int(v) => query.bind(v),
                Column::Time(v) => query.bind(v),
                Column::Json(v) => query.bind(v),
            })
    };
}

impl Tx {
    /// Runs a statement over a set: on SQLite at the latest with the commit, and before whatever is asked next.
    pub(super) async fn write(&mut self, sql: &'static str, set: Set) -> Result<(), Error> {
        match self {
            Tx::Sqlite(tx) => tx.add(sql, set)?,
            Tx::Postgres(tx) => {
                let query: Query<'_, Postgres, _> = sqlx::query(AssertSqlSafe(set.postgres(sql)));
                let query = bind_columns!(query, set);
                tx.ask(async |conn| Ok(query.execute(conn).await?)).await?;
            }
        }
        Ok(())
    }

    /// Runs a statement over a set and returns the rows that it gives.
    pub(super) async fn rows<T>(&mut self, sql: &'static str, set: Set) -> Result<Vec<T>, Error>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow>,
    {
        let [rows] = self.ask([(sql, set)]).await?;
        rows.read()
    }

    /// Runs statements over sets, one after the other, and returns the rows of each; on SQLite they go out together.
    pub(super) async fn ask<const N: usize>(
        &mut self,
        statements: [(&'static str, Set); N],
    ) -> Result<[Rows; N], Error> {
        match self {
            Tx::Sqlite(tx) => {
                for (sql, set) in statements {
                    tx.add(sql, set)?;
                }
                Ok(tx.rows().await?.map(Rows::Sqlite))
            }
            Tx::Postgres(tx) => {
                let mut answers = [const { Vec::new() }; N];
                for (answer, (sql, set)) in answers.iter_mut().zip(statements) {
                    let query: Query<'_, Postgres, _> =
                        sqlx::query(AssertSqlSafe(set.postgres(sql)));
                    let query = bind_columns!(query, set);
                    *answer = tx
                        .ask(async |conn| Ok(query.fetch_all(conn).await?))
                        .await?;
                }
                Ok(answers.map(Rows::Postgres))
            }
        }
    }
}

/// The rows that a statement gave.
pub(super) enum Rows {
    Sqlite(Vec<SqliteRow>),
    Postgres(Vec<PgRow>),
}

impl Rows {
    pub(super) fn read<T>(&self) -> Result<Vec<T>, Error>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow>,
    {
        let rows: Result<_, sqlx::Error> = match self {
            Rows::Sqlite(rows) => rows.iter().map(T::from_row).collect(),
            Rows::Postgres(rows) => rows.iter().map(T::from_row).collect(),
        };
        Ok(rows?)
    }
}
