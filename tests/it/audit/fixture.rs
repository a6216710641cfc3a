//! A trail to verify: people who did everything that people do, checkpoints, an outside copy.

use std::path::PathBuf;
use std::time::Duration;

use confirmd::background::copies::Copies;
use confirmd::background::sequence::Sequencer;
use confirmd::domain::consent::Network;
use confirmd::domain::id::SignupId;
use confirmd::domain::list::ConfirmBy;
use confirmd::domain::signup::Decline;
use confirmd::flow::api_key::Scope;
use confirmd::flow::audit::report::{Checks, Report};
use confirmd::flow::audit::trusted::Trusted;
use confirmd::flow::audit::{Subject, verify};
use confirmd::flow::confirm::{self, Choice};
use confirmd::flow::decline::{self, Wish};
use confirmd::flow::unsubscribe::{self, How};
use confirmd::store::Tx;

use crate::support::app::{Db, LISTS, TestApp, signup};
use crate::support::out;
use crate::support::peer::{Act, Point};

/// The name that checkpoints carry, without the epoch.
pub const ORIGIN: &str = "lists.acme.example/confirmd";
const HOUR: Duration = Duration::from_secs(3600);

pub fn copy(app: &TestApp) -> PathBuf {
    app.dir.path().join("checkpoints")
}

/// Numbers what happened, signs it and copies the checkpoint outside.
pub async fn sign(app: &TestApp) {
    let sequencer = Sequencer::new(app.flows.clone(), Some(Copies::new(copy(app))));
    sequencer.finish().await.expect("the database works");
}

pub async fn trusted(app: &TestApp) -> Trusted {
    let dir = app.dir.path().join("keys");
    let trusted = Trusted::registered(&app.flows.pool, &dir, ORIGIN.to_owned());
    trusted.await.expect("the key files are here")
}

/// Verifies everything.
pub async fn verified(app: &TestApp) -> Report {
    with(app, Checks::default(), &trusted(app).await).await
}

/// Verifies with some checks and keys.
pub async fn with(app: &TestApp, checks: Checks, trusted: &Trusted) -> Report {
    let copy = copy(app);
    let subject = Subject {
        pool: &app.flows.pool,
        origin: ORIGIN,
        trusted,
        copy: Some(&copy),
    };
    let report = verify(&subject, checks, None, &mut |_| {}).await;
    report.expect("it can be looked at")
}

/// Some 150 events a round by all flows, signed in two checkpoints a round, and a few that nothing was signed over.
pub async fn trail(db: Db, rounds: usize) -> TestApp {
    let settings = "[smtp.timeouts]\ndot = \"2 s\"\n[evidence]\nip = \"prefix\"";
    let app = TestApp::with(db, LISTS, settings).await;
    // What a mail meets, its recipient says.
    app.peer.script(|moment| {
        let to = moment.recipient.unwrap_or_default();
        match moment.point {
            Point::Rcpt if to.starts_with("nobody") => Some(Act::reply("550 5.1.1 no")),
            Point::Rcpt if to.starts_with("later") => Some(Act::reply("451 4.7.1 later")),
            Point::Dot if to.starts_with("perhaps") => Some(Act::Kept(Box::new(Act::Close))),
            _ => None,
        }
    });
    let other = app.make_key("other", &[Scope::Signup]).await;
    for round in 0..rounds {
        live(&app, round, &other).await;
        for _ in 0..3 {
            app.make_key("acme", &[Scope::Signup]).await;
        }
        sign(&app).await;
    }
    app.sign_up("unsigned@example.org", &["weekly"]).await;
    app.sequence().await;
    app.sign_up("unnumbered@example.org", &["weekly"]).await;
    app
}

async fn live(app: &TestApp, round: usize, other: &str) {
    let name = |what: &str, n: usize| format!("{what}.{round}.{n}@example.org");
    let both = &["weekly", "offers"][..];
    let mut asked = Vec::new();
    for n in 0..24 {
        let lists = if n % 3 == 0 { both } else { &both[..1] };
        asked.push(app.sign_up(&name("yes", n), lists).await);
    }
    for (what, count) in [("silent", 3), ("nobody", 2), ("later", 2), ("perhaps", 1)] {
        for n in 0..count {
            app.sign_up(&name(what, n), both).await;
        }
    }
    let email = name("tips", 0);
    out::secret(&email);
    let body = signup(&email, &["tips"]).to_string();
    app.post_json("/v1/signups", other, &[], &body).await;
    app.deliver().await;
    app.pass(Duration::from_secs(60));
    // Again within ten minutes: withheld.
    app.sign_up(&name("silent", 0), &["weekly"]).await;
    app.deliver().await;

    let ids: Vec<SignupId> = asked.iter().map(|id| id.parse().expect("an id")).collect();
    let (yes, no) = ids.split_at(20);
    press(app, yes).await;
    for (n, how) in [Decline::No, Decline::NotMe, Decline::OneClick]
        .into_iter()
        .enumerate()
    {
        refuse(app, no[n], how).await;
    }
    // "No" after yes ends what was confirmed.
    refuse(app, yes[0], Decline::No).await;
    decline(app, no[1], Wish::LiftHold).await;
    sign(app).await;
    app.pass(HOUR);
    leave(app, &yes[1..7], How::Page).await;
    leave(app, &yes[7..10], How::OneClick).await;
    // Again, when all is confirmed, and when it was left.
    for n in [1, 2, 12, 13, 14] {
        app.sign_up(&name("yes", n), both).await;
    }
    app.deliver().await;
    app.pass(49 * HOUR);
    leave(app, &yes[1..3], How::OneClick).await;
    app.deliver().await;
    app.pass(150 * HOUR);
    app.deliver().await;
    app.sweep().await;
}

async fn begun(app: &TestApp) -> Tx {
    app.flows.pool.begin().await.expect("the database works")
}

async fn press(app: &TestApp, ids: &[SignupId]) {
    let press = |id: &SignupId| confirm::Press {
        signup: *id,
        choice: Choice::All,
        by: ConfirmBy::Button,
        key: app.flows.keys().links.signing(),
        network: Network {
            ip: Some("192.0.2.0/24".to_owned()),
            user_agent: None,
        },
    };
    let presses = ids.iter().map(press).collect();
    let done = confirm::confirm(app.flows.clone(), begun(app).await, presses).await;
    let done = done.expect("the database works");
    assert!(done.iter().all(|outcome| !outcome.confirmed.is_empty()));
}

async fn refuse(app: &TestApp, id: SignupId, how: Decline) {
    decline(app, id, Wish::Refuse(how)).await;
}

async fn decline(app: &TestApp, signup: SignupId, wish: Wish) {
    let press = decline::Press { signup, wish };
    let done = decline::decline(app.flows.clone(), begun(app).await, [press].into()).await;
    done.expect("the database works");
}

async fn leave(app: &TestApp, ids: &[SignupId], how: How) {
    let mut tx = app.flows.pool.read().await.expect("the database works");
    let signups = tx.signups(ids).await.expect("the database works");
    let people: Vec<_> = signups.iter().map(|signup| signup.subscriber).collect();
    let all = tx
        .subscriptions_of(&people)
        .await
        .expect("the database works");
    drop(tx);
    let press = |subscription| unsubscribe::Press { subscription, how };
    let presses = all.iter().map(|s| press(s.id)).collect();
    let done = unsubscribe::unsubscribe(app.flows.clone(), begun(app).await, presses).await;
    done.expect("the database works");
}
