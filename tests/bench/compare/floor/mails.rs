//! Raw SQLite: what confirmd wrote of mails that it sent, through rusqlite, a hundred in a commit. First what claims them,
//! then what says that they were sent; the events get no numbers.

use std::path::Path;
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::assert_same;
use super::sqlite::{connect, weigh};

/// Mails in a commit.
const SET: usize = 100;

/// What confirmd wrote of one mail, in the order of the statements below.
const MAILS: &str = "select
        m.kind, m.lists, m.pinned, m.settled_at, m.id,
        s.expires_at, s.id,
        m.state, m.attempts, m.ambiguous, m.outcome, m.settled_at, m.id,
        e.id, e.type, e.time, e.sender, e.list, e.subscriber, e.signup, e.message, e.leaf,
        v.event, v.part, v.subscriber, v.key, v.body, v.kept_at,
        s.state, s.id
    from event e join message m on m.id = e.message join signup s on s.id = m.signup join evidence v on v.event = e.id
    where e.type = 'message.sent' order by e.ord";

const CLAIM: [&str; 2] = [
    "update message set state = 'claimed', claim = zeroblob(16), claims = claims + 1,
       kind = ?, lists = ?, pinned = ?, lease_until = ? where id = ?",
    "update signup set expires_at = ? where id = ?",
];

const SETTLE: [&str; 4] = [
    "update message set claim = null, lease_until = null, lost = 0,
       state = ?, attempts = ?, ambiguous = ?, outcome = ?, settled_at = ? where id = ?",
    "insert into event (id, type, time, sender, list, subscriber, signup, message, leaf) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "insert into evidence (event, part, subscriber, key, body, kept_at) values (?, ?, ?, ?, ?, ?)",
    "update signup set state = ? where id = ?",
];

/// Tables of numbering, which waits for nobody's answer.
const NUMBERED: [&str; 3] = ["tile", "checkpoint", "trail_head"];

/// Writes into a filled queue what confirmd wrote into the other copy of it, compares, and returns mails a second.
pub fn run(queue: &Path, sent: &Path) -> f64 {
    let source = connect(sent);
    let mails = read(&source);
    let target = connect(queue);
    target
        .query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))
        .expect("an empty log");
    let prepare = |sql: &str| target.prepare(sql).expect("the schema as known");
    let (mut begin, mut commit) = (prepare("begin immediate"), prepare("commit"));
    let (mut claim, mut settle) = (CLAIM.map(prepare), SETTLE.map(prepare));
    let began = Instant::now();
    for set in mails.chunks(SET) {
        let mut used = 0;
        for statements in [&mut claim[..], &mut settle[..]] {
            begin.execute([]).expect("begun");
            for statement in statements {
                let to = used + statement.parameter_count();
                for mail in set {
                    let written = statement.execute(params_from_iter(&mail[used..to]));
                    assert_eq!(written, Ok(1), "rows of one mail");
                }
                used = to;
            }
            commit.execute([]).expect("committed");
        }
    }
    let rate = mails.len() as f64 / began.elapsed().as_secs_f64();
    let weights = |database| {
        let mut weights = weigh(database);
        weights.retain(|weight| !NUMBERED.contains(&&*weight.table));
        weights
    };
    assert_same(&weights(&source), &weights(&target));
    rate
}

fn read(source: &Connection) -> Vec<Vec<Value>> {
    let mut statement = source.prepare(MAILS).expect("the schema as known");
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|i| row.get(i)).collect());
    rows.expect("rows").collect::<Result<_, _>>().expect("rows")
}
