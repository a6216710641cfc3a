//! Every cell of the state table (states.md), against the function that decides it and, where people press, through HTTP.

use std::time::Duration;

use confirmd::domain::eligibility::{Standing, eligible};
use confirmd::domain::signup::{self, ListState, refuse};
use confirmd::domain::subscription::{
    Move, State, Step, makes_older_signups_ineffective as raises, step,
};

use crate::support::app::{TestApp, both};
use crate::support::mail::Mail;

/// One row: from where, whether eligible, and the cell of each column by its name.
struct Row {
    from: Option<State>,
    eligible: bool,
    cells: Vec<(String, String)>,
}

impl Row {
    fn cell(&self, column: &str) -> &str {
        let cell = self.cells.iter().find(|(name, _)| name == column);
        &cell.unwrap_or_else(|| panic!("no column {column}")).1
    }
}

fn table() -> Vec<Row> {
    let lines = include_str!("states.md").lines();
    let mut lines = lines.filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let split = |line: &str| -> Vec<String> {
        let cells = line
            .split('|')
            .map(|cell| cell.trim().replace(['*', '`'], ""));
        cells.collect()
    };
    let head = split(lines.next().expect("a head"));
    let rows = lines.skip(1).map(|line| {
        let cells = split(line);
        assert_eq!(cells.len(), head.len(), "{line}");
        let name = cells[0].split(' ').next().unwrap_or_default();
        let from = State::from_name(name);
        assert!(from.is_some() || name == "none", "{name} is no state");
        Row {
            from,
            eligible: cells[1] == "yes",
            cells: head.iter().cloned().zip(cells).skip(2).collect(),
        }
    });
    rows.collect()
}

/// What a cell says, and what it says of consent that was given before the subscription lapsed.
fn read(cell: &str) -> (Step, Step) {
    let (word, condition) = cell.split_once(", ").unwrap_or((cell, ""));
    let word = word.split(" (").next().unwrap_or_default();
    let step = match word {
        "" => Step::Impossible,
        "same" => Step::Same,
        "refused" => Step::Refused,
        state => Step::To(State::from_name(state).unwrap_or_else(|| panic!("{cell}"))),
    };
    match condition {
        "if given after the lapse" => (step, Step::Refused),
        "" | "no event" | "that list" => (step, step),
        _ => panic!("{cell}"),
    }
}

#[test]
fn every_cell_is_what_the_code_decides() {
    let table = table();
    let from: Vec<_> = table.iter().map(|row| row.from).collect();
    let every: Vec<_> = std::iter::once(None).chain(State::ALL.map(Some)).collect();
    assert_eq!(from, every, "a state is missing or stands elsewhere");
    let mut cells = 0;
    for row in &table {
        for (column, cell) in &row.cells {
            let moves = match column.as_str() {
                "confirm" => [Move::Confirm; 2],
                "attested consent" => [true, false].map(|after_lapse| Move::Attest { after_lapse }),
                "import without evidence" => [Move::Import; 2],
                "unsubscribe" => [Move::Unsubscribe; 2],
                "objection, complaint about a newsletter" => [Move::Object; 2],
                "hard bounce" => [Move::HardBounce; 2],
                "lapse" => [Move::Lapse; 2],
                other => panic!("no move is called {other}"),
            };
            let decided = (step(row.from, moves[0]), step(row.from, moves[1]));
            assert_eq!(decided, read(cell), "{:?}, {column}", row.from);
            cells += 1;
        }
        let standing = Standing {
            state: row.from,
            restricted: false,
            needs_renewal: false,
            list_closed: false,
            restored: false,
        };
        assert_eq!(eligible(standing).is_ok(), row.eligible, "{:?}", row.from);
        // A mark beside the state, or a closed list, makes every state ineligible.
        for marked in [
            Standing {
                restricted: true,
                ..standing
            },
            Standing {
                needs_renewal: true,
                ..standing
            },
            Standing {
                list_closed: true,
                ..standing
            },
            Standing {
                restored: true,
                ..standing
            },
        ] {
            assert!(eligible(marked).is_err(), "{marked:?}");
        }
    }
    assert_eq!(cells, 8 * 7);
}

#[test]
fn leaving_and_objecting_raise_the_counter_and_nothing_else_does() {
    let raising: Vec<_> = State::ALL.into_iter().filter(|to| raises(*to)).collect();
    assert_eq!(raising, [State::Unsubscribed, State::Objected]);
}

#[test]
fn a_no_ends_what_is_confirmed_whatever_became_of_its_own_signup() {
    for list in ListState::ALL {
        for subscription in std::iter::once(None).chain(State::ALL.map(Some)) {
            let refused = refuse(signup::Standing {
                list,
                expires: None,
                counter_then: 0,
                counter_now: 1,
                subscription,
                renews: false,
            });
            let waits = matches!(list, ListState::Open | ListState::Undeliverable);
            let by_it = matches!(list, ListState::Confirmed | ListState::AlreadyConfirmed);
            let leaves = match subscription {
                _ if list == ListState::Erased => false,
                Some(State::Confirmed | State::Attested) => true,
                Some(State::Undeliverable | State::Lapsed | State::Unproven) => by_it,
                Some(State::Unsubscribed | State::Objected) | None => false,
            };
            let expected = (waits, leaves);
            assert_eq!(
                (refused.declines, refused.leaves),
                expected,
                "{list:?}, {subscription:?}"
            );
        }
    }
}

/// A subscription in a planted state, whose counter is 5, with a live confirm link and its unsubscribe link.
struct Planted {
    email: String,
    confirm: String,
    unsubscribe: String,
}

async fn plant(app: &TestApp, email: &str, state: State) -> Planted {
    let first = app.mail_for(email, &["weekly"]).await;
    app.pass(Duration::from_secs(601));
    let second: Mail = app.mail_for(email, &["weekly"]).await;
    assert_ne!(first.confirm(), second.confirm());
    app.press(&first.confirm(), "list=weekly").await;
    let page = app.open(&first.confirm()).await;
    let unsubscribe = app.unsubscribe_links(&page).pop().expect("a way out");
    let person = format!("select id from subscriber where email = '{email}'");
    let state = state.as_str();
    for (statement, rows) in [
        (
            format!(
                "update subscription set state = '{state}', counter = 5 where subscriber in ({person})"
            ),
            1,
        ),
        (
            format!(
                "update signup_list set counter = 5 where signup in (select id from signup where subscriber in ({person}))"
            ),
            2,
        ),
    ] {
        assert_eq!(app.execute(&statement).await, Ok(rows));
    }
    Planted {
        email: email.to_owned(),
        confirm: second.confirm(),
        unsubscribe,
    }
}

/// State and counter, as in `confirmd 5`.
async fn standing(app: &TestApp, email: &str) -> String {
    let query = format!(
        "select s.state || ' ' || s.counter from subscription s join subscriber p on p.id = s.subscriber where p.email = '{email}'"
    );
    app.sql(&query)
        .await
        .pop()
        .unwrap_or_else(|| "none".to_owned())
}

/// What a press does is what the cell says: a state, a counter, and one event of its name or none.
async fn press(app: &TestApp, row: &Row, column: &str, planted: &Planted) {
    let (link, form) = match column {
        "confirm" => (&planted.confirm, "list=weekly"),
        _ => (&planted.unsubscribe, "by=page"),
    };
    let what = format!("{:?}, {column}", row.from);
    let known = app.events().await.len();
    let page = app.press(link, form).await;
    assert_eq!(page.status, 200, "{what}: {}", page.body);
    let events = app.events().await.split_off(known);
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    let counter = row.from.map_or(0, |_| 5);
    match read(row.cell(column)).0 {
        Step::To(to) => {
            let counter = counter + i32::from(raises(to));
            let expected = format!("{} {counter}", to.as_str());
            assert_eq!(standing(app, &planted.email).await, expected, "{what}");
            assert_eq!(kinds, [format!("subscription.{}", to.as_str())], "{what}");
            let event = &events[0];
            assert_eq!(
                (&event["list"], &event["sender"]),
                (&"weekly".into(), &"acme".into())
            );
        }
        Step::Same => {
            let from = row.from.expect("a row").as_str();
            assert_eq!(
                standing(app, &planted.email).await,
                format!("{from} {counter}"),
                "{what}"
            );
            assert!(kinds.is_empty(), "{what}: {kinds:?}");
        }
        other => panic!("{what}: nobody can press for {other:?}"),
    }
    // A repeat of either is a friendly page and no event.
    let (rows, known) = (
        standing(app, &planted.email).await,
        app.events().await.len(),
    );
    let page = app.press(link, form).await;
    assert_eq!(page.status, 200, "{what}: {}", page.body);
    assert_eq!(standing(app, &planted.email).await, rows, "{what}, again");
    assert_eq!(app.events().await.len(), known, "{what}, again");
}

both!(pressing_does_what_the_table_says, |db| {
    let app = TestApp::start(db).await;
    for row in table() {
        let Some(state) = row.from else {
            // Nobody has a link out of a list that they never were on.
            let mail = app.mail_for("none@example.org", &["weekly"]).await;
            let planted = Planted {
                email: "none@example.org".to_owned(),
                confirm: mail.confirm(),
                unsubscribe: String::new(),
            };
            assert_eq!(standing(&app, &planted.email).await, "none");
            press(&app, &row, "confirm", &planted).await;
            continue;
        };
        for column in ["confirm", "unsubscribe"] {
            let email = format!("{}.{column}@example.org", state.as_str());
            let planted = plant(&app, &email, state).await;
            press(&app, &row, column, &planted).await;
        }
    }
});
