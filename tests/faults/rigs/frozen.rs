//! A replica that is stopped past its lease, while another does its work, and that then goes on.

use std::collections::BTreeMap;

use crate::line::Phase;
use crate::plan::Plan;
use crate::support::app::Db;
use crate::support::peer::Point;
use crate::support::sql;
use crate::world::{Serving, World};

const MAILS: usize = 3;
const UNFENCED: &str =
    "a late result counts: the mail waits again, as if nobody looked at the claim";

/// Where it is stopped, whether the relay takes commands together, and how far its mails are then.
const STOPS: [(Point, bool, Phase); 4] = [
    (Point::Dot, true, Phase::Dot),
    (Point::Dot, false, Phase::Dot),
    (Point::Rcpt, false, Phase::BeforeDot),
    // DATA went out with the recipient: no look at the claim comes after it.
    (Point::Rcpt, true, Phase::Dot),
];

pub async fn run(plan: &Plan) {
    for _ in 0..plan.cycles {
        for (point, together, phase) in STOPS {
            frozen(plan, point, together, phase, None).await;
        }
    }
    let (point, together, phase) = STOPS[0];
    frozen(plan, point, together, phase, Some(UNFENCED)).await;
}

async fn frozen(plan: &Plan, point: Point, together: bool, phase: Phase, control: Option<&str>) {
    let mut world = World::open(Db::Postgres, &std::env::temp_dir(), MAILS, "").await;
    if !together {
        world.peer.offer(&["SIZE 10485760", "8BITMIME"]);
    }
    world.peer.hold(point);
    let frozen = world.serve().await;
    world.allow(MAILS);
    let all = world
        .peer
        .until("mails at the point", |seen| seen.waiting == MAILS);
    all.await;
    freeze(&world, &frozen).await;
    let (claims, _) = world.left().await;
    let in_flight: BTreeMap<String, Phase> = claims
        .into_iter()
        .map(|(_, email)| (email, phase))
        .collect();
    let how = if together { ", commands together" } else { "" };
    world.note(
        format!("stopped past its lease at {point:?}{how}"),
        in_flight,
    );
    world.peer.release();

    let heir = world.serve().await;
    world.settled().await;
    frozen.thaw();
    world
        .until("it is done with its mails", async |world| {
            let late = frozen.daemon.count("late result: the claim had ended");
            // Or it saw, before it let the relay have them, that its claims had ended.
            let stopped = world.peer.seen(|seen| seen.count("RSET"));
            late + stopped == MAILS
        })
        .await;
    if control.is_some() {
        let again = "update message set state = 'queued' where state = 'sent'";
        sql::execute(&world.home.url, again).await.expect("it runs");
        world.settled().await;
    }
    for mut daemon in [frozen.daemon, heir.daemon] {
        daemon.term();
        assert_eq!(daemon.wait().await.code(), Some(0));
    }
    plan.record(world.close(plan, control).await);
}

/// Stops a replica where it holds no lock of the database: one that does keeps the others waiting until the server ends its
/// session, after `idle_in_transaction_session_timeout`.
async fn freeze(world: &World, replica: &Serving) {
    let busy = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'confirmd' and xact_start is not null";
    let stopped = async |world: &World| {
        replica.freeze();
        let is_free = world.home.count(busy).await == 0;
        if !is_free {
            replica.thaw();
        }
        is_free
    };
    world.until("it holds no lock", stopped).await;
}
