//! `kill -9` at each step from claim to publish. The program has no failpoints: it is stopped from outside, by a relay that
//! does not answer, by a lock that somebody else holds, by a program that takes its time, or by SIGSTOP, and killed there.
//!
//! A part of a text in flight is no point of its own: a mail is one write of some kilobytes, and from outside it was done
//! or not done.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::kill::HASTY;
use crate::line::Phase;
use crate::plan::Plan;
use crate::support::app::Db;
use crate::support::peer::{Act, Moment, Point};
use crate::support::sql::Raw;
use crate::world::{Serving, World};

/// Mails of one cycle: one at the point, the others behind it.
const MAILS: usize = 3;
/// Homes at a time: most of a cycle on PostgreSQL is waiting for the end of a lease.
const TOGETHER: usize = 4;
/// One session, one mail a connection, commands one by one: each step is a step of its own.
const SETTINGS: &str = r#"
[smtp]
sessions = 1
messages_per_connection = 1
"#;
/// Gives a checkpoint away when it may; says before that it was asked to.
const PUBLISH: &str =
    r#"asker=$PPID; echo asked >>asked; flock gate true; kill -0 "$asker" && cat >>published"#;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Accepted,
    Claimed,
    Greeting,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Text,
    Dot,
    Written,
    Read,
    Settled,
    Sequenced,
    Signed,
}

const ALL: [At; 14] = [
    At::Accepted,
    At::Claimed,
    At::Greeting,
    At::Ehlo,
    At::Mail,
    At::Rcpt,
    At::Data,
    At::Text,
    At::Dot,
    At::Written,
    At::Read,
    At::Settled,
    At::Sequenced,
    At::Signed,
];

impl At {
    fn says(self) -> &'static str {
        match self {
            At::Accepted => "before the claim's commit",
            At::Claimed => "claimed, in line for a session",
            At::Greeting => "before the greeting",
            At::Ehlo => "before the answer to EHLO",
            At::Mail => "before the answer to MAIL",
            At::Rcpt => "before the answer to RCPT",
            At::Data => "before the answer to DATA",
            At::Text => "354 there, text not sent",
            At::Dot => "dot sent, no answer",
            At::Written => "250 written, not read",
            At::Read => "250 read, not settled",
            At::Settled => "settled, not sequenced",
            At::Sequenced => "sequenced, not signed",
            At::Signed => "checkpoint kept, not published",
        }
    }

    /// Tells whether what was in flight shows that the kill hit this step.
    fn is_hit(self, in_flight: &BTreeMap<Phase, usize>) -> bool {
        let least = |phase| in_flight.contains_key(&phase);
        match self {
            At::Claimed | At::Greeting | At::Ehlo | At::Mail => {
                least(Phase::Claimed) && in_flight.len() == 1
            }
            At::Rcpt | At::Data => {
                least(Phase::BeforeDot) && !in_flight.keys().any(|phase| phase.may_duplicate())
            }
            // The peer may still wait for the text when it is asked.
            At::Text => least(Phase::Dot) || least(Phase::BeforeDot),
            At::Dot => least(Phase::Dot),
            At::Written | At::Read => least(Phase::Replied),
            At::Accepted | At::Settled | At::Sequenced | At::Signed => in_flight.is_empty(),
        }
    }

    /// Where the relay waits, for the steps that are its own.
    fn point(self) -> Option<Point> {
        match self {
            At::Greeting => Some(Point::Greeting),
            At::Ehlo => Some(Point::Ehlo),
            At::Claimed | At::Mail => Some(Point::Mail),
            At::Rcpt => Some(Point::Rcpt),
            At::Data | At::Text => Some(Point::Data),
            At::Dot | At::Written | At::Read => Some(Point::Dot),
            At::Accepted | At::Settled | At::Sequenced | At::Signed => None,
        }
    }
}

pub async fn run(plan: &Arc<Plan>) {
    let turns = Arc::new(Semaphore::new(TOGETHER));
    let both = [Db::Sqlite, Db::Postgres];
    let homes = ALL.into_iter().flat_map(|at| both.map(|db| (at, db, None)));
    let controls = both.map(|db| (At::Rcpt, db, Some(HASTY)));
    let mut running = JoinSet::new();
    for (at, db, control) in homes.chain(controls) {
        let (turns, plan) = (turns.clone(), plan.clone());
        running.spawn_local(async move {
            let _turn = turns.acquire_owned().await.expect("open");
            home(&plan, at, db, control).await;
        });
    }
    running.join_all().await;
}

async fn home(plan: &Plan, at: At, db: Db, control: Option<&str>) {
    let cycles = if control.is_some() { 1 } else { plan.cycles };
    // Two steps are met by chance, and so not by every kill.
    let kills = match at {
        At::Accepted | At::Sequenced => 4 * cycles + 8,
        _ => cycles,
    };
    let publish = format!("[trail]\ncommand = ['sh', '-c', '{PUBLISH}']\n");
    let settings = match at {
        At::Signed => format!("{SETTINGS}{publish}"),
        _ => SETTINGS.to_owned(),
    };
    let folder = std::env::temp_dir();
    let mut world = World::open(db, &folder, MAILS * kills, &settings).await;
    world.peer.offer(&["SIZE 10485760", "8BITMIME"]);
    if control.is_some() {
        world.first().await;
    }
    let gate = File::create(world.home.dir.path().join("gate")).expect("a file");
    let (mut heir, mut hits) = (None, 0);
    for kill in 0..kills {
        let people = MAILS * (kill + 1);
        let fault = match at {
            At::Signed => signed(&mut world, heir.take(), people, &gate).await,
            _ => step(&mut world, at, heir.take(), people, kill).await,
        };
        let is_hit = fault == at.says();
        if !is_hit && kills == cycles {
            world.blame("the kill missed its step");
        }
        hits += usize::from(is_hit);
        if control.is_some() {
            world.plant().await;
        }
        let next = world.serve().await;
        world.settled().await;
        if at == At::Signed {
            let newest = newest_checkpoint(&world).await;
            let is_out = async |world: &World| published(world).contains(&newest);
            world
                .until("the kept checkpoint is published", is_out)
                .await;
        }
        heir = Some(next);
        if hits == cycles {
            break;
        }
    }
    if hits < cycles {
        world.blame(format!("{hits} of {cycles} kills hit: {}", at.says()));
    }
    plan.record(world.close(plan, control).await);
}

/// Brings a daemon to a step and kills it there; returns what the kill hit.
async fn step(
    world: &mut World,
    at: At,
    heir: Option<Serving>,
    people: usize,
    kill: usize,
) -> &'static str {
    let db = world.home.db;
    let without_sequencer = at == At::Settled && db == Db::Sqlite;
    let mut serving = match heir {
        Some(mut heir) if without_sequencer => {
            heir.daemon.term();
            assert_eq!(heir.daemon.wait().await.code(), Some(0));
            world.home.set("ROLES__SEQUENCE", "false");
            world.serve().await
        }
        Some(heir) => heir,
        None => {
            world.home.set(
                "ROLES__SEQUENCE",
                if without_sequencer { "false" } else { "true" },
            );
            world.serve().await
        }
    };
    let mut lock = None;
    if at == At::Settled && db == Db::Postgres {
        lock = Some(held(world, "begin; select size from trail_head for update").await);
    }
    if let Some(point) = at.point() {
        world.peer.hold(point);
    }
    world.allow(people);
    match at {
        At::Accepted => world.accepted(people - MAILS + 1).await,
        At::Claimed | At::Settled | At::Sequenced => world.accepted(people).await,
        _ => {}
    }
    if at.point().is_some() {
        let stands = world
            .peer
            .until("a mail at the point", |seen| seen.waiting >= 1);
        stands.await;
    }
    match at {
        At::Claimed => {
            let all = "select count(*) from message where state = 'claimed'";
            world.home.until("all claimed", all, MAILS).await;
        }
        At::Text => {
            serving.freeze();
            world.peer.release();
            let gone_on = async |world: &World| world.stand_at(&serving, Point::Body) == 1;
            world.until("354 is written", gone_on).await;
        }
        At::Dot if kill % 2 == 1 => {
            // The relay has the text and loses it: a mail that must come once more.
            let lose = |moment: &Moment<'_>| (moment.point == Point::Dot).then_some(Act::Close);
            world.peer.script(lose);
        }
        At::Written => {
            let before = world.peer.seen(|seen| seen.answered.len());
            serving.freeze();
            world.peer.release();
            let written = world
                .peer
                .until("a 250", |seen| seen.answered.len() > before);
            written.await;
        }
        At::Read => {
            let before = world.peer.seen(|seen| seen.count("QUIT"));
            lock = Some(match db {
                Db::Sqlite => held(world, "begin immediate").await,
                Db::Postgres => held(world, "begin; select id from message for update").await,
            });
            world.peer.release();
            // What follows the 250 on the same connection.
            let read = world
                .peer
                .until("a QUIT", |seen| seen.count("QUIT") > before);
            read.await;
        }
        At::Settled | At::Sequenced => {
            let sent = "select count(*) from message where state = 'sent'";
            world.home.until("all sent", sent, people).await;
        }
        _ => {}
    }
    if at == At::Sequenced {
        world.settled().await;
    }
    serving.daemon.kill9();
    world.driver.at.send_replace(None);
    if let Some(mut lock) = lock {
        lock.run("rollback").await;
    }
    world.cut(at.says(), &serving).await;
    world.peer.script(|_| None);
    world.home.set("ROLES__SEQUENCE", "true");
    let nought = match at {
        At::Accepted => "select 'x' from message where state = 'queued' and claims = 0",
        At::Settled => "select 'x' from unnumbered_event where type = 'message.sent'",
        At::Sequenced => {
            "select 'x' from trail_head where size > (select coalesce(max(size), 0) from checkpoint)"
        }
        _ => "select 'x' from trail_head",
    };
    let is_hit = at.is_hit(&world.in_flight()) && !world.left_rows(nought).await.is_empty();
    let fault = if is_hit {
        at.says()
    } else {
        "kill -9 elsewhere"
    };
    world.rename(fault);
    fault
}

/// Kills a daemon that asks a program to publish a checkpoint, while the program waits.
async fn signed(
    world: &mut World,
    heir: Option<Serving>,
    people: usize,
    gate: &File,
) -> &'static str {
    // What stops signs all that there is, and has no time to publish it.
    let mut before = match heir {
        Some(heir) => heir,
        None => world.serve().await,
    };
    world.allow(people);
    world.accepted(people).await;
    world.settled().await;
    before.daemon.term();
    assert_eq!(before.daemon.wait().await.code(), Some(0));
    let newest = newest_checkpoint(world).await;
    gate.lock().expect("nobody else holds it for long");
    let asked = asked(world);
    let mut serving = world.serve().await;
    let again = async |world: &World| self::asked(world) > asked;
    world.until("a program is asked to publish", again).await;
    let was_out = published(world).contains(&newest);
    serving.daemon.kill9();
    world.driver.at.send_replace(None);
    gate.unlock().expect("held");
    world.cut(At::Signed.says(), &serving).await;
    let is_hit = !was_out && At::Signed.is_hit(&world.in_flight());
    let fault = if is_hit {
        At::Signed.says()
    } else {
        "kill -9 elsewhere"
    };
    world.rename(fault);
    fault
}

async fn held(world: &World, lock: &str) -> Raw {
    let mut raw = Raw::open(&world.home.url).await;
    raw.run(lock).await;
    raw
}

async fn newest_checkpoint(world: &World) -> String {
    let newest =
        "select note from checkpoint order by epoch desc, size desc, signed_at desc limit 1";
    let notes = world.home.sql(newest).await;
    notes.into_iter().next().expect("a checkpoint")
}

fn asked(world: &World) -> usize {
    let asked = std::fs::read_to_string(world.home.dir.path().join("asked"));
    asked.unwrap_or_default().lines().count()
}

fn published(world: &World) -> String {
    let published = std::fs::read_to_string(world.home.dir.path().join("published"));
    published.unwrap_or_default()
}
