//! `kill -9` of one replica of three on one PostgreSQL.

use super::kill::{HASTY, fault};
use super::{PART, choose, homes, load};
use crate::plan::Plan;
use crate::support::app::Db;
use crate::support::chance::Chance;
use crate::support::peer::Point;
use crate::world::{Serving, World};

pub const REPLICAS: usize = 3;

pub async fn run(plan: &Plan) {
    let mut chance = Chance(plan.seed);
    for cycles in homes(plan.cycles) {
        home(plan, &mut chance, cycles, None).await;
    }
    home(plan, &mut chance, 2, Some(HASTY)).await;
}

async fn home(plan: &Plan, chance: &mut Chance, cycles: usize, control: Option<&str>) {
    let people = PART * (cycles + 1);
    let mut world = World::open(Db::Postgres, &std::env::temp_dir(), people, "").await;
    if control.is_some() {
        world.first().await;
    }
    world.alone = false;
    let mut serving: Vec<Serving> = Vec::new();
    for _ in 0..REPLICAS {
        serving.push(world.serve().await);
    }
    for cycle in 0..cycles {
        let point = match control {
            None => choose(chance),
            Some(_) => Some(Point::Mail),
        };
        load(&world, chance, cycle, point).await;
        // One that has mails at the point, when there is one.
        let mut those: Vec<usize> = (0..REPLICAS).collect();
        if let Some(point) = point {
            those.retain(|replica| world.stand_at(&serving[*replica], point) > 0);
        }
        let those = those[chance.below(those.len())];
        let mut dead = serving.swap_remove(those);
        dead.daemon.kill9();
        world.driver.at.send_replace(Some(serving[0].daemon.addr));
        world.cut(&fault(point), &dead).await;
        if control.is_some() {
            world.plant().await;
        }
        serving.push(world.serve().await);
    }
    plan.record(world.close(plan, control).await);
}
