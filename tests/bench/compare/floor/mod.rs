//! The floors: what the machine and the same libraries can do when nothing of confirmd is in the way.

pub mod disk;
pub mod http;
pub mod mails;
pub mod postgres;
pub mod source;
pub mod sqlite;

/// How fast the floor was.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    pub signups: usize,
    pub seconds: f64,
}

impl Floor {
    pub fn rate(self) -> f64 {
        self.signups as f64 / self.seconds
    }
}

/// Events that one transaction numbers, as confirmd does.
const NUMBERED_AT_ONCE: u64 = 1000;
/// Hashes in a tile of the tree.
const TILE: u64 = 256;

/// Signups in the order of their ids, numbered by `k`.
const SIGNUPS: &str = "with s as (select row_number() over (order by id) - 1 as k, id, mailbox, subscriber from signup)";

/// What signups write, in the order in which references allow it, and how a row is assigned to the signup that wrote it.
/// Both databases read these texts. What belongs to no signup goes with the first.
const TABLES: &[(&str, &str)] = &[
    ("facts", "select 0, t.* from facts t"),
    ("consent_text", "select 0, t.* from consent_text t"),
    ("list", "select 0, t.* from list t"),
    ("template", "select 0, t.* from template t"),
    ("api_key", "select 0, t.* from api_key t"),
    ("keyring", "select 0, t.* from keyring t"),
    (
        "address",
        "select coalesce(min(s.k), 0), t.* from address t left join s on s.mailbox = t.mailbox group by t.mailbox",
    ),
    (
        "subscriber",
        "select coalesce(min(s.k), 0), t.* from subscriber t left join s on s.subscriber = t.id group by t.id",
    ),
    (
        "signup",
        "select s.k, t.* from signup t join s on s.id = t.id",
    ),
    (
        "signup_list",
        "select s.k, t.* from signup_list t join s on s.id = t.signup",
    ),
    (
        "message",
        "select coalesce(s.k, 0), t.* from message t left join s on s.id = t.signup",
    ),
    (
        "idempotency",
        "select coalesce(s.k, 0), t.* from idempotency t left join s on s.id = t.signup",
    ),
    (
        "event",
        "select coalesce(s.k, 0), t.* from event t left join s on s.id = t.signup order by 1, t.ord",
    ),
    (
        "evidence",
        "select coalesce(s.k, 0), t.* from evidence t left join event e on e.id = t.event left join s on s.id = e.signup",
    ),
];

/// Columns that are not inserted: the first comes by itself, the second by numbering.
const GIVEN_LATER: [&str; 2] = ["ord", "seq"];

/// The tables that numbering writes.
const TILES: &str = "select level, place, hashes from tile order by level, place";
const CHECKPOINTS: &str =
    "select epoch, size, note, signed_at, stamp from checkpoint order by size";
const HEAD: &str = "select size from trail_head";

/// Returns after how many events a tile is as it was at the end: what it then holds is written with them.
fn complete_at(level: u64, place: u64, size: u64) -> u64 {
    ((place + 1) * TILE.pow(u32::try_from(level + 1).expect("a small level"))).min(size)
}

/// Bytes and rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    pub table: String,
    pub rows: i64,
    pub bytes: i64,
}

/// Panics unless the floor wrote what confirmd wrote: rows and bytes, table by table, within 1 %.
fn assert_same(confirmd: &[Weight], floor: &[Weight]) {
    let near = |a: i64, b: i64| (a - b).abs() as f64 <= 0.01 * a.max(b) as f64;
    assert_eq!(confirmd.len(), floor.len(), "another schema");
    for (a, b) in confirmd.iter().zip(floor) {
        assert!(
            a.table == b.table && near(a.rows, b.rows) && near(a.bytes, b.bytes),
            "the floor wrote something else: {a:?} is not {b:?}"
        );
    }
}
