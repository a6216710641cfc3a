//! PostgreSQL goes away under a running service: its sessions are ended, it crashes, it takes no writes.

use sqlx::{Connection as _, PgConnection};

use super::kill::HASTY;
use super::{PART, homes, load};
use crate::plan::Plan;
use crate::support::app::Db;
use crate::support::chance::Chance;
use crate::support::sql::{Raw, execute};
use crate::world::{Serving, World};

const END: &str = "select pg_terminate_backend(pid)::text from pg_stat_activity
    where datname = current_database() and application_name = 'confirmd'";

/// What the server does.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Ended,
    Crash,
    ReadOnly,
}

pub async fn run(plan: &Plan) {
    let mut chance = Chance(plan.seed);
    for cycles in homes(plan.cycles) {
        home(plan, &mut chance, cycles, None).await;
    }
    home(plan, &mut chance, 1, Some(HASTY)).await;
}

async fn home(plan: &Plan, chance: &mut Chance, cycles: usize, control: Option<&str>) {
    let people = PART * (cycles + 1);
    let mut world = World::open(Db::Postgres, &std::env::temp_dir(), people, "").await;
    world.first().await;
    let serving = world.serve().await;
    for cycle in 0..cycles {
        load(&world, chance, cycle, None).await;
        let fault = [Fault::Ended, Fault::Crash, Fault::ReadOnly][cycle % 3];
        let (claims, _) = world.left().await;
        world.note_claims(fault.says(), claims);
        fault.strike(&world, &serving).await;
        let ready = async |_: &World| serving.daemon.ops("/readyz").await.status == 200;
        world.until("it is ready again", ready).await;
        if control.is_some() {
            world.plant().await;
        }
    }
    plan.record(world.close(plan, control).await);
    drop(serving);
}

impl Fault {
    fn says(self) -> &'static str {
        match self {
            Fault::Ended => "sessions ended",
            Fault::Crash => "server crash and recovery",
            Fault::ReadOnly => "read-only, then not",
        }
    }

    async fn strike(self, world: &World, serving: &Serving) {
        match self {
            Fault::Ended => {
                let ended = world.home.sql(END).await;
                assert!(!ended.is_empty(), "there are sessions to end");
            }
            Fault::Crash => crash(world).await,
            Fault::ReadOnly => {
                read_only(world, "on").await;
                let refuses = async |_: &World| serving.daemon.ops("/readyz").await.status == 503;
                world.until("it says that it is not ready", refuses).await;
                read_only(world, "off").await;
            }
        }
    }
}

/// Kills the server's process of a session of our own: the server ends all others, and recovers from its log.
async fn crash(world: &World) {
    let mut session = Raw::open(&world.home.url).await;
    let name = "set application_name = 'confirmd-faults'";
    session.run(name).await;
    let its = "select pid::text from pg_stat_activity where application_name = 'confirmd-faults'";
    let its = world.home.sql(its).await;
    let its: i32 = its[0].parse().expect("a number");
    #[expect(unsafe_code, reason = "the standard library signals children only")]
    // SAFETY: kill touches no memory; the session is open, so that the number is that of its process.
    let killed = unsafe { libc::kill(its, libc::SIGKILL) };
    assert_eq!(killed, 0, "the session's process");
    let back = async |world: &World| PgConnection::connect(&world.home.url).await.is_ok();
    world.until("the server is back", back).await;
}

async fn read_only(world: &World, to: &str) {
    let url = &world.home.url;
    let name = url.rsplit('/').next().expect("a database");
    let set = format!(
        "begin read write; alter database {name} set default_transaction_read_only = {to}; commit"
    );
    execute(url, &set).await.expect("its owner may");
    world.home.sql(END).await;
}
