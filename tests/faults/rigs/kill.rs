//! `kill -9` of the one daemon on a SQLite file, anywhere.

use super::{PART, choose, homes, load};
use crate::plan::Plan;
use crate::support::app::Db;
use crate::support::chance::Chance;
use crate::support::peer::Point;
use crate::world::World;

/// What a control does at each kill.
pub const HASTY: &str = "what was claimed is called sent, and a mail that was sent waits again, as if written by a daemon \
                         that settles before it sends";

pub async fn run(plan: &Plan) {
    let mut chance = Chance(plan.seed);
    for cycles in homes(plan.cycles) {
        home(plan, &mut chance, cycles, None).await;
    }
    home(plan, &mut chance, 2, Some(HASTY)).await;
}

async fn home(plan: &Plan, chance: &mut Chance, cycles: usize, control: Option<&str>) {
    let people = PART * (cycles + 1);
    let mut world = World::open(Db::Sqlite, &std::env::temp_dir(), people, "").await;
    if control.is_some() {
        world.first().await;
    }
    for cycle in 0..cycles {
        let mut serving = world.serve().await;
        let point = match control {
            None => choose(chance),
            Some(_) => Some(Point::Mail),
        };
        load(&world, chance, cycle, point).await;
        serving.daemon.kill9();
        world.driver.at.send_replace(None);
        world.cut(&fault(point), &serving).await;
        if control.is_some() {
            world.plant().await;
        }
    }
    let _serving = world.serve().await;
    plan.record(world.close(plan, control).await);
}

/// Names a kill by where it hit.
pub fn fault(point: Option<Point>) -> String {
    match point {
        None => "kill -9 anywhere".to_owned(),
        Some(point) => format!("kill -9 while mails stand at {point:?}"),
    }
}
