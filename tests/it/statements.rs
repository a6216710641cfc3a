//! The statements behind a request. Nobody learns from a signup what is known of an address: the statements, their rows
//! and the answer are the same. A press reads and writes nothing twice; what is forged reads nothing.

use confirmd::clock::Clock;
use confirmd::flow::api_key::Scope;
use confirmd::token::Purpose;

use crate::support::app::{Db, TestApp, both, path, signup};
use crate::support::http::{Response, send};
use crate::support::links::forged;
use crate::support::mail;
use crate::support::out;
use crate::support::serve::{Serve, Statement};

/// What can be known of an address on the list that is signed up for.
const STATES: [&str; 14] = [
    "new",
    "pending",
    "confirmed",
    "declined",
    "held",
    "unsubscribed",
    "objected",
    "erased",
    "attested",
    "undeliverable",
    "lapsed",
    "unproven",
    "withheld",
    "elsewhere",
];

/// Brings an address into a state, by what people do where the flow is there, by SQL where it is not.
async fn bring(app: &TestApp, email: &str, state: &str) {
    let leave = async || {
        let mail = app.subscribe(email, &["weekly"]).await;
        let page = app.open(&mail.confirm()).await;
        app.unsubscribe_links(&page).pop().expect("a way out")
    };
    match state {
        "new" => {}
        "pending" => {
            app.mail_for(email, &["weekly"]).await;
        }
        "confirmed" => {
            app.subscribe(email, &["weekly"]).await;
        }
        "declined" | "held" => {
            let mail = app.mail_for(email, &["weekly"]).await;
            let form = if state == "held" {
                "reason=not_me"
            } else {
                "reason=no"
            };
            assert_eq!(app.press(&mail.decline(), form).await.status, 200);
        }
        "unsubscribed" => {
            let link = leave().await;
            assert_eq!(app.one_click(&link).await.status, 200);
        }
        "withheld" => {
            app.mail_for(email, &["weekly"]).await;
            let second = app.sign_up(email, &["weekly"]).await;
            app.deliver().await;
            assert_eq!(app.outcome(&second).await, "withheld weekly=withheld");
        }
        "elsewhere" => {
            let key = app.make_key("other", &[Scope::Signup]).await;
            let body = signup(email, &["tips"]).to_string();
            out::secret(email);
            let answer = app.post_json("/v1/signups", &key, &[], &body).await;
            assert_eq!(answer.status, 202, "{}", answer.body);
            app.deliver().await;
        }
        "erased" => {
            app.subscribe(email, &["weekly"]).await;
            let person = format!("(select id from subscriber where email = '{email}')");
            let at = match app.db {
                Db::Sqlite => "1",
                Db::Postgres => "now()",
            };
            for statement in [
                format!(
                    "insert into tombstone (subscription, sender, list, identity, erased_at)
                     select s.id, p.sender, s.list, p.identity, {at} from subscription s
                     join subscriber p on p.id = s.subscriber where p.email = '{email}'"
                ),
                format!("delete from subscription where subscriber = {person}"),
                format!("delete from message where subscriber = {person}"),
                format!(
                    "delete from signup_list where signup in (select id from signup where email = '{email}')"
                ),
                format!("delete from signup where subscriber = {person}"),
                format!("delete from subscriber where email = '{email}'"),
            ] {
                assert_eq!(app.execute(&statement).await, Ok(1), "{statement}");
            }
        }
        other => {
            app.subscribe(email, &["weekly"]).await;
            let raise = i64::from(other == "objected");
            let statement = format!(
                "update subscription set state = '{other}', counter = counter + {raise}
                 where subscriber in (select id from subscriber where email = '{email}')"
            );
            assert_eq!(app.execute(&statement).await, Ok(1));
        }
    }
}

/// Statements that are no part of a request: API keys are looked up once a second, queues are measured every ten, SQLite's
/// log is looked at and folded, keys are read where the program begins to hear others, and a new connection sets itself up;
/// and how a transaction begins, and ends where it only read. Everything else that is run meanwhile belongs to the
/// request.
const APART: [&str; 12] = [
    "select id, sender, scopes, hash, created_at, revoked_at from api_key",
    "select\n              (select count(*) from (select due_at from message where state = 'queued'",
    "select size, (select count(*) from (select ord from unnumbered_event",
    "select data_version from pragma_data_version",
    "pragma wal_checkpoint",
    "pragma wal_autocheckpoint",
    "pragma data_version",
    "begin",
    "ROLLBACK",
    "select id, purpose, state, fingerprint, created_at from keyring",
    "SELECT pg_type.oid",
    "PRAGMA ",
];

fn of_the_request(statements: Vec<Statement>) -> Vec<Statement> {
    let apart = |s: &Statement| APART.iter().any(|text| s.text.starts_with(text));
    let statements = statements.into_iter();
    statements.filter(|s| !apart(s)).collect()
}

/// The answer but for the id and the time of day.
fn bytes(answer: &Response) -> (u16, Vec<(String, String)>, usize) {
    let headers = answer.headers.iter().filter(|(name, _)| name != "date");
    (answer.status, headers.cloned().collect(), answer.body.len())
}

both!(a_signup_runs_the_same_statements_whatever_is_known, |db| {
    let mut app = TestApp::start(db).await;
    // The program reads the machine's clock: by that, what is pending, withheld or held must still be so.
    app.pass(Clock::System.now().since(app.clock.now()));
    let address = |state: &str, round: usize| format!("{state}.{round}@example.org");
    for state in STATES {
        for round in 0..2 {
            bring(&app, &address(state, round), state).await;
        }
    }
    app.end().await;
    let mut serve = Serve::start(&app);
    let bearer = format!("Bearer {}", app.key);
    let mut sign_up = async |email: &str| {
        out::secret(email);
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = signup(email, &["weekly"]).to_string();
        let answer = send(serve.addr, "POST", "/v1/signups", &headers, body.as_bytes()).await;
        let statements = of_the_request(serve.statements_until("signup.accepted"));
        (bytes(&answer), statements)
    };
    let expected = sign_up("first.of.all@example.org").await;
    assert_eq!(expected.0.0, 202);
    // Address, subscriber, signup, its list, message, event: a row each; and three parts of evidence.
    let wrote: u64 = expected.1.iter().map(|s| s.wrote).sum();
    if db == Db::Postgres {
        assert_eq!(wrote, 9, "{:#?}", expected.1);
    }
    assert_eq!(
        expected.1.len(),
        7 + usize::from(db == Db::Postgres),
        "{:#?}",
        expected.1
    );
    for round in 0..2 {
        for state in STATES {
            let (answer, statements) = sign_up(&address(state, round)).await;
            assert_eq!(answer, expected.0, "{state}");
            assert_eq!(statements, expected.1, "{state}");
        }
    }
});

/// What each statement does to which table, but for what is nested in it.
fn acts(statements: Vec<Statement>) -> Vec<String> {
    let statements = of_the_request(statements).into_iter();
    // PostgreSQL runs the end of a transaction as a statement of its own.
    let statements = statements.filter(|statement| statement.text != "COMMIT");
    let act = |statement: Statement| {
        let mut depth = 0;
        let outside = statement.text.chars().filter(|char| {
            depth += i32::from(*char == '(') - i32::from(*char == ')');
            depth == 0 && *char != ')'
        });
        let outside: String = outside.collect();
        let words: Vec<_> = outside.split_whitespace().collect();
        let at = words
            .iter()
            .position(|w| ["from", "into", "update"].contains(w));
        format!("{} {}", words[0], at.map_or("", |at| words[at + 1]))
    };
    statements.map(act).collect()
}

both!(
    a_press_reads_and_writes_each_table_once_and_a_forged_link_none,
    |db| {
        let mut app = TestApp::start(db).await;
        // The program reads the machine's clock: its link has to live by that.
        app.pass(Clock::System.now().since(app.clock.now()));
        let mail = app.mail_for("press@example.org", &["weekly"]).await;
        app.end().await;
        let mut serve = Serve::start(&app);
        let addr = serve.addr;
        for purpose in Purpose::ALL {
            for method in ["GET", "HEAD", "POST"] {
                let answer = send(addr, method, &forged(purpose.path()), &[], b"list=all").await;
                let refused = if (purpose, method) == (Purpose::Receipt, "POST") {
                    405
                } else {
                    404
                };
                assert_eq!(answer.status, refused, "{method} {}", purpose.path());
            }
        }
        let confirm = mail.confirm();
        let shown = send(addr, "GET", path(&confirm), &[], b"").await;
        assert_eq!(shown.status, 200, "{}", shown.body);
        let pressed = send(addr, "POST", path(&confirm), &[], b"list=all").await;
        assert_eq!(pressed.status, 200, "{}", pressed.body);
        let read = ["select signup", "select signup_list", "select subscription"];
        let wrote = [
            "insert subscription",
            "update signup_list",
            "update signup",
            "insert event",
            "insert evidence",
        ];
        // The one write lock of SQLite needs no statement; on PostgreSQL mailboxes are wanted, and those locked are not missing.
        let lock = match db {
            Db::Sqlite => &[][..],
            Db::Postgres => &["select wanted"],
        };
        let show = [&read[..], &["select address"]].concat();
        let press = [lock, &["select address"], &read[..], &wrote].concat();
        let ran = acts(serve.statements_until("subscription.confirmed"));
        assert_eq!(ran, [show, press].concat());

        let leave = mail::links(&pressed.body, "/u/").pop().expect("a way out");
        let form = b"List-Unsubscribe=One-Click";
        assert_eq!(
            send(addr, "POST", path(&leave), &[], form).await.status,
            200
        );
        let ran = acts(serve.statements_until("subscription.unsubscribed"));
        let leaving = ["select subscription", "insert subscription", "insert event"];
        assert_eq!(ran, [lock, &leaving].concat());
    }
);
