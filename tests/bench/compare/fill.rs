//! Fills a database: one real person, who signed up, was mailed and confirmed, is written down again as often as asked for,
//! under random keys and another address. Every row is as long as the real one, and stands where the real one would.
//!
//! Numbers and tree are what the sequencer would have made of these events, so that it goes on from there. The bytes of
//! an event are those of the real one: they name that person, which `audit verify` would find, and nobody else looks at.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use confirmd::store::Pool;
use confirmd::store::connect::{Location, connect};
use confirmd::store::postgres::{Terms, Way};
use confirmd::store::trail::Head;
use confirmd::trail::tree::{append, edge, leaf_hash};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

/// People that one transaction writes.
const CHUNK: u64 = 50_000;
/// Leaves that enter the tree at once.
const LEAVES: i64 = 25_000;

/// A connection that writes without waiting for the disk, and without triggers.
pub enum Database {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Database {
    async fn run(&mut self, sql: String) -> u64 {
        let text = AssertSqlSafe(sql.clone());
        let done = match self {
            Database::Sqlite(db) => sqlx::raw_sql(text)
                .execute(db)
                .await
                .map(|d| d.rows_affected()),
            Database::Postgres(db) => sqlx::raw_sql(text)
                .execute(db)
                .await
                .map(|d| d.rows_affected()),
        };
        done.unwrap_or_else(|error| panic!("{error} in {sql}"))
    }

    async fn texts(&mut self, sql: &str) -> Vec<String> {
        let text = AssertSqlSafe(sql.to_owned());
        let rows: Result<Vec<(String,)>, _> = match self {
            Database::Sqlite(db) => sqlx::query_as(text).fetch_all(db).await,
            Database::Postgres(db) => sqlx::query_as(text).fetch_all(db).await,
        };
        let rows = rows.unwrap_or_else(|error| panic!("{error} in {sql}"));
        rows.into_iter().map(|(text,)| text).collect()
    }

    async fn number(&mut self, sql: &str) -> u64 {
        let row = self.texts(sql).await;
        row.first().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Picks one text for SQLite and another for PostgreSQL.
    fn either<'t>(&self, sqlite: &'t str, postgres: &'t str) -> &'t str {
        match self {
            Database::Sqlite(_) => sqlite,
            Database::Postgres(_) => postgres,
        }
    }
}

/// Where a table's template is, and what stands in place of its keys.
struct Copy {
    table: &'static str,
    template: &'static str,
    keys: &'static [(&'static str, &'static str)],
}

/// `{event}` is the id of the person's event `k`.
const COPIES: [Copy; 8] = [
    Copy {
        table: "address",
        template: "select a.* from address a join real_one r on r.mailbox = a.mailbox",
        keys: &[("mailbox", "p.mailbox"), ("first_mail", "p.message")],
    },
    Copy {
        table: "subscriber",
        template: "select a.* from subscriber a join real_one r on r.subscriber = a.id",
        keys: &[
            ("id", "p.subscriber"),
            ("identity", "p.identity"),
            ("mailbox", "p.mailbox"),
            ("email", "p.email"),
        ],
    },
    Copy {
        table: "subscription",
        template: "select a.* from subscription a join real_one r on r.subscription = a.id",
        keys: &[
            ("id", "p.subscription"),
            ("subscriber", "p.subscriber"),
            ("signup", "p.signup"),
        ],
    },
    Copy {
        table: "signup",
        template: "select a.* from signup a join real_one r on r.signup = a.id",
        keys: &[
            ("id", "p.signup"),
            ("subscriber", "p.subscriber"),
            ("mailbox", "p.mailbox"),
            ("email", "p.email"),
        ],
    },
    Copy {
        table: "signup_list",
        template: "select a.* from signup_list a join real_one r on r.signup = a.signup",
        keys: &[("signup", "p.signup")],
    },
    Copy {
        table: "message",
        template: "select a.* from message a join real_one r on r.message = a.id",
        keys: &[
            ("id", "p.message"),
            ("subscriber", "p.subscriber"),
            ("mailbox", "p.mailbox"),
            ("signup", "p.signup"),
        ],
    },
    Copy {
        table: "event",
        template: "select a.*, h.k from event a join real_event h on h.id = a.id",
        keys: &[
            ("id", "{event}"),
            ("subscriber", "p.subscriber"),
            (
                "signup",
                "case when t.signup is null then null else p.signup end",
            ),
            (
                "message",
                "case when t.message is null then null else p.message end",
            ),
            ("seq", "{size} + (p.n - {from}) * {events} + t.k"),
        ],
    },
    Copy {
        table: "evidence",
        template: "select a.*, h.k from evidence a join real_event h on h.id = a.event",
        keys: &[("event", "{event}"), ("subscriber", "p.subscriber")],
    },
];

/// Reads a URL as configuration does.
pub fn location(url: &str) -> Location {
    match url.strip_prefix("sqlite:") {
        Some(path) => Location::Sqlite(PathBuf::from(path)),
        None => {
            let terms = Terms {
                way: Way::Direct,
                statement: Duration::from_secs(30),
            };
            Location::postgres(url, None, terms).expect("a URL")
        }
    }
}

/// Adds people until there are as many as this; returns the connection that wrote them, and the time for rows and for the
/// tree. Nothing else has the database open, and at least one person in it is confirmed and every event numbered.
pub async fn fill(url: &str, people: u64) -> (Database, [Duration; 2]) {
    let began = Instant::now();
    let location = location(url);
    let pool = connect(&location, 1).await.expect("the database");
    let mut read = pool.read().await.expect("read");
    let had = read.trail_head().await.expect("a head").size;
    drop(read);
    let mut database = match location {
        Location::Sqlite(_) => {
            Database::Sqlite(SqliteConnection::connect(url).await.expect("the file"))
        }
        Location::Postgres(..) => {
            Database::Postgres(PgConnection::connect(url).await.expect("the server"))
        }
    };
    add(&mut database, people).await;
    let rows = began.elapsed();
    grow(&pool, had).await;
    pool.close().await;
    (database, [rows, began.elapsed() - rows])
}

async fn add(db: &mut Database, people: u64) {
    let there = db
        .number(db.either(
            "select cast(count(*) as text) from subscriber",
            "select count(*)::text from subscriber",
        ))
        .await;
    let triggers = prepare(db).await;
    let mut from = there;
    while from < people {
        let to = (from + CHUNK).min(people);
        chunk(db, from, to).await;
        from = to;
    }
    finish(db, &triggers).await;
}

/// Notes the real person and their events, and puts triggers out of force; returns what makes them again.
async fn prepare(db: &mut Database) -> Vec<String> {
    // Without the count of a table this small, SQLite's planner goes over all evidence for each person.
    db.run(
        "create temp table real_one as
            select s.id as subscription, s.subscriber, s.signup, p.mailbox, m.id as message
            from subscription s join subscriber p on p.id = s.subscriber join message m on m.signup = s.signup
            where s.state = 'confirmed' and m.kind = 'confirmation' order by s.id limit 1;
         create temp table real_event as select e.id, row_number() over (order by e.ord) as k
            from event e join real_one r on r.subscriber = e.subscriber;
         analyze real_event;"
            .to_owned(),
    )
    .await;
    let real = db
        .number(db.either(
            "select cast(count(*) as text) from real_event",
            "select count(*)::text from real_event",
        ))
        .await;
    assert!(
        real > 0,
        "nobody is confirmed: there is no person to write down again"
    );
    let mut triggers = Vec::new();
    match db {
        Database::Sqlite(_) => {
            db.run(
                "pragma synchronous = off; pragma foreign_keys = off; pragma cache_size = -2000000"
                    .to_owned(),
            )
            .await;
            triggers = db
                .texts("select sql from sqlite_master where type = 'trigger'")
                .await;
            for name in db
                .texts("select name from sqlite_master where type = 'trigger'")
                .await
            {
                db.run(format!("drop trigger {name}")).await;
            }
        }
        Database::Postgres(_) => {
            db.run(
                "set synchronous_commit = off; alter table event disable trigger user".to_owned(),
            )
            .await;
        }
    }
    triggers
}

async fn chunk(db: &mut Database, from: u64, to: u64) {
    let size = db
        .number(db.either(
            "select cast(size as text) from trail_head",
            "select size::text from trail_head",
        ))
        .await;
    let events = db
        .number(db.either(
            "select cast(count(*) as text) from real_event",
            "select count(*)::text from real_event",
        ))
        .await;
    let people = db.either(
        // An id is a time in milliseconds, which goes up, and noise.
        "create temp table person as
         with recursive c (n) as (select {from} union all select n + 1 from c where n + 1 < {to}),
           r as (select n, unhex(printf('%012x', 1700000000000 + n * 20)) as at, hex(randomblob(8)) as noise from c)
         select n, randomblob(16) as mailbox, randomblob(16) as identity,
           'jan.de.' || lower(noise) || '@example-post.nl' as email,
           unhex(hex(at) || '7001' || hex(randomblob(8))) as subscriber,
           unhex(hex(at) || '7002' || hex(randomblob(8))) as subscription,
           unhex(hex(at) || '7003' || hex(randomblob(8))) as signup,
           unhex(hex(at) || '7004' || hex(randomblob(8))) as message,
           hex(at) || '7005' || hex(randomblob(7)) as event
         from r",
        "create temp table person as
         select n, uuid_send(gen_random_uuid()) as mailbox, uuid_send(gen_random_uuid()) as identity,
           'jan.de.' || left(replace(gen_random_uuid()::text, '-', ''), 16) || '@example-post.nl' as email,
           (at || '7001' || right(replace(gen_random_uuid()::text, '-', ''), 16))::uuid as subscriber,
           (at || '7002' || right(replace(gen_random_uuid()::text, '-', ''), 16))::uuid as subscription,
           (at || '7003' || right(replace(gen_random_uuid()::text, '-', ''), 16))::uuid as signup,
           (at || '7004' || right(replace(gen_random_uuid()::text, '-', ''), 16))::uuid as message,
           at || '7005' || right(replace(gen_random_uuid()::text, '-', ''), 14) as event
         from (select n, lpad(to_hex(1700000000000 + n * 20), 12, '0') as at
               from generate_series({from}::bigint, {to}::bigint - 1) n) r",
    ).to_owned();
    let event = db
        .either(
            "unhex(p.event || printf('%02x', t.k))",
            "(p.event || lpad(to_hex(t.k), 2, '0'))::uuid",
        )
        .to_owned();
    let mut sql = format!("begin; {people};");
    for copy in COPIES {
        let columns = columns(db, copy.table).await;
        let keys: BTreeMap<_, _> = copy.keys.iter().copied().collect();
        let values: Vec<_> = columns
            .iter()
            .map(|column| {
                keys.get(column.as_str())
                    .map_or(format!("t.{column}"), |key| (*key).to_owned())
            })
            .collect();
        let order = match copy.table {
            "address" => "p.mailbox",
            "subscriber" => "p.identity",
            "event" => "p.n, t.k",
            _ => "p.n",
        };
        let _ = write!(
            sql,
            "insert into {} ({}) select {} from person p cross join ({}) t order by {order};",
            copy.table,
            columns.join(", "),
            values.join(", "),
            copy.template
        );
    }
    let _ = write!(
        sql,
        "update trail_head set size = {{size}} + ({{to}} - {{from}}) * {{events}}; drop table person; commit;"
    );
    for (name, value) in [
        ("{from}", from),
        ("{to}", to),
        ("{size}", size),
        ("{events}", events),
    ] {
        sql = sql.replace(name, &value.to_string());
    }
    db.run(sql.replace("{event}", &event)).await;
}

/// The columns of a table, but for the one that counts by itself.
async fn columns(db: &mut Database, table: &str) -> Vec<String> {
    let sql = db.either(
        "select name from pragma_table_info('{table}') where name <> 'ord' order by cid",
        "select column_name::text from information_schema.columns
            where table_name = '{table}' and column_name <> 'ord' order by ordinal_position",
    );
    let sql = sql.replace("{table}", table);
    db.texts(&sql).await
}

async fn finish(db: &mut Database, triggers: &[String]) {
    for trigger in triggers {
        db.run(trigger.clone()).await;
    }
    match db {
        Database::Sqlite(_) => {
            db.run(
                "drop table real_one; drop table real_event; pragma wal_checkpoint(truncate)"
                    .to_owned(),
            )
            .await
        }
        Database::Postgres(_) => {
            db.run(
                "drop table real_one; drop table real_event; alter table event enable trigger user"
                    .to_owned(),
            )
            .await;
            db.run("vacuum analyze".to_owned()).await
        }
    };
}

/// Grows the tree over the events that were numbered: `had` of them are under it already.
async fn grow(pool: &Pool, had: u64) {
    let end = pool
        .read()
        .await
        .expect("read")
        .trail_head()
        .await
        .expect("a head");
    let mut size = had;
    while size < end.size {
        let mut tx = pool.begin().await.expect("begun");
        let leaves = tx.leaves_after(size, LEAVES).await.expect("leaves");
        let hashes: Vec<_> = leaves.iter().map(|(_, leaf)| leaf_hash(leaf)).collect();
        let tiles = tx.tiles(edge(size)).await.expect("tiles");
        tx.save_tiles(&append(size, &tiles, &hashes).expect("a tree"))
            .await
            .expect("saved");
        size += leaves.len() as u64;
        tx.commit().await.expect("committed");
    }
    assert_eq!(Head { size, ..end }, end, "every event has a number");
}
