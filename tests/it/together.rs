//! Requests that come together: one transaction leaves what each would have left alone.

use std::sync::Arc;

use confirmd::domain::address::Address;
use confirmd::domain::consent::{Action, Consent, Hash, Network};
use confirmd::domain::delivery::{About, Answer, Attempt};
use confirmd::domain::id::{SignupId, SubscriptionId};
use confirmd::domain::list::ConfirmBy;
use confirmd::domain::pepper::Keyed;
use confirmd::domain::signup::Decline;
use confirmd::flow::confirm::{self, Choice, confirm};
use confirmd::flow::decline::{self, Wish, decline};
use confirmd::flow::job::Job;
use confirmd::flow::settle::{self, settle};
use confirmd::flow::signup::{Outcome, Request, sign_up};
use confirmd::flow::unsubscribe::{self, How, unsubscribe};
use confirmd::flow::{Flows, start};
use confirmd::store::{Error, Tx};
use confirmd::token::KeyId;
use serde_json::json;

use crate::delivery::claims::claimed;
use crate::support::app::{Db, LISTS, TestApp, both};

/// What JSON, SQL and the separators of either could take for something else.
const ODD: &str = "a\"b\\c'd\n\te {} [] , null \u{1F600} é \u{7f}";

both!(requests_leave_together_what_they_leave_alone, |db| {
    let mut alone = Vec::new();
    for at_once in [1, 2, 4] {
        let app = TestApp::with(db, LISTS, "").await;
        let signups = live(&app, at_once).await;
        let rows = rows(&app, &signups).await;
        match at_once {
            1 => alone = rows,
            _ => assert_eq!(rows.join("\n"), alone.join("\n"), "{at_once} at once"),
        }
    }
    assert!(alone.len() > 40, "{alone:#?}");
});

/// Runs a flow over requests, so many in a transaction.
async fn pass<I: Clone, O>(
    app: &TestApp,
    at_once: usize,
    requests: Vec<I>,
    flow: impl AsyncFn(Arc<Flows>, Tx, Arc<[I]>) -> Result<Vec<O>, Error>,
) -> Vec<O> {
    let mut outcomes = Vec::new();
    for batch in requests.chunks(at_once) {
        let tx = app.flows.pool.begin().await.expect("a transaction");
        let done = flow(app.flows.clone(), tx, batch.into()).await;
        outcomes.extend(done.expect("a commit"));
    }
    assert_eq!(outcomes.len(), requests.len());
    outcomes
}

/// Takes four people through every hot flow: two with all that a request can bring, two with nothing of it.
async fn live(app: &TestApp, at_once: usize) -> Vec<SignupId> {
    let people = ["anna", "bert", "cora", "dirk"];
    let requests = people.iter().enumerate();
    let requests = requests.map(|(n, name)| request(app, name, n)).collect();
    let signups: Vec<SignupId> = pass(app, at_once, requests, sign_up)
        .await
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Accepted(id) => id,
            Outcome::KeyReused => panic!("nobody used that key"),
        })
        .collect();

    let mut jobs = Vec::new();
    while jobs.len() < people.len() {
        let most = i64::try_from(at_once).expect("a few");
        jobs.extend(claimed(app, most).await.jobs);
    }
    let starts = jobs.chunks(at_once);
    for batch in starts {
        let go = start::start(app.flows.clone(), batch).await;
        assert_eq!(go.expect("a read"), vec![true; batch.len()]);
    }
    let place = |job: &Arc<Job>| {
        signups
            .iter()
            .position(|id| job.message.signup == Some(*id))
    };
    jobs.sort_by_key(place);
    let now = app.flows.clock.now();
    let results = jobs.into_iter().enumerate();
    let results = results.map(|(n, job)| Arc::new(result(job, n).plan(now)));
    pass(app, at_once, results.collect(), settle).await;

    let presses = signups.iter().enumerate();
    let presses = presses.map(|(n, signup)| confirm::Press {
        signup: *signup,
        choice: Choice::All,
        by: ConfirmBy::Button,
        key: KeyId([7; 4]),
        network: network(n),
    });
    let confirmed = presses.take(2).collect();
    pass(app, at_once, confirmed, confirm).await;
    let presses = signups[2..].iter().map(|signup| decline::Press {
        signup: *signup,
        wish: Wish::Refuse(Decline::NotMe),
    });
    pass(app, at_once, presses.collect(), decline).await;
    let id = match app.db {
        Db::Sqlite => "hex(s.id)",
        Db::Postgres => "cast(s.id as text)",
    };
    let joined = format!(
        "select {id} from subscription s join subscriber p on p.id = s.subscriber
        order by p.email, s.list"
    );
    let joined = app.sql(&joined).await.into_iter();
    let presses = joined.map(|id| unsubscribe::Press {
        subscription: SubscriptionId(id.parse().expect("an id")),
        how: How::OneClick,
    });
    pass(app, at_once, presses.collect(), unsubscribe).await;
    signups
}

/// Every other person brings all that may be left out.
fn brings_all(n: usize) -> bool {
    n.is_multiple_of(2)
}

fn network(n: usize) -> Network {
    let given = |text: &str| brings_all(n).then(|| text.to_owned());
    Network {
        ip: given("192.0.2.7"),
        user_agent: given(ODD),
    }
}

fn request(app: &TestApp, name: &str, n: usize) -> Request {
    let in_force = app.flows.in_force();
    let lists: &[&str] = if brings_all(n) {
        &["weekly", "offers"]
    } else {
        &["weekly"]
    };
    let about = |id: &&str| {
        let list = id.parse().expect("a list");
        let facts = in_force.catalog.list(&list).expect("it is in force").hash;
        About { list, facts }
    };
    let given = |text: &str| brings_all(n).then(|| text.to_owned());
    Request {
        sender: "acme".parse().expect("a sender"),
        email: Address::parse(&format!("{name}@example.org")).expect("an address"),
        lists: lists.iter().map(about).collect(),
        locale: if brings_all(n) { "nl" } else { "en" }
            .parse()
            .expect("a language"),
        consent: Consent {
            first_at: None,
            action: Action::Checkbox,
            source: "https://acme.example/news".to_owned(),
            text_sha256: brings_all(n).then(|| Hash::of(b"words")),
            at: brings_all(n).then(|| app.flows.clock.now()),
            challenge: given(ODD),
        },
        network: network(n),
        reference: given(ODD),
        attributes: brings_all(n).then(|| json!({ "plan": ODD })),
        redirect: given("https://acme.example/thanks"),
        idempotency: brings_all(n).then_some((Keyed([n as u8; 16]), Keyed([255; 16]))),
        again_of: None,
    }
}

/// Taken with an answer, taken without one, put off, refused.
fn result(job: Arc<Job>, n: usize) -> settle::Result {
    let answer = Answer {
        phase: "dot".to_owned(),
        cause: "reply".to_owned(),
        code: brings_all(n).then_some(250),
        enhanced: brings_all(n).then(|| "2.0.0".to_owned()),
    };
    settle::Result {
        job,
        attempt: [
            Attempt::Sent,
            Attempt::Sent,
            Attempt::Deferred,
            Attempt::Failed,
        ][n],
        answer: (n != 1).then_some(answer),
        proof: None,
        again: false,
    }
}

/// All that is stored of these people but ids and what is random.
async fn rows(app: &TestApp, signups: &[SignupId]) -> Vec<String> {
    const OF: &str = "join subscriber p on p.id = t.subscriber";
    const READ: [(&str, &str, &str); 8] = [
        ("subscriber", "", "sender email locale created_at"),
        (
            "signup",
            "",
            "sender email locale state created_at expires_at ended_at consent ref attributes redirect again_of",
        ),
        (
            "signup_list",
            "join signup p on p.id = t.signup",
            "p.email t.list t.state t.reason t.counter t.decided_at",
        ),
        (
            "subscription",
            OF,
            "p.email t.list t.state t.basis t.since t.counter t.revision t.locale t.restricted_at",
        ),
        (
            "message",
            OF,
            "p.email t.kind t.state t.sender t.lists t.created_at t.attempts t.ambiguous t.claims t.lost
            t.lease_until t.outcome t.settled_at",
        ),
        ("event", OF, "p.email t.type t.time t.sender t.list"),
        ("evidence", OF, "p.email t.part t.body t.kept_at"),
        ("idempotency", "", "created_at"),
    ];
    let mut rows = Vec::new();
    for (table, joined, columns) in READ {
        let columns = columns.split_whitespace();
        let columns = columns.map(|column| format!("coalesce(cast({column} as text), '-')"));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let query = format!("select concat_ws('|', '{table}', {columns}) from {table} t {joined}");
        rows.extend(app.sql(&query).await);
    }
    // A page that was pressed on names its signup.
    for (n, id) in signups.iter().enumerate() {
        let id = id.to_string();
        rows.iter_mut()
            .for_each(|row| *row = row.replace(&id, &format!("signup {n}")));
    }
    rows.sort();
    rows
}
