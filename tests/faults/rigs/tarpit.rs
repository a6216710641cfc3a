//! A recipient domain, or a relay, that never answers: mails that have nothing to do with it come as soon as before.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::line::name;
use crate::plan::Plan;
use crate::support::app::{Db, LISTS};
use crate::support::daemon::{Daemon, Home};
use crate::support::peer::{Act, Peer, Point};

const MAILS: usize = 40;
/// Mails that hang before the first of them: more than are ever claimed at once.
const STUCK: usize = 350;
/// Before each so many, one more hangs: enough for the percentile, where it costs the next one its whole timeout.
const ONE_IN: usize = 10;
/// A mail that waits for the tarpit's timeout shows in the ratio.
const TIMEOUTS: &str = "[smtp.timeouts]\nrcpt = \"5 s\"\n[delivery]\nlease_margin = \"5 s\"\n";
const ONE_SESSION: &str = "one session for all domains";

/// Where nothing answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tarpit {
    Domains,
    Relay,
}

pub async fn run(plan: &Plan) {
    for _ in 0..plan.cycles {
        for db in [Db::Sqlite, Db::Postgres] {
            tarpit(plan, db, Tarpit::Domains, None).await;
            tarpit(plan, db, Tarpit::Relay, None).await;
        }
    }
    for db in [Db::Sqlite, Db::Postgres] {
        tarpit(plan, db, Tarpit::Domains, Some(ONE_SESSION)).await;
    }
}

async fn tarpit(plan: &Plan, db: Db, where_: Tarpit, control: Option<&str>) {
    let (peer, slow) = (Peer::start().await, Peer::start().await);
    let silent = |moment: &crate::support::peer::Moment<'_>| {
        let stuck = moment.recipient.is_some_and(|to| to.starts_with("stuck"));
        (stuck && moment.point == Point::Rcpt).then_some(Act::Silence)
    };
    peer.script(silent);
    slow.script(silent);
    let (sessions, at_once) = match control {
        Some(_) => (1, 0),
        None => (8, STUCK),
    };
    let (ip, port) = (slow.addr().ip(), slow.addr().port());
    let settings = format!(
        "[smtp]\nsessions = {sessions}\n{TIMEOUTS}[relays.slow]\nhost = \"{ip}\"\nport = {port}\ntls = \"none\"\n"
    );
    let home = Home::new(db, peer.addr(), &settings);
    let lists = LISTS.replace("[senders.other]", "[senders.other]\nrelays = [\"slow\"]");
    home.write(&lists, &settings);
    let acme = home.key("acme", "signup").await;
    let other = home.key("other", "signup").await;
    let mut daemon = home.start().await;
    let (key, list) = match where_ {
        Tarpit::Domains => (&acme, "weekly"),
        Tarpit::Relay => (&other, "tips"),
    };
    let hang = async |i: usize| {
        let email = format!("stuck-{i}@domain-{}.example", i % 50);
        let answer = daemon.sign_up(key, &email, &[list]).await;
        assert_eq!(answer.status, 202);
    };
    let before = quick(&daemon, &peer, &acme, "before", async |_| {}).await;
    for i in 0..at_once {
        hang(i).await;
    }
    let during = quick(&daemon, &peer, &acme, "during", async |i| {
        if i % ONE_IN == 0 {
            hang(at_once + i).await;
        }
    })
    .await;
    daemon.kill9();
    let mut line = plan.line(name(db), control);
    line.fault = match where_ {
        Tarpit::Domains => "50 domains that never answer",
        Tarpit::Relay => "a relay that never answers",
    }
    .to_owned();
    line.accepted = 2 * MAILS;
    line.rows = home.count("select count(*) from signup").await - at_once - MAILS / ONE_IN;
    let (mails, people) = peer.seen(|seen| {
        let to = seen.mails.iter().map(|mail| mail.envelope_to.concat());
        (seen.mails.len(), to.collect::<BTreeSet<_>>().len())
    });
    (line.mailed, line.unexplained) = (people, mails - people);
    line.lost = line.accepted.saturating_sub(line.rows.min(line.mailed));
    line.slower = Some(during / before);
    line.integrity = "ok".to_owned();
    plan.record(vec![line]);
}

/// Sends mails to a domain that answers, one after the other; returns the 95th percentile of their seconds.
async fn quick(
    daemon: &Daemon,
    peer: &Peer,
    key: &str,
    who: &str,
    before_each: impl AsyncFn(usize),
) -> f64 {
    let mut took = Vec::with_capacity(MAILS);
    for i in 0..MAILS {
        before_each(i).await;
        let mails = peer.seen(|seen| seen.mails.len());
        let began = Instant::now();
        let email = format!("{who}-{i}@quick.example");
        let answer = daemon.sign_up(key, &email, &["weekly"]).await;
        assert_eq!(answer.status, 202);
        peer.wait_for(mails + 1).await;
        took.push(began.elapsed().as_secs_f64());
    }
    took.sort_by(f64::total_cmp);
    took[MAILS * 95 / 100]
}
