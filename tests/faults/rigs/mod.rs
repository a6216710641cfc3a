//! One file for each way in which things go wrong.

pub mod clock;
pub mod database;
pub mod frozen;
pub mod fsync;
pub mod kill;
pub mod network;
pub mod points;
pub mod power;
pub mod replicas;
pub mod tarpit;
pub mod term;

use std::sync::Arc;

use tokio::task::yield_now;

use crate::plan::Plan;
use crate::support::chance::Chance;
use crate::support::peer::Point;
use crate::world::World;

/// A rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rig {
    Kill,
    Replicas,
    Points,
    Power,
    Term,
    Frozen,
    Fsync,
    Database,
    Clock,
    Network,
    Tarpit,
}

impl Rig {
    pub const ALL: [Rig; 11] = [
        Rig::Kill,
        Rig::Replicas,
        Rig::Points,
        Rig::Power,
        Rig::Term,
        Rig::Frozen,
        Rig::Fsync,
        Rig::Database,
        Rig::Clock,
        Rig::Network,
        Rig::Tarpit,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Rig::Kill => "kill",
            Rig::Replicas => "replicas",
            Rig::Points => "points",
            Rig::Power => "power",
            Rig::Term => "term",
            Rig::Frozen => "frozen",
            Rig::Fsync => "fsync",
            Rig::Database => "database",
            Rig::Clock => "clock",
            Rig::Network => "network",
            Rig::Tarpit => "tarpit",
        }
    }

    /// What it does, for the table.
    pub fn says(self) -> &'static str {
        match self {
            Rig::Kill => "`kill -9` anywhere, under load",
            Rig::Replicas => "`kill -9` of one replica of three, under load",
            Rig::Points => "`kill -9` at each step from claim to publish",
            Rig::Power => "power cut: the filesystem drops what was not synced",
            Rig::Term => "SIGTERM under load; rolling restart of three replicas",
            Rig::Frozen => "a replica stopped past its lease, and let go",
            Rig::Fsync => "a sync that fails with EIO",
            Rig::Database => "PostgreSQL ends sessions, crashes, takes no writes",
            Rig::Clock => "the wall clock steps by an hour",
            Rig::Network => "the way to the relay loses, resets, swallows",
            Rig::Tarpit => "recipient domains, or a relay, that never answer",
        }
    }

    /// Tells whether no other may run beside it: PostgreSQL is shared.
    pub fn is_alone(self) -> bool {
        self == Rig::Database
    }

    /// Cycles of the short and of the long set.
    pub fn cycles(self, long: bool) -> usize {
        let (short, all) = match self {
            Rig::Kill => (5, 500),
            Rig::Replicas => (4, 500),
            Rig::Points => (1, 20),
            Rig::Power => (4, 200),
            Rig::Term => (2, 100),
            Rig::Frozen => (1, 5),
            Rig::Fsync => (2, 50),
            Rig::Database => (3, 30),
            Rig::Clock => (2, 20),
            Rig::Network => (3, 30),
            // Its verdict is a ratio of times, which is no test.
            Rig::Tarpit => (0, 5),
        };
        if long { all } else { short }
    }

    pub async fn run(self, plan: &Arc<Plan>) {
        match self {
            Rig::Kill => kill::run(plan).await,
            Rig::Replicas => replicas::run(plan).await,
            Rig::Points => points::run(plan).await,
            Rig::Power => power::run(plan).await,
            Rig::Term => term::run(plan).await,
            Rig::Frozen => frozen::run(plan).await,
            Rig::Fsync => fsync::run(plan).await,
            Rig::Database => database::run(plan).await,
            Rig::Clock => clock::run(plan).await,
            Rig::Network => network::run(plan).await,
            Rig::Tarpit => tarpit::run(plan).await,
        }
    }
}

/// Cycles that one home goes through: a small database keeps them quick.
pub const HOME: usize = 50;
/// People of one cycle.
pub const PART: usize = 40;

/// Splits cycles into those of one home each.
pub fn homes(cycles: usize) -> impl Iterator<Item = usize> {
    (0..cycles.div_ceil(HOME)).map(move |home| HOME.min(cycles - home * HOME))
}

/// Lets the people of a cycle sign up, and returns somewhere among them: at a point of the dialogue where mails stand and
/// wait, or anywhere.
pub async fn load(world: &World, chance: &mut Chance, cycle: usize, point: Option<Point>) {
    let after = cycle * PART + 1 + chance.below(PART / 2);
    world.allow(after);
    world.accepted(after).await;
    // One that is killed again and again before it has sent a mail would only grow a queue.
    world.backlog(PART).await;
    if let Some(point) = point {
        world.peer.hold(point);
    }
    world.allow((cycle + 1) * PART);
    let more = chance.below(PART / 2 - 8);
    match point {
        Some(_) => {
            let mails = 1 + chance.below(2);
            let stand = world
                .peer
                .until("mails at the held point", |seen| seen.waiting >= mails);
            stand.await;
        }
        None => {
            world.accepted(after + more).await;
            for _ in 0..chance.below(64) {
                yield_now().await;
            }
        }
    }
}

/// Chooses where a kill hits: anywhere in most cycles, else while mails stand at a point, most often at the dot.
pub fn choose(chance: &mut Chance) -> Option<Point> {
    match chance.below(10) {
        0..=1 => Some(Point::Dot),
        2 => Some(Point::Mail),
        3 => Some(Point::Data),
        _ => None,
    }
}
