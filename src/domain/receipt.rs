//! What a receipt says of each list of a signup, decided from what was recorded.

use serde::Serialize;
use url::Url;

use super::event::{EventKind, Sequenced};
use super::id::SignupId;
use super::list::{ConfirmBy, ListId};
use super::signup::{Confirm, ListState};
use super::subscription::State;
use super::time::Timestamp;

/// Why a list of a signup was not agreed to by it. The first in this order tells the person most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotAgreed {
    /// Still waiting for the person.
    Open,
    /// The person said no.
    Declined,
    /// The link's time ran out.
    Expired,
    /// Agreed to before, by another signup.
    Before,
    /// The person left after asking.
    Left,
    /// No mail asked for it, or the mail could not be delivered.
    NotMailed,
    /// The list was taken out of the configuration.
    Closed,
}

/// Decides why a list was not agreed to; none where it was.
///
/// `confirm` is what its link would do now: an expired signup may not have been swept yet.
pub fn not_agreed(state: ListState, confirm: Confirm, closed: bool) -> Option<NotAgreed> {
    Some(match state {
        ListState::Confirmed => return None,
        ListState::Declined => NotAgreed::Declined,
        ListState::Expired if confirm == Confirm::Ineffective => NotAgreed::Left,
        ListState::Expired => NotAgreed::Expired,
        ListState::AlreadyConfirmed => NotAgreed::Before,
        ListState::Withheld | ListState::Undeliverable => NotAgreed::NotMailed,
        ListState::Erased => NotAgreed::Left,
        ListState::Open if closed => NotAgreed::Closed,
        ListState::Open => match confirm {
            Confirm::Expired => NotAgreed::Expired,
            Confirm::Ineffective => NotAgreed::Left,
            _ => NotAgreed::Open,
        },
    })
}

/// When and how a consent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Until when it held.
    pub at: Timestamp,
    /// What ended it.
    pub by: EndedBy,
}

/// What ended a consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The person left.
    Unsubscribed,
    /// The person objected.
    Objected,
    /// Mail bounces for good.
    Undeliverable,
    /// Its time was over.
    Lapsed,
}

impl EndedBy {
    /// Tells what a state says of the consent before it; none where it holds.
    pub fn state(state: State) -> Option<Self> {
        match state {
            State::Unsubscribed => Some(EndedBy::Unsubscribed),
            State::Objected => Some(EndedBy::Objected),
            State::Undeliverable => Some(EndedBy::Undeliverable),
            State::Lapsed => Some(EndedBy::Lapsed),
            State::Confirmed | State::Attested | State::Unproven => None,
        }
    }

    fn event(kind: EventKind) -> Option<Self> {
        match kind {
            EventKind::SubscriptionUnsubscribed => Some(EndedBy::Unsubscribed),
            EventKind::SubscriptionObjected => Some(EndedBy::Objected),
            EventKind::SubscriptionUndeliverable => Some(EndedBy::Undeliverable),
            EventKind::SubscriptionLapsed => Some(EndedBy::Lapsed),
            _ => None,
        }
    }
}

/// What the trail tells of one consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Story {
    /// How it was confirmed.
    pub by: ConfirmBy,
    /// How it ended, if it did.
    pub ended: Option<Ended>,
}

/// Reads in a subscriber's events what became of the consent that a signup confirmed; none before its event is numbered.
pub fn story(events: &[Sequenced], signup: SignupId, list: &ListId) -> Option<Story> {
    let of_list = events.iter().filter(|e| e.list.as_ref() == Some(list));
    let mut rest = of_list.skip_while(|e| !e.kind.is_confirm() || e.signup != Some(signup));
    let by = match rest.next()?.data.get("by")?.as_str()? {
        "button" => ConfirmBy::Button,
        _ => ConfirmBy::Link,
    };
    let ended = rest.find_map(|e| {
        let by = EndedBy::event(e.kind)?;
        Some(Ended { at: e.time, by })
    });
    Some(Story { by, ended })
}

/// Returns where a signup was made, as it was reported, without what may name the person: of a page neither query nor
/// fragment, and nothing where an address can be meant.
pub fn place(source: &str) -> String {
    let page = Url::parse(source).ok();
    let bare = match page {
        Some(_) => source.split(['?', '#']).next().unwrap_or_default(),
        None => source,
    };
    if !decoded(bare).contains('@') {
        return bare.to_owned();
    }
    match page.map(|url| url.origin()) {
        Some(origin) if origin.is_tuple() => origin.ascii_serialization(),
        _ => "…".to_owned(),
    }
}

/// Undoes percent-encoding, also where it was done twice.
fn decoded(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..2 {
        // The plus of a form means a space, but in an address it is a plus.
        let pair = format!("={}", text.replace('+', "%2B").replace('&', "%26"));
        text = url::form_urlencoded::parse(pair.as_bytes())
            .map(|(_, value)| value.into_owned())
            .collect();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_never_names_the_address() {
        for whole in [
            "https://acme.example/news",
            "https://acme.example/anna",
            "the counter in Utrecht (why? #3)",
        ] {
            assert_eq!(place(whole), whole);
        }
        for (source, rest) in [
            (
                "https://acme.example/news?utm=a%20b#form",
                "https://acme.example/news",
            ),
            (
                "https://acme.example/news?email=anna@bücher.example",
                "https://acme.example/news",
            ),
            (
                "https://acme.example/n#anna%2540example.org",
                "https://acme.example/n",
            ),
            (
                "https://acme.example/anna%2bnews%2540example.org/news",
                "https://acme.example",
            ),
            (
                "https://anna@bücher.example/news",
                "https://xn--bcher-kva.example",
            ),
            ("mailto:anna@example.org", "…"),
            ("told by anna+news@example.org", "…"),
        ] {
            assert_eq!(place(source), rest);
        }
    }
}
