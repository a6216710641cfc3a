//! Mails leave, or do not: what becomes of a mail, its signup and its lists for everything that a relay can do.

mod again;
pub mod claims;
mod peer_table;
mod quarantine;
mod relays;

use std::time::Duration;

use confirmd::domain::time::Timestamp;
use serde_json::Value;

use crate::support::app::{Db, TestApp};

/// SMTP timeouts of a second.
pub const QUICK: &str = r#"
[smtp.timeouts]
connect = "1 s"
greeting = "1 s"
hello = "1 s"
mail = "1 s"
rcpt = "1 s"
data = "1 s"
body = "1 s"
dot = "1 s"
[delivery]
lease_margin = "1 s"
"#;

const MINUTE: Duration = Duration::from_secs(60);

/// An id as SQL writes it.
fn literal(db: Db, id: &str) -> String {
    match db {
        Db::Sqlite => format!("x'{}'", id.replace('-', "")),
        Db::Postgres => format!("'{id}'"),
    }
}

/// The mails of a signup: state, attempts, and how many of these are ambiguous.
async fn message(app: &TestApp, signup: &str) -> String {
    let id = literal(app.db, signup);
    let columns = "state || ' ' || cast(attempts as text) || ' ' || cast(ambiguous as text)";
    let rows = app
        .sql(&format!(
            "select {columns} from message where signup = {id}"
        ))
        .await;
    rows.join(", ")
}

/// The last event of a signup.
async fn last_event(app: &TestApp, signup: &str) -> Value {
    let mut events = app.events().await;
    events.retain(|event| event["signup"] == signup);
    events.pop().expect("an event")
}

/// The types of the events of a signup.
async fn kinds(app: &TestApp, signup: &str) -> Vec<String> {
    let events = app.events().await;
    let of = events.iter().filter(|event| event["signup"] == signup);
    of.map(|event| event["type"].as_str().expect("a type").to_owned())
        .collect()
}

/// An event's time of the next attempt.
fn next(event: &Value) -> Timestamp {
    Timestamp::parse(event["next"].as_str().expect("a next attempt")).expect("an instant")
}

/// The value of a metric; 0 while it has none.
async fn metric(app: &TestApp, name: &str) -> u64 {
    let text = app.metrics().await;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.map_or(0, |value| value.trim().parse().expect("a number"))
}
