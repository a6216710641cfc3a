//! SIGTERM under load, and a rolling restart of three replicas.

use super::replicas::REPLICAS;
use super::{PART, homes, load};
use crate::line::Line;
use crate::plan::Plan;
use crate::support::app::Db;
use crate::support::chance::Chance;
use crate::support::peer::Point;
use crate::world::{Serving, World};

const IMPATIENT: &str = "a second signal at once, which cuts what runs";

pub async fn run(plan: &Plan) {
    let mut chance = Chance(plan.seed);
    for db in [Db::Sqlite, Db::Postgres] {
        for cycles in homes(plan.cycles) {
            home(plan, &mut chance, db, cycles, None).await;
        }
        home(plan, &mut chance, db, 2, Some(IMPATIENT)).await;
    }
    rolling(plan, &mut chance, plan.cycles.div_ceil(4)).await;
}

async fn home(plan: &Plan, chance: &mut Chance, db: Db, cycles: usize, control: Option<&str>) {
    let people = PART * (cycles + 1);
    let mut world = World::open(db, &std::env::temp_dir(), people, "").await;
    for cycle in 0..cycles {
        let mut serving = world.serve().await;
        // A stop in three finds mails at their dots.
        let stands = control.is_some() || chance.below(3) == 0;
        let point = stands.then_some(Point::Dot);
        load(&world, chance, cycle, point).await;
        let fault = match point {
            None => "SIGTERM",
            Some(_) => "SIGTERM while mails stand at Dot",
        };
        stop(&mut world, &mut serving, fault, control.is_some()).await;
    }
    let _serving = world.serve().await;
    let lines = world.close(plan, control).await;
    plan.record(judged(lines));
}

/// Stops each of three replicas in turn, again and again; the load goes to the others and comes back.
async fn rolling(plan: &Plan, chance: &mut Chance, rounds: usize) {
    let people = PART * (rounds * REPLICAS + 1);
    let mut world = World::open(Db::Postgres, &std::env::temp_dir(), people, "").await;
    world.alone = false;
    let mut serving: Vec<Serving> = Vec::new();
    for _ in 0..REPLICAS {
        serving.push(world.serve().await);
    }
    for cycle in 0..rounds * REPLICAS {
        load(&world, chance, cycle, None).await;
        let mut oldest = serving.remove(0);
        world.driver.at.send_replace(Some(serving[0].daemon.addr));
        let fault = "SIGTERM, one of three replicas";
        stop(&mut world, &mut oldest, fault, false).await;
        serving.push(world.serve().await);
    }
    let lines = world.close(plan, None).await;
    plan.record(judged(lines));
}

/// Stops a daemon, once or twice, waits for its end within its deadline, and notes what it left.
async fn stop(world: &mut World, serving: &mut Serving, fault: &str, twice: bool) {
    serving.daemon.term();
    let stopping = "stopping: no new work, finishing what runs";
    serving.daemon.message(stopping).await;
    // A balancer that asks for readiness sends nobody there any more.
    let addr = serving.daemon.addr;
    world
        .driver
        .at
        .send_if_modified(|at| at.take_if(|at| *at == addr).is_some());
    if twice {
        serving.daemon.int();
    } else {
        world.peer.release();
    }
    // It is asked again within a time that is longer than its own deadline.
    let code = serving.daemon.wait().await.code();
    let ended = serving.daemon.message("stopped").await["ended"].clone();
    world.cut(fault, serving).await;
    if code != Some(0) {
        world.blame(format!("exit code {code:?}"));
    }
    if ended != "Clean" {
        world.blame(format!("not finished within its deadline: {ended}"));
    }
    let left: usize = world.in_flight().values().sum();
    if left > 0 {
        world.blame(format!("{left} mails were left claimed"));
    }
}

/// After a stop that had its time there is no second copy of anything.
fn judged(mut lines: Vec<Line>) -> Vec<Line> {
    for line in &mut lines {
        if line.duplicates > 0 {
            let copies = line.duplicates;
            line.faults_seen
                .push(format!("{copies} second copies after a stop"));
        }
    }
    lines
}
