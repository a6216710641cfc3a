//! The trail in words, and where each person stands.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::setup::TIME_ZONE;
use crate::domain::event::{EventKind, Sequenced};
use crate::domain::id::SubscriberId;
use crate::domain::list::ListId;
use crate::domain::signup::ListState;
use crate::domain::subscription::State;
use crate::domain::time::Timestamp;
use crate::store::{Error, Pool};

/// Events that are shown.
const EVENTS: i64 = 200;
/// People that are shown.
const PEOPLE: usize = 8;

/// What the page of the trail shows.
#[derive(Debug, Serialize)]
pub struct Trail {
    /// The time zone of all times.
    pub zone: &'static str,
    /// Who acted last comes first.
    pub people: Vec<Person>,
    /// The newest comes first.
    pub events: Vec<Line>,
}

/// One subscriber.
#[derive(Debug, Serialize)]
pub struct Person {
    email: String,
    lists: Vec<Standing>,
}

/// One subscriber on one list.
#[derive(Debug, Serialize)]
struct Standing {
    list: String,
    state: String,
    tone: Tone,
}

/// One event.
#[derive(Debug, Serialize)]
pub struct Line {
    seq: i64,
    time: String,
    at: String,
    kind: &'static str,
    lists: String,
    says: String,
    tone: Tone,
    ids: Vec<Id>,
}

#[derive(Debug, Serialize)]
struct Id {
    name: &'static str,
    short: String,
    whole: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Tone {
    Good,
    Bad,
    Wait,
    Plain,
}

/// Reads the end of the trail and the people in it.
///
/// # Errors
/// When the database cannot be read.
pub async fn read(pool: &Pool) -> Result<Trail, Error> {
    let mut tx = pool.read().await?;
    let (length, _) = tx.trail_length().await?;
    let mut events = tx
        .events_after((length - EVENTS).max(0), EVENTS, None)
        .await?;
    events.reverse();
    let mut people = Vec::new();
    for id in events.iter().filter_map(|event| event.subscriber) {
        if !people.contains(&id) {
            people.push(id);
        }
    }
    people.truncate(PEOPLE);
    let known = tx.subscribers(&people).await?;
    let subscriptions = tx.subscriptions_of(&people).await?;
    let mut shown = Vec::new();
    for id in people {
        let Some(subscriber) = known.iter().find(|subscriber| subscriber.id == id) else {
            continue;
        };
        // The newest signup speaks for a list, until there is a subscription.
        let mut lists: BTreeMap<ListId, Standing> = BTreeMap::new();
        let signups: Vec<_> = tx
            .signups_of(id)
            .await?
            .iter()
            .map(|signup| signup.id)
            .collect();
        let mut rows = tx.signup_lists(&signups).await?;
        rows.sort_by_key(|row| signups.iter().position(|signup| *signup == row.signup));
        for row in rows {
            let standing = waiting(row.list.as_str(), row.state);
            lists.insert(row.list, standing);
        }
        let own = subscriptions.iter().filter(|s| s.subscriber == id);
        for subscription in own {
            let list = subscription.list.clone();
            let standing = standing(list.as_str(), subscription.state);
            lists.insert(list, standing);
        }
        shown.push(Person {
            email: subscriber.email.clone(),
            lists: lists.into_values().collect(),
        });
    }
    Ok(Trail {
        zone: TIME_ZONE,
        people: shown,
        events: events.iter().map(line).collect(),
    })
}

fn standing(list: &str, state: State) -> Standing {
    let tone = match state {
        State::Confirmed | State::Attested => Tone::Good,
        _ => Tone::Bad,
    };
    Standing {
        list: list.to_owned(),
        state: state.as_str().to_owned(),
        tone,
    }
}

fn waiting(list: &str, state: ListState) -> Standing {
    let (state, tone) = match state {
        ListState::Open => ("pending", Tone::Wait),
        state => (state.as_str(), Tone::Bad),
    };
    Standing {
        list: list.to_owned(),
        state: state.replace('_', " "),
        tone,
    }
}

fn line(event: &Sequenced) -> Line {
    let (says, tone) = says(event);
    let subscriber = event.subscriber.map(|SubscriberId(id)| ("person", id));
    let ids = [
        event.signup.map(|id| ("signup", id.0)),
        subscriber,
        event.message.map(|id| ("mail", id.0)),
    ];
    Line {
        seq: event.seq,
        time: event.time.to_string(),
        at: clock(event.time),
        kind: event.kind.as_str(),
        lists: lists(event),
        says,
        tone,
        ids: ids
            .into_iter()
            .flatten()
            .map(|(name, id)| short(name, id))
            .collect(),
    }
}

/// The list that it is about, or all lists of its signup.
fn lists(event: &Sequenced) -> String {
    let all = event.data.get("lists").and_then(Value::as_array);
    let all = all.into_iter().flatten().filter_map(Value::as_str);
    let one = event.list.as_ref().map(|list| list.as_str());
    one.into_iter().chain(all).collect::<Vec<_>>().join(", ")
}

/// The end of an id tells more than its beginning, which is a time.
fn short(name: &'static str, id: Uuid) -> Id {
    let whole = id.to_string();
    Id {
        name,
        short: whole.chars().skip(whole.len() - 6).collect(),
        whole,
    }
}

/// Writes a time as people in the demo's time zone read it.
pub fn clock(at: Timestamp) -> String {
    let at = at.to_jiff().in_tz(TIME_ZONE);
    at.map(|at| at.strftime("%-d %b %H:%M:%S").to_string())
        .unwrap_or_default()
}

fn says(event: &Sequenced) -> (String, Tone) {
    let fact = |name: &str| {
        event
            .data
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let mail = fact("kind").replace('_', " ");
    let one_click = fact("how") == "one_click";
    let (says, tone) = match event.kind {
        EventKind::SignupAccepted => (
            "Signup accepted: stored before the 202 was given",
            Tone::Wait,
        ),
        EventKind::SignupWithheld => match fact("reason") {
            "hold" => (
                "No mail: this mailbox said \u{201c}that was not me\u{201d}",
                Tone::Bad,
            ),
            _ => (
                "No mail: this address has had enough of them for now",
                Tone::Bad,
            ),
        },
        EventKind::SignupDeclined => match fact("how") {
            "not_me" => ("Declined: \u{201c}that was not me\u{201d}", Tone::Bad),
            "one_click" => ("Declined by the mail program's own button", Tone::Bad),
            _ => ("Declined: the person said no", Tone::Bad),
        },
        EventKind::SignupExpired => ("The link's time ran out", Tone::Bad),
        EventKind::MessageSent => {
            return (format!("The mail server took the {mail} mail"), Tone::Plain);
        }
        EventKind::MessageDeferred => {
            return (
                format!("The {mail} mail did not leave yet; it is tried again"),
                Tone::Wait,
            );
        }
        EventKind::MessageFailed => {
            return (format!("The {mail} mail was refused for good"), Tone::Bad);
        }
        EventKind::MessageUnknown => {
            return (
                format!("Whether the {mail} mail arrived is not known"),
                Tone::Bad,
            );
        }
        EventKind::SubscriptionConfirmed => {
            ("Confirmed: the person pressed the button", Tone::Good)
        }
        EventKind::SubscriptionRenewed => {
            ("Renewed: the person agreed to the new words", Tone::Good)
        }
        EventKind::SubscriptionUnsubscribed if one_click => {
            ("Unsubscribed by the mail program's own button", Tone::Bad)
        }
        EventKind::SubscriptionUnsubscribed => {
            ("Unsubscribed: in force before the page said so", Tone::Bad)
        }
        EventKind::SubscriberChanged => match fact("confirmation_mails") {
            "lifted" => (
                "Confirmation mails to this mailbox are allowed again",
                Tone::Plain,
            ),
            "held_everywhere" => (
                "Confirmation mails of every sender to this mailbox are held",
                Tone::Wait,
            ),
            _ => ("Confirmation mails to this mailbox are held", Tone::Wait),
        },
        EventKind::UnsubscribeRepeated => {
            ("Unsubscribed again: somebody still mails them", Tone::Bad)
        }
        EventKind::KeyCreated => ("An API key was made", Tone::Plain),
        EventKind::KeyRevoked => ("An API key was revoked", Tone::Plain),
        EventKind::KeyringChanged => {
            let what = format!(
                "A key for {} was registered or changed its use",
                fact("purpose")
            );
            return (what, Tone::Plain);
        }
        EventKind::ListChanged => ("The list came into force as configured", Tone::Plain),
        EventKind::ListClosed => ("The list was taken out of the configuration", Tone::Plain),
        kind => return (kind.as_str().replace(['.', '_'], " "), Tone::Plain),
    };
    (says.to_owned(), tone)
}
