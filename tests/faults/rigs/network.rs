//! The way to the relay loses three packets in ten, resets connections, or swallows everything.

use super::kill::HASTY;
use super::{PART, homes, load};
use crate::net::{Net, OURS, THEIRS};
use crate::plan::Plan;
use crate::support::app::Db;
use crate::support::chance::Chance;
use crate::support::sql::execute;
use crate::world::World;

/// Mails that were neither sent nor put off.
const UNTRIED: &str =
    "select count(*) from message where state = 'claimed' or (state = 'queued' and attempts = 0)";
const PUT_OFF: &str = "select count(*) from event where type = 'message.deferred'";

/// What the network does.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Loss,
    Reset,
    Hole,
}

pub async fn run(plan: &Plan) {
    let mut chance = Chance(plan.seed);
    let net = Net::new();
    for cycles in homes(plan.cycles) {
        home(plan, &mut chance, &net, cycles, None).await;
    }
    home(plan, &mut chance, &net, 1, Some(HASTY)).await;
}

async fn home(plan: &Plan, chance: &mut Chance, net: &Net, cycles: usize, control: Option<&str>) {
    let people = PART * (cycles + 1);
    let mut world = World::open(Db::Sqlite, &std::env::temp_dir(), people, "").await;
    world.first().await;
    world.home.set("SMTP__HOST", OURS);
    world.home.set("SMTP__ALLOW_PLAINTEXT", "true");
    world.home.set("SERVER__LISTEN", &format!("{THEIRS}:0"));
    world.home.set("OPS__LISTEN", &format!("{THEIRS}:0"));
    // Short ones: what is swallowed is waited for as long.
    for phase in ["CONNECT", "GREETING", "HELLO", "MAIL", "RCPT"] {
        world.home.set(&format!("SMTP__TIMEOUTS__{phase}"), "3 s");
    }
    world.home.wrapper = net.wrapper();
    let port = world.peer.addr().port();
    let serving = world.serve().await;
    for cycle in 0..cycles {
        let fault = [Fault::Loss, Fault::Reset, Fault::Hole][cycle % 3];
        load(&world, chance, cycle, None).await;
        world.note(fault.says(), Default::default());
        let before = world.home.count(PUT_OFF).await;
        fault.strike(net, port);
        world.accepted((cycle + 1) * PART).await;
        let tried = async |world: &World| match fault {
            Fault::Loss => world.home.count(UNTRIED).await == 0,
            Fault::Reset | Fault::Hole => {
                let none_left = world.home.count(UNTRIED).await == 0;
                none_left || world.home.count(PUT_OFF).await > before
            }
        };
        world.until("the fault was felt", tried).await;
        if net.heal() == 0 {
            world.blame("the fault hit no packet");
        }
        if control.is_some() {
            world.plant().await;
        }
        world
            .until("every mail was tried", async |world: &World| {
                world.home.count(UNTRIED).await == 0
            })
            .await;
        // A mail that was put off need not wait its minutes.
        let now = "update message set due_at = created_at where state = 'queued' and ambiguous = 0";
        execute(&world.home.url, now).await.expect("it runs");
        world.settled().await;
    }
    plan.record(world.close(plan, control).await);
    drop(serving);
}

impl Fault {
    fn says(self) -> &'static str {
        match self {
            Fault::Loss => "30 % of packets lost",
            Fault::Reset => "connections reset",
            Fault::Hole => "everything swallowed",
        }
    }

    fn strike(self, net: &Net, port: u16) {
        let (to, from) = (format!("tcp dport {port}"), format!("tcp sport {port}"));
        let (here, there) = match self {
            Fault::Loss => {
                let lost = "numgen random mod 100 < 30 counter drop";
                (lost, Some(lost))
            }
            Fault::Reset => (
                "numgen random mod 100 < 20 counter reject with tcp reset",
                None,
            ),
            Fault::Hole => ("counter drop", Some("counter drop")),
        };
        net.rule("in", &format!("{to} {here}"));
        if let Some(there) = there {
            net.rule("out", &format!("{from} {there}"));
        }
    }
}
