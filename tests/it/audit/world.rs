//! The closed copy: what it holds, how it is edited below the library, and how each edit is undone.

use std::collections::BTreeMap;

use confirmd::domain::consent::Hash;
use confirmd::domain::id::SubscriberId;
use confirmd::domain::time::Timestamp;
use confirmd::flow::audit::trusted::Trusted;
use confirmd::store::audit::{EventRow, ListRow, MessageRow, SignupRow, SubscriptionRow};
use confirmd::store::{evidence, trail};
use confirmd::trail::note::Checkpoint;
use confirmd::trail::tree::{Tiles, append, leaf_hash};
use serde_json::Value;
use uuid::Uuid;

use super::fixture;
use crate::support::app::{Db, TestApp};
pub use crate::support::chance::Chance;
use crate::support::sql::Raw;

/// Every table that an edit may touch.
const TABLES: [&str; 12] = [
    "event",
    "tile",
    "trail_head",
    "checkpoint",
    "evidence",
    "subscriber",
    "subscription",
    "signup",
    "signup_list",
    "message",
    "consent_text",
    "facts",
];

/// What the copy holds before it is edited.
pub struct World {
    pub db: Db,
    pub raw: Raw,
    pub events: Vec<EventRow>,
    pub leaves: Vec<Value>,
    pub checkpoints: Vec<(trail::Kept, Checkpoint)>,
    pub evidence: Vec<evidence::Kept>,
    pub people: Vec<(Uuid, String)>,
    pub subscriptions: Vec<SubscriptionRow>,
    pub signups: Vec<SignupRow>,
    pub lists: Vec<ListRow>,
    pub messages: Vec<MessageRow>,
    pub words: Vec<(String, String, Hash)>,
    pub facts: Vec<Hash>,
    pub trusted: Trusted,
    /// The numbers of events by id.
    pub seqs: BTreeMap<Uuid, u64>,
}

impl World {
    /// Reads the copy and takes away what protects it.
    pub async fn open(app: &TestApp) -> World {
        let mut tx = app.flows.pool.read().await.expect("the database works");
        let events = tx.event_rows_after(0, 1_000_000).await.expect("events");
        let leaves: Vec<Value> = events
            .iter()
            .map(|row| serde_json::from_slice(&row.leaf).expect("JSON"))
            .collect();
        let trusted = fixture::trusted(app).await;
        let kept = tx
            .checkpoints_by_size((0, 0, Timestamp::from_seconds(0)), 1000)
            .await
            .expect("checkpoints");
        let open = |kept: trail::Kept| {
            let note = Checkpoint::open(&kept.note, &trusted.keys(kept.epoch)).expect("a note");
            (kept, note)
        };
        let checkpoints: Vec<_> = kept.into_iter().map(open).collect();
        let ids: Vec<_> = events
            .iter()
            .map(|row| confirmd::domain::id::EventId(row.id))
            .collect();
        let people = tx
            .anybody_after(SubscriberId(Uuid::nil()), 1_000_000)
            .await
            .expect("people");
        let signups = tx.signup_rows(&people, &[]).await.expect("signups");
        let named: Vec<_> = signups.iter().map(|row| row.id).collect();
        let mut world = World {
            db: app.db,
            raw: Raw::open(&app.url).await,
            seqs: events.iter().map(|row| (row.id, seq(row))).collect(),
            evidence: tx.evidence_behind(&ids).await.expect("evidence"),
            people: tx.subscriber_rows(&people).await.expect("subscribers"),
            subscriptions: tx.subscription_rows(&people).await.expect("subscriptions"),
            lists: tx.list_rows(&named).await.expect("lists"),
            messages: tx.message_rows(&people).await.expect("messages"),
            words: tx
                .kept_words()
                .await
                .expect("words")
                .into_iter()
                .map(|(l, o, (h, _))| (l, o, h))
                .collect(),
            facts: tx
                .facts_after(&[], 1000)
                .await
                .expect("facts")
                .into_iter()
                .map(|(h, _)| h)
                .collect(),
            events,
            leaves,
            checkpoints,
            signups,
            trusted,
        };
        drop(tx);
        world.unprotect().await;
        world
    }

    async fn unprotect(&mut self) {
        let statement = match self.db {
            Db::Sqlite => {
                "drop trigger event_is_never_deleted; drop trigger event_is_never_changed;
                 drop trigger event_is_never_replaced; drop trigger event_leaves_no_gap; pragma synchronous = off"
            }
            Db::Postgres => {
                "alter table event disable trigger user; set synchronous_commit = off; set client_min_messages = error;
                 do $$ declare r record; begin
                   for r in select conrelid::regclass as t, conname from pg_constraint where contype = 'f' loop
                     execute format('alter table %s drop constraint %I', r.t, r.conname);
                   end loop;
                 end $$"
            }
        };
        self.raw.run(statement).await;
        for table in TABLES {
            self.raw
                .run(&format!(
                    "create table kept_{table} as select * from {table}"
                ))
                .await;
        }
    }

    /// Puts tables back as they were.
    pub async fn restore(&mut self, tables: &[&str]) {
        let mut script = String::from("begin;");
        for table in TABLES.iter().filter(|table| tables.contains(table)) {
            let identity = match self.db {
                Db::Postgres if *table == "event" => "overriding system value",
                _ => "",
            };
            script += &format!(
                "delete from {table}; insert into {table} {identity} select * from kept_{table};"
            );
        }
        self.raw.run(&format!("{script} commit")).await;
    }

    pub fn head(&self) -> u64 {
        self.events.len() as u64
    }

    /// How many events are under the last checkpoint.
    pub fn signed(&self) -> usize {
        usize::try_from(self.checkpoints.last().expect("some").1.size).expect("small")
    }

    pub fn leaf_hashes(&self) -> Vec<Hash> {
        self.events.iter().map(|row| leaf_hash(&row.leaf)).collect()
    }

    pub fn uuid(&self, id: Uuid) -> String {
        match self.db {
            Db::Sqlite => format!("x'{}'", id.simple()),
            Db::Postgres => format!("'{id}'"),
        }
    }

    pub fn maybe(&self, id: Option<Uuid>) -> String {
        id.map_or("null".to_owned(), |id| self.uuid(id))
    }

    pub fn bytes(&self, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self.db {
            Db::Sqlite => format!("x'{hex}'"),
            Db::Postgres => format!("'\\x{hex}'::bytea"),
        }
    }

    pub fn time(&self, at: Timestamp) -> String {
        match self.db {
            Db::Sqlite => at.as_micros().to_string(),
            Db::Postgres => format!("'{at}'"),
        }
    }

    /// Writes the tree over other leaves.
    pub fn tree(&self, hashes: &[Hash]) -> Vec<String> {
        let tiles = append(0, &Tiles::new(), hashes).expect("from the beginning");
        let mut sql = vec!["delete from tile".to_owned()];
        for (id, hashes) in tiles {
            let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
            let (level, index, bytes) = (id.level, id.index, self.bytes(&bytes));
            sql.push(format!(
                "insert into tile (level, place, hashes) values ({level}, {index}, {bytes})"
            ));
        }
        sql
    }

    /// Cuts the trail off as the restore of an old copy does.
    pub fn sql_of_yesterday(&self, left: u64) -> Vec<String> {
        let kept = usize::try_from(left).expect("small");
        let mut sql = self.tree(&self.leaf_hashes()[..kept]);
        let seq = self.db.seq();
        sql.push(format!(
            "delete from event where {seq} > {left} or {seq} is null"
        ));
        sql.push(format!("delete from checkpoint where size > {left}"));
        sql.push(format!("update trail_head set size = {left}"));
        sql
    }

    /// The last event of which this holds.
    pub fn last(&self, is_it: impl Fn(&Value) -> bool) -> Option<u64> {
        let found = self.leaves.iter().rposition(is_it)?;
        Some(found as u64 + 1)
    }
}

pub fn seq(row: &EventRow) -> u64 {
    row.seq.expect("a number").unsigned_abs()
}

pub fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
