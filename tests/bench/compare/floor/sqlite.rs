//! Raw SQLite: the rows that confirmd wrote, through rusqlite, a hundred signups in a commit. Its log is folded as SQLite
//! does by itself, in the thread that commits; without any folding the same rows took a tenth less time.

use std::path::Path;
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, Statement, params_from_iter};

use super::{
    CHECKPOINTS, Floor, GIVEN_LATER, HEAD, NUMBERED_AT_ONCE, SIGNUPS, TABLES, TILES, Weight,
    assert_same, complete_at,
};

const SCHEMA: &str = include_str!("../../../../migrations/sqlite/0001_initial.sql");
/// Signups in a commit.
const SET: usize = 100;

/// Writes what is in confirmd's database into a new one, and compares.
pub fn run(confirmd: &Path) -> Floor {
    let source = Connection::open_with_flags(confirmd, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .expect("confirmd's database");
    let work = Work::read(&source);
    let folder = tempfile::tempdir().expect("a folder");
    let target = open(&folder.path().join("floor.db"));
    let began = Instant::now();
    work.write(&target);
    let seconds = began.elapsed().as_secs_f64();
    assert_same(&weigh(&source), &weigh(&target));
    Floor {
        signups: work.signups,
        seconds,
    }
}

/// Makes a database with confirmd's schema.
fn open(path: &Path) -> Connection {
    let target = connect(path);
    target.execute_batch(SCHEMA).expect("the schema");
    target
}

/// Opens a file as confirmd does.
pub(super) fn connect(path: &Path) -> Connection {
    let target = Connection::open(path).expect("a database");
    for (name, value) in [
        ("journal_mode", "wal"),
        ("synchronous", "full"),
        ("foreign_keys", "on"),
        ("recursive_triggers", "on"),
        ("secure_delete", "on"),
        ("trusted_schema", "off"),
    ] {
        target.pragma_update(None, name, value).expect("a pragma");
    }
    let synchronous: i64 = target
        .pragma_query_value(None, "synchronous", |row| row.get(0))
        .expect("a pragma");
    let journal: String = target
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .expect("a pragma");
    assert_eq!((synchronous, &*journal), (2, "wal"), "durability is not on");
    target
}

type Values = Vec<Value>;

/// Everything that is to be written, in memory.
struct Work {
    signups: usize,
    /// The statement of each table.
    inserts: Vec<String>,
    /// Commits: rows with the number of their table.
    sets: Vec<Vec<(usize, Values)>>,
    /// How many events have a number.
    size: u64,
    /// After how many events each tile and checkpoint is written.
    tiles: Vec<(u64, Values)>,
    checkpoints: Vec<(u64, Values)>,
}

impl Work {
    fn read(source: &Connection) -> Self {
        let count = |sql: &str| {
            source
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .expect("a count")
                .unsigned_abs()
        };
        let signups = usize::try_from(count("select count(*) from signup")).expect("a count");
        let size = count(HEAD);
        let mut sets = Vec::new();
        sets.resize_with(signups.div_ceil(SET), Vec::new);
        let mut inserts = Vec::new();
        for (number, (table, pick)) in TABLES.iter().enumerate() {
            let mut statement = source
                .prepare(&format!("{SIGNUPS} {pick}"))
                .expect("the schema as known");
            let columns: Vec<(usize, String)> = statement.column_names()[1..]
                .iter()
                .enumerate()
                .filter(|(_, name)| *table != "event" || !GIVEN_LATER.contains(name))
                .map(|(i, name)| (i + 1, (*name).to_owned()))
                .collect();
            let names: Vec<&str> = columns.iter().map(|(_, name)| name.as_str()).collect();
            let marks = vec!["?"; names.len()];
            inserts.push(format!(
                "insert into {table} ({}) values ({})",
                names.join(", "),
                marks.join(", ")
            ));
            let mut rows = statement.query([]).expect("rows");
            while let Some(row) = rows.next().expect("a row") {
                let k: i64 = row.get(0).expect("a number");
                let values = columns
                    .iter()
                    .map(|(i, _)| row.get(*i).expect("a value"))
                    .collect();
                sets[k.cast_unsigned() as usize / SET].push((number, values));
            }
        }
        let at = |row: &Row| {
            let number = |i: usize| row.get::<_, i64>(i).map(i64::unsigned_abs);
            Ok(complete_at(number(0)?, number(1)?, size))
        };
        Self {
            signups,
            inserts,
            sets,
            size,
            tiles: with_time(source, TILES, at),
            checkpoints: with_time(source, CHECKPOINTS, |row| {
                row.get::<_, i64>(1).map(i64::unsigned_abs)
            }),
        }
    }

    fn write(&self, target: &Connection) {
        let prepare = |sql: &str| target.prepare(sql).expect("the schema as known");
        let mut inserts: Vec<Statement> = self.inserts.iter().map(|sql| prepare(sql)).collect();
        let mut begin = prepare("begin immediate");
        let mut commit = prepare("commit");
        let mut tile = prepare("insert into tile (level, place, hashes) values (?, ?, ?)");
        let mut checkpoint = prepare(
            "insert into checkpoint (epoch, size, note, signed_at, stamp) values (?, ?, ?, ?, ?)",
        );
        let mut head = prepare("update trail_head set size = ?");
        let event = TABLES.iter().position(|(table, _)| *table == "event");
        let (mut tiles, mut checkpoints) = (
            self.tiles.iter().peekable(),
            self.checkpoints.iter().peekable(),
        );
        let (mut written, mut numbered) = (0, 0);
        for (place, set) in self.sets.iter().enumerate() {
            begin.execute([]).expect("begun");
            for (table, values) in set {
                inserts[*table]
                    .execute(params_from_iter(values))
                    .expect("inserted");
                written += u64::from(Some(*table) == event);
            }
            commit.execute([]).expect("committed");
            let last = place + 1 == self.sets.len();
            while numbered < self.size && (written - numbered >= NUMBERED_AT_ONCE || last) {
                let to = (numbered + NUMBERED_AT_ONCE).min(self.size);
                begin.execute([]).expect("begun");
                while let Some((_, values)) = tiles.next_if(|(at, _)| *at <= to) {
                    tile.execute(params_from_iter(values)).expect("inserted");
                }
                while let Some((_, values)) = checkpoints.next_if(|(at, _)| *at <= to) {
                    checkpoint
                        .execute(params_from_iter(values))
                        .expect("inserted");
                }
                head.execute([to.cast_signed()]).expect("written");
                commit.execute([]).expect("committed");
                numbered = to;
            }
        }
    }
}

fn with_time(
    source: &Connection,
    sql: &str,
    at: impl Fn(&Row) -> rusqlite::Result<u64>,
) -> Vec<(u64, Values)> {
    let mut statement = source.prepare(sql).expect("the schema as known");
    let columns = statement.column_count();
    let row = |row: &Row| {
        Ok((
            at(row)?,
            (0..columns).map(|i| row.get(i)).collect::<Result<_, _>>()?,
        ))
    };
    let rows = statement.query_map([], row).expect("rows");
    let mut rows: Vec<_> = rows.collect::<Result<_, _>>().expect("rows");
    rows.sort_by_key(|(at, _)| *at);
    rows
}

/// Counts rows and bytes, table by table.
pub(super) fn weigh(database: &Connection) -> Vec<Weight> {
    let texts = |sql: &str| -> Vec<String> {
        let mut statement = database.prepare(sql).expect("a statement");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("rows")
    };
    let tables = texts(
        "select name from sqlite_master where type = 'table' and name not like 'sqlite%' and name not like '\\_sqlx%' escape '\\' order by name",
    );
    let weight = |table: String| {
        let columns = texts(&format!("select name from pragma_table_info('{table}')"));
        let lengths = columns
            .iter()
            .map(|name| format!("coalesce(length(cast({name} as blob)), 0)"));
        let lengths = lengths.collect::<Vec<_>>().join(" + ");
        let sql = format!("select count(*), coalesce(sum({lengths}), 0) from {table}");
        let (rows, bytes) = database
            .query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("a row");
        Weight { table, rows, bytes }
    };
    tables.into_iter().map(weight).collect()
}
