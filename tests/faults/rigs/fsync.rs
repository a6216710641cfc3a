//! A disk that fails a sync once: the program says so and ends, and what it had answered is there.

use super::kill::HASTY;
use super::{PART, homes};
use crate::plan::Plan;
use crate::support::app::Db;
use crate::support::chance::Chance;
use crate::support::peer::Point;
use crate::world::{PATIENCE, World};

/// Syncs of the thread that writes, up to which a start needs none to fail.
const START: usize = 12;
/// The exit code of a service that ended because something broke.
const BROKE: i32 = 3;

pub async fn run(plan: &Plan) {
    let mut chance = Chance(plan.seed);
    for cycles in homes(plan.cycles) {
        home(plan, &mut chance, cycles, None).await;
    }
    home(plan, &mut chance, 1, Some(HASTY)).await;
}

async fn home(plan: &Plan, chance: &mut Chance, cycles: usize, control: Option<&str>) {
    let people = PART * (cycles + 1);
    let mut world = World::open(Db::Sqlite, &std::env::temp_dir(), people, "").await;
    world.first().await;
    for cycle in 0..cycles {
        let at = START + chance.below(30);
        let inject = format!("inject=fdatasync:error=EIO:when={at}");
        let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e"];
        let words = strace.into_iter().chain([inject.as_str()]);
        world.home.wrapper = words.map(str::to_owned).collect();
        let mut serving = world.serve().await;
        if control.is_some() {
            world.peer.hold(Point::Mail);
        }
        // One after the other, so that there are syncs enough.
        for person in cycle * PART..(cycle + 1) * PART {
            world.allow(person + 1);
            let over = async |world: &World| {
                let ended = serving.daemon.child.try_wait().expect("it can be asked");
                ended.is_some() || *world.driver.accepted.borrow() > person
            };
            world.until("it has answered or ended", over).await;
        }
        let status = serving.daemon.ended(PATIENCE).await;
        world.driver.at.send_replace(None);
        world
            .cut(&format!("EIO at a sync ({at} of its thread)"), &serving)
            .await;
        world.rename("EIO at a sync");
        if status.code() != Some(BROKE) {
            world.blame(format!("it ended with {status}"));
        }
        if control.is_some() {
            world.plant().await;
        }
    }
    world.home.wrapper.clear();
    let _serving = world.serve().await;
    plan.record(world.close(plan, control).await);
}
