//! The kinds of edits, each below the library: what somebody does who owns the database.

use confirmd::domain::consent::Hash;
use confirmd::domain::evidence::{Evidence, Part};
use confirmd::domain::time::Timestamp;
use confirmd::flow::audit::report::At;
use confirmd::flow::audit::trusted::Trusted;
use confirmd::trail::note::{Checkpoint, Signer};
use confirmd::trail::tree::{Frontier, append, leaf_hash};
use serde_json::Value;
use uuid::Uuid;

use super::fixture::ORIGIN;
use super::world::{Chance, World, seq, text};
use crate::support::app::Db;

/// How far the attacker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Changes what is to be changed.
    Plain,
    /// Computes the tree over it anew as well.
    Recomputed,
    /// Changes only what a single check looks at.
    Alone,
}

/// One edit.
pub struct Edit {
    pub sql: Vec<String>,
    pub tables: Vec<&'static str>,
    pub place: Place,
    /// The keys that whoever verifies now finds.
    pub trusted: Option<Trusted>,
}

/// What must be said of where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This event.
    Event(u64),
    /// The events between two checkpoints or of a tile, this one among them.
    Among(u64),
    /// None: the row or the file is named.
    Named,
}

impl Place {
    pub fn is(self, at: At, world: &World) -> bool {
        match (self, at) {
            (Place::Event(seq) | Place::Among(seq), At::Event(at)) => seq == at,
            (Place::Among(seq), At::Between(from, to)) => {
                let signed = world.checkpoints.iter().map(|(kept, _)| kept.size);
                let next = signed.clone().find(|size| *size >= seq);
                let before = signed.filter(|size| *size < seq).max().unwrap_or(0);
                let narrow = (Some(to) == next && from == before + 1) || to - from < 256;
                (from..=to).contains(&seq) && narrow
            }
            (Place::Named, At::Nothing) => true,
            _ => false,
        }
    }
}

pub type Kind = (&'static str, fn(&World, &mut Chance, Care) -> Edit);

/// Every kind.
pub const KINDS: [Kind; 17] = [
    ("event changed", change_leaf),
    ("event deleted", delete_event),
    ("event inserted", insert_event),
    ("events swapped", swap_events),
    ("trail truncated", truncate),
    ("key swapped", swap_key),
    ("evidence edited", edit_evidence),
    ("evidence deleted", delete_evidence),
    ("checkpoint edited", edit_checkpoint),
    ("copy column edited", edit_copy),
    ("tile edited", edit_tile),
    ("head edited", edit_head),
    ("subscription edited", edit_subscription),
    ("signup list edited", edit_list),
    ("signup edited", edit_signup),
    ("message edited", edit_message),
    ("consent text edited", edit_text),
];

fn edit(sql: Vec<String>, tables: &[&'static str], place: Place) -> Edit {
    Edit {
        sql,
        tables: tables.to_vec(),
        place,
        trusted: None,
    }
}

impl Edit {
    /// Writes the tree over other leaves, too, which leaves only what is between checkpoints to be told.
    fn recomputed(mut self, world: &World, hashes: &[Hash]) -> Self {
        self.sql.extend(world.tree(hashes));
        self.tables.push("tile");
        if let Place::Event(seq) = self.place {
            self.place = Place::Among(seq);
        }
        self
    }
}

/// Writes another leaf in the place of one.
fn rewrite(world: &World, at: usize, leaf: &[u8], care: Care) -> Edit {
    let row = &world.events[at];
    let set = format!(
        "update event set leaf = {} where {} = {}",
        world.bytes(leaf),
        world.db.seq(),
        seq(row)
    );
    let edit = edit(vec![set], &["event"], Place::Event(seq(row)));
    if care != Care::Recomputed {
        return edit;
    }
    let mut hashes = world.leaf_hashes();
    hashes[at] = leaf_hash(leaf);
    edit.recomputed(world, &hashes)
}

fn other_digit(salt: &str, at: usize) -> String {
    let mut salt: Vec<char> = salt.chars().collect();
    salt[at] = if salt[at] == '0' { '1' } else { '0' };
    salt.into_iter().collect()
}

fn changed(world: &World, chance: &mut Chance, at: usize, care: Care) -> Vec<u8> {
    let mut leaf = world.leaves[at].clone();
    match chance.below(if care == Care::Alone { 2 } else { 3 }) {
        0 => {
            let salt = leaf["salt"].as_str().expect("a salt");
            leaf["salt"] = other_digit(salt, chance.below(32)).into();
        }
        1 => leaf["data"]["remark"] = "nothing to see".into(),
        _ => {
            let mut bytes = world.events[at].leaf.clone();
            let place = chance.below(bytes.len());
            bytes[place] ^= 1 << chance.below(7);
            return bytes;
        }
    }
    leaf.to_string().into_bytes()
}

fn change_leaf(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let at = chance.below(world.signed());
    let leaf = changed(world, chance, at, care);
    rewrite(world, at, &leaf, care)
}

/// Signed events of which nothing else speaks.
fn operators(world: &World) -> Vec<usize> {
    let kinds = ["key.created", "unsubscribe.repeated", "subscriber.changed"];
    let silent = |at: &usize| kinds.contains(&world.events[*at].kind.as_str());
    (0..world.signed()).filter(silent).collect()
}

fn delete_event(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let at = match care {
        Care::Alone => *chance.pick(&operators(world)),
        _ => chance.below(world.signed()),
    };
    let number = at as u64 + 1;
    let edit = edit(
        vec![format!(
            "delete from event where {} = {number}",
            world.db.seq()
        )],
        &["event", "trail_head"],
        Place::Event(number),
    );
    if care != Care::Recomputed {
        return edit;
    }
    let mut hashes = world.leaf_hashes();
    hashes.remove(at);
    let mut edit = edit.recomputed(world, &hashes);
    edit.sql.extend(shift(world, number, -1));
    edit
}

/// Moves the numbers from one on; in two steps, since no two may be equal for a moment.
fn shift(world: &World, from: u64, by: i64) -> Vec<String> {
    let seq = world.db.seq();
    vec![
        format!("update event set {seq} = -{seq} where {seq} >= {from}"),
        format!("update event set {seq} = {by} - {seq} where {seq} < 0"),
        format!("update trail_head set size = size + ({by})"),
    ]
}

fn insert_event(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let like = match care {
        Care::Alone => *chance.pick(&operators(world)),
        _ => chance.below(world.signed()),
    };
    let mut leaf = world.leaves[like].clone();
    let id = chance.uuid();
    leaf["id"] = id.to_string().into();
    if let Some(members) = leaf.as_object_mut() {
        members.remove("evidence");
    }
    let row = &world.events[like];
    let leaf = leaf.to_string().into_bytes();
    let place = match care {
        Care::Recomputed => chance.below(world.signed()) as u64 + 1,
        _ => world.head() + 1,
    };
    let quoted = |value: &Option<String>| value.as_ref().map_or("null".to_owned(), |v| text(v));
    let insert = format!(
        "insert into event (id, type, time, sender, list, subscriber, signup, message, leaf, {})
         values ({}, {}, {}, {}, {}, {}, {}, {}, {}, {place})",
        world.db.seq(),
        world.uuid(id),
        text(&row.kind),
        world.time(row.time),
        quoted(&row.sender),
        quoted(&row.list),
        world.maybe(row.subscriber),
        world.maybe(row.signup),
        world.maybe(row.message),
        world.bytes(&leaf),
    );
    let mut edit = edit(Vec::new(), &["event", "trail_head"], Place::Event(place));
    if care == Care::Recomputed {
        let mut hashes = world.leaf_hashes();
        hashes.insert(usize::try_from(place).expect("small") - 1, leaf_hash(&leaf));
        edit = edit.recomputed(world, &hashes);
    }
    // On SQLite an event beyond the head has no number yet, and is no edit.
    if care == Care::Recomputed || world.db == Db::Sqlite {
        edit.sql.extend(shift(world, place, 1));
    }
    edit.sql.push(insert);
    edit
}

fn swap_events(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let among = match care {
        Care::Alone => operators(world),
        _ => (0..world.signed()).collect(),
    };
    let a = *chance.pick(&among);
    let b = loop {
        let b = *chance.pick(&among);
        if b != a {
            break b;
        }
    };
    let (a, b) = (a.min(b), a.max(b));
    let (first, second) = (a as i64 + 1, b as i64 + 1);
    let seq = world.db.seq();
    let to = |number: i64, of: i64| format!("update event set {seq} = {number} where {seq} = {of}");
    let sql = vec![to(-1, first), to(first, second), to(second, -1)];
    let edit = edit(sql, &["event"], Place::Event(first.unsigned_abs()));
    if care != Care::Recomputed {
        return edit;
    }
    let mut hashes = world.leaf_hashes();
    hashes.swap(a, b);
    edit.recomputed(world, &hashes)
}

/// Cuts off the end, up to what the last outside checkpoint signed.
fn truncate(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let left = 1 + chance.below(world.signed() - 1);
    let mut edit = edit(
        vec![format!(
            "delete from event where {} > {left}",
            world.db.seq()
        )],
        &["event", "trail_head", "checkpoint"],
        Place::Event(left as u64 + 1),
    );
    if care == Care::Recomputed {
        let hashes = &world.leaf_hashes()[..left];
        let place = edit.place;
        edit = edit.recomputed(world, hashes);
        edit.place = place;
        edit.sql
            .push(format!("update trail_head set size = {left}"));
        edit.sql
            .push(format!("delete from checkpoint where size > {left}"));
    }
    edit
}

/// Signs everything with another key that is registered in the place of the first, or beside it.
fn swap_key(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let signer = Signer::new(&format!("{ORIGIN}/1"), &chance.bytes()).expect("a key");
    let own = signer.verifier().public_key();
    let Trusted::Registered { keys, .. } = &world.trusted else {
        panic!("registered keys")
    };
    let (mut edit, keys, hashes) = match care {
        Care::Recomputed => {
            let at = chance.below(world.signed());
            let leaf = changed(world, chance, at, Care::Alone);
            let mut hashes = world.leaf_hashes();
            hashes[at] = leaf_hash(&leaf);
            (
                rewrite(world, at, &leaf, care),
                [keys.clone(), vec![own]].concat(),
                hashes,
            )
        }
        _ => (
            edit(Vec::new(), &[], Place::Named),
            vec![own],
            world.leaf_hashes(),
        ),
    };
    edit.tables.push("checkpoint");
    for (kept, note) in &world.checkpoints {
        let mut tree = Frontier::new();
        let size = usize::try_from(kept.size).expect("small");
        hashes[..size].iter().for_each(|hash| tree.push(*hash));
        let root = tree.root();
        let note = Checkpoint {
            root,
            ..note.clone()
        }
        .sign(&signer);
        edit.sql.push(format!(
            "update checkpoint set note = {} where size = {size}",
            text(&note)
        ));
    }
    edit.trusted = Some(Trusted::Registered {
        origin: ORIGIN.to_owned(),
        keys,
    });
    edit
}

fn edit_evidence(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let kept = signed_evidence(world, chance);
    let number = world.seqs[&kept.event.0];
    let whose = format!(
        "where event = {} and part = '{}'",
        world.uuid(kept.event.0),
        kept.evidence.part.as_str()
    );
    let body = format!("{} ", kept.evidence.body);
    let set = match chance.below(if care == Care::Recomputed { 1 } else { 3 }) {
        0 => format!("body = {}", text(&body)),
        1 => format!("key = {}", world.bytes(&chance.bytes::<32>())),
        _ => format!("subscriber = {}", world.uuid(chance.uuid())),
    };
    let set = format!("update evidence set {set} {whose}");
    let mut edit = match care {
        Care::Recomputed => {
            let other = Evidence {
                body,
                ..kept.evidence.clone()
            };
            commit(world, number, other.part, Some(other.commitment()))
        }
        _ => edit(Vec::new(), &[], Place::Event(number)),
    };
    edit.tables.push("evidence");
    edit.sql.push(set);
    edit
}

fn delete_evidence(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let kept = signed_evidence(world, chance);
    let number = world.seqs[&kept.event.0];
    let part = kept.evidence.part;
    let mut edit = match care {
        Care::Recomputed => commit(world, number, part, None),
        _ => edit(Vec::new(), &[], Place::Event(number)),
    };
    let event = world.uuid(kept.event.0);
    let part = part.as_str();
    edit.sql.push(format!(
        "delete from evidence where event = {event} and part = '{part}'"
    ));
    edit.tables.push("evidence");
    edit
}

fn signed_evidence<'w>(
    world: &'w World,
    chance: &mut Chance,
) -> &'w confirmd::store::evidence::Kept {
    loop {
        let kept = chance.pick(&world.evidence);
        if world.seqs[&kept.event.0] <= world.signed() as u64 {
            return kept;
        }
    }
}

/// Commits an event to something else.
fn commit(world: &World, number: u64, part: Part, to: Option<Hash>) -> Edit {
    let at = usize::try_from(number).expect("small") - 1;
    let mut leaf = world.leaves[at].clone();
    let parts = leaf["evidence"].as_object_mut().expect("commitments");
    match to {
        Some(hash) => drop(parts.insert(part.as_str().to_owned(), hash.to_string().into())),
        None => drop(parts.remove(part.as_str())),
    }
    rewrite(world, at, leaf.to_string().as_bytes(), Care::Recomputed)
}

fn edit_checkpoint(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let (kept, note) = chance.pick(&world.checkpoints);
    let signer = Signer::new(&note.origin, &chance.bytes()).expect("a key");
    let root = Hash(chance.bytes());
    let later = Timestamp::from_micros(note.time.as_micros() + 1 + chance.below(9_000_000) as i64);
    let mut place = Place::Event(kept.size);
    let set = |set: String| format!("update checkpoint set {set} where size = {}", kept.size);
    let sql = match (care, chance.below(7)) {
        // Another signature, over other events or over these.
        (Care::Recomputed, n) if n > 3 => set(format!(
            "note = {}",
            text(
                &Checkpoint {
                    root,
                    ..note.clone()
                }
                .sign(&signer)
            )
        )),
        (Care::Recomputed, _) => set(format!("note = {}", text(&note.sign(&signer)))),
        (_, 0) => set(format!("size = size + {}", 1 + chance.below(20))),
        (_, 1) => set("epoch = 2".to_owned()),
        (_, 2) => set(format!("signed_at = {}", world.time(later))),
        (_, 3) => {
            let other = Checkpoint {
                root,
                ..note.clone()
            };
            set(format!(
                "note = {}",
                text(&kept.note.replace(&note.text(), &other.text()))
            ))
        }
        (_, 4) => {
            let other = Checkpoint {
                time: later,
                ..note.clone()
            };
            set(format!(
                "note = {}",
                text(&kept.note.replace(&note.text(), &other.text()))
            ))
        }
        (_, 5) => {
            place = Place::Named;
            "update trail_head set epoch = 2".to_owned()
        }
        _ => {
            let mut bytes = kept.note.clone().into_bytes();
            let at = chance.below(bytes.len() - 1);
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            set(format!(
                "note = {}",
                text(&String::from_utf8_lossy(&bytes).replace('\u{fffd}', "?"))
            ))
        }
    };
    edit(vec![sql], &["checkpoint", "trail_head"], place)
}

fn edit_copy(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let row = chance.pick(&world.events);
    let other = chance.pick(&world.events);
    let quoted = |value: &Option<String>| value.as_ref().map_or("null".to_owned(), |v| text(v));
    let variant = match care {
        // Evidence is filed by this id, and the events of a subscriber are found by the other.
        Care::Alone => 1 + chance.below(6),
        _ => chance.below(8),
    };
    let set = match variant {
        0 => format!("id = {}", world.uuid(chance.uuid())),
        1 if other.kind != row.kind => format!("type = {}", text(&other.kind)),
        2 => format!(
            "time = {}",
            world.time(Timestamp::from_micros(row.time.as_micros() + 1))
        ),
        3 if other.sender != row.sender => format!("sender = {}", quoted(&other.sender)),
        4 if other.list != row.list => format!("list = {}", quoted(&other.list)),
        5 if other.signup != row.signup => format!("signup = {}", world.maybe(other.signup)),
        7 if other.subscriber != row.subscriber => {
            format!("subscriber = {}", world.maybe(other.subscriber))
        }
        _ => format!("message = {}", world.uuid(chance.uuid())),
    };
    let set = format!(
        "update event set {set} where {} = {}",
        world.db.seq(),
        seq(row)
    );
    edit(vec![set], &["event"], Place::Event(seq(row)))
}

fn edit_tile(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let tree = append(0, &Default::default(), &world.leaf_hashes());
    let tiles = tree.expect("from the beginning");
    let (id, mut hashes, at) = loop {
        let all: Vec<_> = tiles.iter().collect();
        let (id, hashes) = *chance.pick(&all);
        let at = chance.below(hashes.len());
        // What no checkpoint rests on is known to nobody but the leaf.
        let place = id.index * 256 + at as u64;
        let end = (id.index + 1) * 256;
        let signed = |size: u64| size > place && size < end;
        let rests = id.level > 0 || world.checkpoints.iter().any(|(kept, _)| signed(kept.size));
        if care != Care::Alone || !rests {
            break (*id, hashes.clone(), at);
        }
    };
    hashes[at].0[chance.below(32)] ^= 1;
    let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
    let set = format!(
        "update tile set hashes = {} where level = {} and place = {}",
        world.bytes(&bytes),
        id.level,
        id.index
    );
    let place = id.index * 256 + at as u64 + 1;
    let place = if id.level == 0 {
        Place::Event(place)
    } else {
        Place::Among(place * 256)
    };
    edit(vec![set], &["tile"], place)
}

fn edit_head(world: &World, chance: &mut Chance, care: Care) -> Edit {
    let by = 1 + chance.below(50) as u64;
    // On SQLite it would give numbers that the tree knows nothing of: two checks see that.
    let may_rise = care != Care::Alone || world.db == Db::Postgres;
    let (set, place) = match chance.below(2) {
        0 if may_rise => (format!("size + {by}"), world.head() + 1),
        // As far as it may go without passing what was signed.
        _ => {
            let unsigned = world.events.len() - world.signed();
            let by = 1 + chance.below(unsigned) as u64;
            (format!("size - {by}"), world.head() - by + 1)
        }
    };
    let set = format!("update trail_head set size = {set}");
    edit(vec![set], &["trail_head"], Place::Event(place))
}

fn edit_subscription(world: &World, chance: &mut Chance, _: Care) -> Edit {
    const STATES: [&str; 7] = [
        "confirmed",
        "attested",
        "unsubscribed",
        "objected",
        "undeliverable",
        "lapsed",
        "unproven",
    ];
    let row = chance.pick(&world.subscriptions);
    let of = |leaf: &Value, kinds: &str| {
        let kind = leaf["type"].as_str().unwrap_or_default();
        kind.starts_with(kinds)
            && leaf["subscriber"] == row.subscriber.to_string()
            && leaf["list"] == row.list.as_str()
    };
    let last = world
        .last(|leaf| of(leaf, "subscription."))
        .expect("an event");
    let whose = format!(
        "subscriber = {} and list = {}",
        world.uuid(row.subscriber),
        text(&row.list)
    );
    let set = match chance.below(7) {
        0 | 1 => loop {
            let state = *chance.pick(&STATES);
            if state != row.state {
                break format!("state = '{state}'");
            }
        },
        2 => format!(
            "since = {}",
            world.time(Timestamp::from_micros(row.since.as_micros() - 1))
        ),
        3 => "counter = counter + 1".to_owned(),
        4 => format!(
            "signup = {}",
            world.maybe((chance.below(2) == 0).then(|| chance.uuid()))
        ),
        5 => "revision = revision + 1".to_owned(),
        _ if chance.below(2) == 0 => {
            let sql = format!("delete from subscription where {whose}");
            return edit(vec![sql], &["subscription"], Place::Event(last));
        }
        _ => {
            // Somebody who never agreed.
            let taken = |person: &Uuid| world.subscriptions.iter().any(|s| s.subscriber == *person);
            let (person, _) = loop {
                let person = chance.pick(&world.people);
                if !taken(&person.0) {
                    break person;
                }
            };
            let sql = format!(
                "insert into subscription (id, subscriber, list, state, basis, since, counter, signup, revision, locale)
                 values ({}, {}, 'weekly', 'confirmed', 'consent', {}, 0, null, 1, 'en')",
                world.uuid(chance.uuid()),
                world.uuid(*person),
                world.time(row.since)
            );
            return edit(vec![sql], &["subscription"], Place::Named);
        }
    };
    let sql = format!("update subscription set {set} where {whose}");
    edit(vec![sql], &["subscription"], Place::Event(last))
}

fn edit_list(world: &World, chance: &mut Chance, _: Care) -> Edit {
    let (row, last, accepted) = loop {
        let row = chance.pick(&world.lists);
        let names = |leaf: &Value| {
            let lists = leaf["data"]["lists"].as_array();
            let about = lists.is_some_and(|lists| lists.contains(&row.list.as_str().into()));
            let failed = leaf["type"] == "message.failed";
            leaf["signup"] == row.signup.to_string()
                && (about || failed || leaf["list"] == row.list.as_str())
                && leaf["type"] != "subscription.unsubscribed"
        };
        let accepted = |leaf: &Value| {
            leaf["type"] == "signup.accepted" && leaf["signup"] == row.signup.to_string()
        };
        if let (Some(last), Some(accepted)) = (world.last(names), world.last(accepted)) {
            break (row, last, accepted);
        }
    };
    let whose = format!(
        "signup = {} and list = {}",
        world.uuid(row.signup),
        text(&row.list)
    );
    let set = match chance.below(6) {
        0 | 1 => {
            // That a list was confirmed already when it was asked for again is the one end without an event.
            const ENDS: [&str; 6] = [
                "open",
                "confirmed",
                "declined",
                "expired",
                "withheld",
                "undeliverable",
            ];
            let silent = row.state == "already_confirmed";
            loop {
                let state = *chance.pick(&ENDS);
                if state != row.state && !(silent && state == "open") {
                    break format!("state = '{state}'");
                }
            }
        }
        2 if row.reason.is_some() => "reason = 'elsewhere'".to_owned(),
        2 | 3 => "counter = counter - 1".to_owned(),
        4 => {
            let sql = format!("delete from signup_list where {whose}");
            return edit(vec![sql], &["signup_list"], Place::Event(last));
        }
        _ => {
            let sql = format!(
                "insert into signup_list (signup, list, state, counter, facts)
                 select signup, 'more', state, counter, facts from signup_list where {whose}"
            );
            return edit(vec![sql], &["signup_list"], Place::Event(accepted));
        }
    };
    edit(
        vec![format!("update signup_list set {set} where {whose}")],
        &["signup_list"],
        Place::Event(last),
    )
}

fn edit_signup(world: &World, chance: &mut Chance, _: Care) -> Edit {
    let accepted = |is_it: &dyn Fn(&Value) -> bool| {
        let found = world
            .leaves
            .iter()
            .position(|l| l["type"] == "signup.accepted" && is_it(l));
        found.map(|at| at as u64 + 1)
    };
    loop {
        let (table, id, column, at) = match chance.below(2) {
            0 => {
                let row = chance.pick(&world.signups);
                let column = *chance.pick(&["sender", "subscriber", ""]);
                (
                    "signup",
                    row.id,
                    column,
                    accepted(&|l| l["signup"] == row.id.to_string()),
                )
            }
            _ => {
                let (id, _) = chance.pick(&world.people);
                let column = *chance.pick(&["sender", ""]);
                (
                    "subscriber",
                    *id,
                    column,
                    accepted(&|l| l["subscriber"] == id.to_string()),
                )
            }
        };
        let Some(at) = at else { continue };
        let whose = world.uuid(id);
        let sql = match column {
            "sender" => format!("update {table} set sender = 'nobody' where id = {whose}"),
            "subscriber" => {
                let (other, _) = chance.pick(&world.people);
                if world
                    .signups
                    .iter()
                    .any(|s| s.id == id && s.subscriber == *other)
                {
                    continue;
                }
                let other = world.uuid(*other);
                format!("update signup set subscriber = {other} where id = {whose}")
            }
            _ => format!("delete from {table} where id = {whose}"),
        };
        return edit(vec![sql], &["signup", "subscriber"], Place::Event(at));
    }
}

fn edit_message(world: &World, chance: &mut Chance, _: Care) -> Edit {
    const ENDS: [&str; 3] = ["sent", "failed", "unknown"];
    loop {
        let row = chance.pick(&world.messages);
        let about = world.last(|leaf| leaf["message"] == row.id.to_string());
        let signup = row.signup.map(|id| id.to_string());
        let accepted = world
            .last(|l| l["type"] == "signup.accepted" && l["signup"].as_str() == signup.as_deref());
        // A mail of which no event tells: that of an event without a number, or a goodbye that waits.
        let Some(at) = about.or(accepted.filter(|_| signup.is_some())) else {
            continue;
        };
        let whose = format!("where id = {}", world.uuid(row.id));
        let sql = match chance.below(4) {
            0 if about.is_some() => format!("delete from message {whose}"),
            1 if ENDS.contains(&row.state.as_str()) => {
                format!("update message set state = 'cancelled' {whose}")
            }
            _ => {
                let state = *chance.pick(&ENDS);
                if state == row.state {
                    continue;
                }
                format!("update message set state = '{state}' {whose}")
            }
        };
        return edit(vec![sql], &["message"], Place::Event(at));
    }
}

fn edit_text(world: &World, chance: &mut Chance, _: Care) -> Edit {
    let sql = match chance.below(2) {
        0 => {
            let (list, locale, hash) = chance.pick(&world.words);
            format!(
                "update consent_text set body = body || '{}' where list = {} and locale = {} and hash = {}",
                chance.below(1000),
                text(list),
                text(locale),
                world.bytes(&hash.0)
            )
        }
        _ => {
            let hash = chance.pick(&world.facts);
            format!(
                "update facts set body = replace(body, 'Acme', 'Acne {}') || ' ' where hash = {}",
                chance.below(1000),
                world.bytes(&hash.0)
            )
        }
    };
    edit(vec![sql], &["consent_text", "facts"], Place::Named)
}
