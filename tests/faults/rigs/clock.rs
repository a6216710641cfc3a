//! The wall clock steps by an hour under load, forwards and backwards; what measures time goes on evenly.

use std::path::PathBuf;

use confirmd::clock::Clock;

use super::kill::HASTY;
use super::{PART, homes, load};
use crate::plan::Plan;
use crate::support::app::Db;
use crate::support::chance::Chance;
use crate::support::peer::Point;
use crate::world::World;

const LIBRARY: &str = "libfaketime.so.1";
const QUEUED: &str = "select count(*) from message where state = 'queued'";
const NEWEST: &str = "select max(created_at) / 1000000 from signup";
const HOUR: i64 = 3600;
const STEPS: [(&str, &str); 2] = [("+3600", "one hour forwards"), ("-3600", "one hour back")];

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
    let shift = world.home.dir.path().join("shift");
    // Put there in one step: it is read at every look at the clock.
    let step = |by: &str| {
        let new = shift.with_extension("new");
        std::fs::write(&new, format!("{by}\n")).expect("a file");
        std::fs::rename(new, &shift).expect("the same folder");
    };
    step("+0");
    world.first().await;
    world.home.wrapper = [
        "env".to_owned(),
        format!("LD_PRELOAD={}", library().display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", shift.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
    ]
    .to_vec();
    let serving = world.serve().await;
    for cycle in 0..cycles {
        let (by, says) = STEPS[cycle % STEPS.len()];
        let forwards = by.starts_with('+');
        load(&world, chance, cycle, forwards.then_some(Point::Dot)).await;
        world.note(says, Default::default());
        step(by);
        if forwards {
            // One more comes in the later hour and is claimed there. What stands at the dot since the hour before is nobody
            // else's: no time has passed.
            let one_more = (cycle + 1) * PART + 1;
            world.allow(one_more);
            world.accepted(one_more).await;
            let later = world.home.count(NEWEST).await as i64 - Clock::System.now().as_seconds();
            if later < HOUR / 2 {
                world.blame(format!("its clock is {later} s later, not an hour"));
            }
            let all_claimed = async |world: &World| world.home.count(QUEUED).await == 0;
            world.until("all are claimed", all_claimed).await;
            world.peer.release();
        }
        // Those who came before the step and those after it have their answers.
        world.accepted((cycle + 1) * PART).await;
        if forwards {
            // What is queued in the later hour is due in that hour.
            world.settled().await;
        }
        step("+0");
        if control.is_some() {
            world.settled().await;
            world.plant().await;
        }
    }
    plan.record(world.close(plan, control).await);
    drop(serving);
}

/// Finds the library, wherever the package puts it for this machine.
pub fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    let mut found = folders.map(|folder| folder.path().join("faketime").join(LIBRARY));
    found
        .find(|path| path.exists())
        .expect("libfaketime: apt-get install libfaketime")
}
