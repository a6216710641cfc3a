//! Power cuts under a SQLite file: the filesystem drops whatever was not synced.
//!
//! Every thread of the program stands still a moment before: a sync that is under way when the filesystem is shut down may
//! return as if it had been done (Linux 6.18: 49 of 300 did), and a machine without power answers nobody after that.

use super::{HOME, PART, homes, load};
use crate::disk::Disk;
use crate::plan::Plan;
use crate::support::app::Db;
use crate::support::chance::Chance;
use crate::world::World;

/// Which syncs are not done, though the program believes they were.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    All,
    /// Those of the write-ahead log, which is what `synchronous = NORMAL` leaves out at a commit. The program itself reads
    /// the setting back and refuses to work with it.
    Log,
}

impl Lie {
    fn says(self) -> &'static str {
        match self {
            Lie::All => "fsync and fdatasync return without doing anything (strace injection)",
            Lie::Log => {
                "as with `synchronous = NORMAL`, a commit does not sync the log (strace injection)"
            }
        }
    }
}

/// How a program is run whose syncs are not done.
const INJECT: [&str; 9] = [
    "strace",
    "-D",
    "-f",
    "-qq",
    "--seccomp-bpf",
    "-o",
    "/dev/null",
    "-e",
    "inject=fdatasync,fsync:retval=0",
];

pub async fn run(plan: &Plan) {
    let mut chance = Chance(plan.seed);
    for cycles in homes(plan.cycles) {
        home(plan, &mut chance, cycles).await;
    }
    let controls = plan.cycles.div_ceil(10).min(HOME);
    for _ in 0..controls {
        lying(plan, &mut chance, Lie::All).await;
        lying(plan, &mut chance, Lie::Log).await;
    }
}

async fn home(plan: &Plan, chance: &mut Chance, cycles: usize) {
    let disk = Disk::new(128);
    let people = PART * (cycles + 1);
    let mut world = World::open(Db::Sqlite, &disk.path(), people, "").await;
    for cycle in 0..cycles {
        let mut serving = world.serve().await;
        load(&world, chance, cycle, None).await;
        serving.freeze();
        disk.cut();
        serving.end();
        world.driver.at.send_replace(None);
        disk.restore();
        world.cut("power cut", &serving).await;
        if let Some(broken) = world.broken(plan, None) {
            return plan.record(vec![broken]);
        }
    }
    let serving = world.serve().await;
    plan.record(world.close(plan, None).await);
    drop(serving);
}

/// One cut under a program whose syncs are a lie: what it had answered is gone.
async fn lying(plan: &Plan, chance: &mut Chance, lie: Lie) {
    let disk = Disk::new(128);
    let mut world = World::open(Db::Sqlite, &disk.path(), PART, "").await;
    // The database is there, and honestly so.
    let mut serving = world.serve().await;
    serving.daemon.term();
    assert_eq!(serving.daemon.wait().await.code(), Some(0));
    world.home.wrapper = INJECT.map(str::to_owned).to_vec();
    if lie == Lie::Log {
        let log = world.home.dir.path().join("confirmd.db-wal");
        let only = ["-P".to_owned(), log.display().to_string()];
        world.home.wrapper.extend(only);
    }
    let mut serving = world.serve().await;
    load(&world, chance, 0, None).await;
    // Its syncs are a lie in any case, and what strace holds never stands still by itself.
    serving.stop();
    disk.cut();
    serving.end();
    world.driver.at.send_replace(None);
    disk.restore();
    world.cut("power cut", &serving).await;
    // A file that was folded from a log that never came to the disk is one of the things to be seen.
    if let Some(broken) = world.broken(plan, Some(lie.says())) {
        return plan.record(vec![broken]);
    }
    world.home.wrapper.clear();
    let serving = world.serve().await;
    plan.record(world.close(plan, Some(lie.says())).await);
    drop(serving);
}
