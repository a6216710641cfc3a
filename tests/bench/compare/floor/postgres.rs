//! Raw PostgreSQL: the rows that confirmd wrote, by eight clients, ten signups in a transaction, one UNNEST a table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use confirmd::domain::time::Timestamp;
use serde_json::value::RawValue;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::types::{Json, Uuid};
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, PgConnection, Postgres, Row as _, TypeInfo as _,
};
use tokio::task::JoinSet;

use super::{
    CHECKPOINTS, Floor, GIVEN_LATER, HEAD, NUMBERED_AT_ONCE, SIGNUPS, TABLES, TILES, Weight,
    assert_same, complete_at,
};
use crate::postgres;

const SCHEMA: &str = include_str!("../../../../migrations/postgres/0001_initial.sql");
const CLIENTS: usize = 8;
/// Signups in a transaction.
const SET: usize = 10;

/// Writes what is in confirmd's database into a new one of the same server, and compares.
pub async fn run(confirmd: &str) -> Floor {
    let mut source = connect(confirmd).await;
    let work = Arc::new(Work::read(&mut source).await);
    let database = postgres::database();
    let mut target = connect(&database.url).await;
    sqlx::raw_sql(SCHEMA)
        .execute(&mut target)
        .await
        .expect("the schema");
    // What all others refer to comes first.
    work.insert(&mut target, 0).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(connect(&database.url).await);
    }
    let next = Arc::new(AtomicUsize::new(1));
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let (work, next) = (work.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let set = next.fetch_add(1, Ordering::Relaxed);
                if set >= work.sets.len() {
                    break;
                }
                work.insert(&mut client, set).await;
            }
        });
    }
    let numbering = work.clone();
    tasks.spawn(async move { numbering.number(&mut target).await });
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut target = connect(&database.url).await;
    assert_same(&weigh(&mut source).await, &weigh(&mut target).await);
    Floor {
        signups: work.signups.saturating_sub(SET),
        seconds,
    }
}

async fn connect(url: &str) -> PgConnection {
    let mut connection = PgConnection::connect(url).await.expect("the server");
    for setting in ["fsync", "synchronous_commit"] {
        let sql = AssertSqlSafe(format!("show {setting}"));
        let (value,): (String,) = sqlx::query_as(sql)
            .fetch_one(&mut connection)
            .await
            .expect("a setting");
        assert_eq!(value, "on", "durability is not on: {setting}");
    }
    connection
}

/// One column of a set.
#[derive(Clone)]
enum Column {
    Uuid(Vec<Option<Uuid>>),
    Bytes(Vec<Option<Vec<u8>>>),
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Time(Vec<Option<Timestamp>>),
    Json(Vec<Option<Json<Box<RawValue>>>>),
}

impl Column {
    fn of(kind: &str) -> Self {
        match kind {
            "UUID" => Column::Uuid(Vec::new()),
            "BYTEA" => Column::Bytes(Vec::new()),
            "TEXT" => Column::Text(Vec::new()),
            "INT8" => Column::Int(Vec::new()),
            "TIMESTAMPTZ" => Column::Time(Vec::new()),
            "JSONB" => Column::Json(Vec::new()),
            other => panic!("a column of the kind {other}"),
        }
    }

    fn push(&mut self, row: &PgRow, at: usize) {
        match self {
            Column::Uuid(all) => all.push(row.get(at)),
            Column::Bytes(all) => all.push(row.get(at)),
            Column::Text(all) => all.push(row.get(at)),
            Column::Int(all) => all.push(row.get(at)),
            Column::Time(all) => all.push(row.get(at)),
            Column::Json(all) => all.push(row.get(at)),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Column::Uuid(_) => "uuid",
            Column::Bytes(_) => "bytea",
            Column::Text(_) => "text",
            Column::Int(_) => "bigint",
            Column::Time(_) => "timestamptz",
            Column::Json(_) => "jsonb",
        }
    }

    fn bind<'q>(
        &'q self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        match self {
            Column::Uuid(all) => query.bind(all),
            Column::Bytes(all) => query.bind(all),
            Column::Text(all) => query.bind(all),
            Column::Int(all) => query.bind(all),
            Column::Time(all) => query.bind(all),
            Column::Json(all) => query.bind(all),
        }
    }
}

/// Rows of one table, column by column, and the statement that inserts them.
#[derive(Clone, Default)]
struct Rows {
    insert: String,
    columns: Vec<Column>,
}

/// Everything that is to be written, in memory.
struct Work {
    signups: usize,
    /// Transactions: for each table its rows.
    sets: Vec<Vec<Rows>>,
    size: u64,
    tiles: Vec<(u64, Tile)>,
    checkpoints: Vec<Checkpoint>,
}

type Tile = (i64, i64, Vec<u8>);
type Checkpoint = (i64, i64, String, Timestamp, Option<Vec<u8>>);

impl Work {
    async fn read(source: &mut PgConnection) -> Self {
        let (signups,): (i64,) = sqlx::query_as("select count(*) from signup")
            .fetch_one(&mut *source)
            .await
            .expect("a count");
        let (size,): (i64,) = sqlx::query_as(HEAD)
            .fetch_one(&mut *source)
            .await
            .expect("a size");
        let (signups, size) = (
            usize::try_from(signups).expect("a count"),
            size.unsigned_abs(),
        );
        let mut sets = vec![vec![Rows::default(); TABLES.len()]; signups.div_ceil(SET)];
        for (number, (table, pick)) in TABLES.iter().enumerate() {
            let sql = AssertSqlSafe(format!(
                "{SIGNUPS} {}",
                pick.replacen("select 0", "select 0::bigint", 1)
            ));
            let all = sqlx::query(sql)
                .fetch_all(&mut *source)
                .await
                .expect("the schema as known");
            for row in &all {
                let k = usize::try_from(row.get::<i64, _>(0)).expect("a number");
                sets[k / SET][number].push(table, row);
            }
        }
        let tiles: Vec<Tile> = sqlx::query_as(TILES)
            .fetch_all(&mut *source)
            .await
            .expect("tiles");
        let at = |(level, place, _): &Tile| {
            complete_at(level.unsigned_abs(), place.unsigned_abs(), size)
        };
        let mut tiles: Vec<_> = tiles.into_iter().map(|tile| (at(&tile), tile)).collect();
        tiles.sort_by_key(|(at, _)| *at);
        let checkpoints = sqlx::query_as(CHECKPOINTS)
            .fetch_all(&mut *source)
            .await
            .expect("checkpoints");
        Self {
            signups,
            sets,
            size,
            tiles,
            checkpoints,
        }
    }

    async fn insert(&self, client: &mut PgConnection, set: usize) {
        let mut tx = client.begin().await.expect("begun");
        for rows in self.sets[set]
            .iter()
            .filter(|rows| !rows.columns.is_empty())
        {
            let query = sqlx::query(AssertSqlSafe(rows.insert.as_str()));
            let query = rows
                .columns
                .iter()
                .fold(query, |query, column| column.bind(query));
            query.execute(&mut *tx).await.expect("inserted");
        }
        tx.commit().await.expect("committed");
    }

    /// Numbers events while the others write them.
    async fn number(&self, client: &mut PgConnection) {
        const NUMBER: &str = "update event set seq = s.seq
            from (select ord as o, row_number() over (order by ord) + $1 as seq
                  from (select ord from event where seq is null order by ord limit $2) as open) as s
            where event.ord = s.o";
        const WAITING: &str =
            "select count(*) from (select 1 from event where seq is null limit $1) as open";
        let (mut numbered, mut tiles, mut checkpoints) = (
            0,
            self.tiles.iter().peekable(),
            self.checkpoints.iter().peekable(),
        );
        while numbered < self.size {
            let many = NUMBERED_AT_ONCE.min(self.size - numbered);
            let (waiting,): (i64,) = sqlx::query_as(WAITING)
                .bind(many.cast_signed())
                .fetch_one(&mut *client)
                .await
                .expect("a count");
            if waiting.unsigned_abs() < many {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            let mut tx = client.begin().await.expect("begun");
            let done = sqlx::query(NUMBER)
                .bind(numbered.cast_signed())
                .bind(many.cast_signed())
                .execute(&mut *tx)
                .await;
            numbered += done.expect("numbered").rows_affected();
            while let Some((_, (level, place, hashes))) = tiles.next_if(|(at, _)| *at <= numbered) {
                let sql = "insert into tile (level, place, hashes) values ($1, $2, $3)";
                let query = sqlx::query(sql).bind(level).bind(place).bind(hashes);
                query.execute(&mut *tx).await.expect("inserted");
            }
            while let Some((epoch, size, note, at, stamp)) =
                checkpoints.next_if(|(_, size, ..)| size.unsigned_abs() <= numbered)
            {
                let sql = "insert into checkpoint (epoch, size, note, signed_at, stamp) values ($1, $2, $3, $4, $5)";
                let query = sqlx::query(sql)
                    .bind(epoch)
                    .bind(size)
                    .bind(note)
                    .bind(at)
                    .bind(stamp);
                query.execute(&mut *tx).await.expect("inserted");
            }
            let query = sqlx::query("update trail_head set size = $1").bind(numbered.cast_signed());
            query.execute(&mut *tx).await.expect("written");
            tx.commit().await.expect("committed");
        }
    }
}

impl Rows {
    fn push(&mut self, table: &str, row: &PgRow) {
        let columns = row.columns().iter().skip(1);
        let columns =
            columns.filter(|column| table != "event" || !GIVEN_LATER.contains(&column.name()));
        let columns: Vec<_> = columns.collect();
        if self.columns.is_empty() {
            self.columns = columns
                .iter()
                .map(|column| Column::of(column.type_info().name()))
                .collect();
            let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
            let arrays = self.columns.iter().enumerate();
            let arrays = arrays
                .map(|(i, column)| format!("${}::{}[]", i + 1, column.kind()))
                .collect::<Vec<_>>();
            self.insert = format!(
                "insert into {table} ({}) select * from unnest({})",
                names.join(", "),
                arrays.join(", ")
            );
        }
        for (values, column) in self.columns.iter_mut().zip(columns) {
            values.push(row, column.ordinal());
        }
    }
}

async fn weigh(database: &mut PgConnection) -> Vec<Weight> {
    const TABLES: &str = "select table_name::text, string_agg(format('coalesce(octet_length(%I::text), 0)', column_name), ' + ')
        from information_schema.columns where table_schema = 'public' and table_name not like '\\_sqlx%'
        group by table_name order by table_name";
    let tables: Vec<(String, String)> = sqlx::query_as(TABLES)
        .fetch_all(&mut *database)
        .await
        .expect("tables");
    let mut weights = Vec::new();
    for (table, lengths) in tables {
        let sql = AssertSqlSafe(format!(
            "select count(*), coalesce(sum({lengths}), 0)::bigint from {table}"
        ));
        let (rows, bytes) = sqlx::query_as(sql)
            .fetch_one(&mut *database)
            .await
            .expect("a row");
        weights.push(Weight { table, rows, bytes });
    }
    weights
}
