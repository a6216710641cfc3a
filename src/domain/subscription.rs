//! The state of one subscriber on one list, and the only table that moves it.

use serde::{Deserialize, Serialize};

/// The state of a subscription; `None` where a row would be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The person confirmed by mail.
    Confirmed,
    /// Consent given elsewhere, with its facts.
    Attested,
    /// Left.
    Unsubscribed,
    /// Objected to direct marketing (GDPR, article 21).
    Objected,
    /// Mail to the address bounces for good.
    Undeliverable,
    /// Validity over, inactive and silent, or list closed.
    Lapsed,
    /// Imported without evidence.
    Unproven,
}

impl State {
    /// Every state, in the order of the table in the product description.
    pub const ALL: [State; 7] = [
        State::Confirmed,
        State::Attested,
        State::Unsubscribed,
        State::Objected,
        State::Undeliverable,
        State::Lapsed,
        State::Unproven,
    ];

    /// Returns the name used in the database, events and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Confirmed => "confirmed",
            State::Attested => "attested",
            State::Unsubscribed => "unsubscribed",
            State::Objected => "objected",
            State::Undeliverable => "undeliverable",
            State::Lapsed => "lapsed",
            State::Unproven => "unproven",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Tells whether the person agreed, and has not left since.
    pub fn is_subscribed(self) -> bool {
        matches!(self, State::Confirmed | State::Attested)
    }
}

/// What can happen to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The person confirmed by mail.
    Confirm,
    /// The sender attests consent given elsewhere.
    Attest {
        /// Whether it was given after the subscription lapsed; else a lapse stands.
        after_lapse: bool,
    },
    /// Imported without evidence.
    Import,
    /// The person left.
    Unsubscribe,
    /// The person objected, or complained about a newsletter.
    Object,
    /// Mail bounced for good.
    HardBounce,
    /// Its time is over.
    Lapse,
}

/// What a move does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The subscription takes this state, and one event says so.
    To(State),
    /// Nothing changes and no event is written.
    Same,
    /// The move is not allowed from here.
    Refused,
    /// The move cannot happen from here; asking for it is a defect.
    Impossible,
}

/// Decides one cell of the state table.
pub fn step(from: Option<State>, by: Move) -> Step {
    use Move::*;
    use State::*;
    let Some(from) = from else {
        return match by {
            Confirm => Step::To(Confirmed),
            Attest { .. } => Step::To(Attested),
            Import => Step::To(Unproven),
            Unsubscribe => Step::To(Unsubscribed),
            Object => Step::To(Objected),
            HardBounce => Step::To(Undeliverable),
            Lapse => Step::Impossible,
        };
    };
    match (by, from) {
        (Confirm, Confirmed) => Step::Same,
        (Confirm, _) => Step::To(Confirmed),

        (Attest { .. }, Confirmed | Attested) => Step::Same,
        (Attest { .. }, Unproven) | (Attest { after_lapse: true }, Lapsed) => Step::To(Attested),
        (Attest { .. }, _) => Step::Refused,

        (Import, Unproven) => Step::Same,
        (Import, _) => Step::Refused,

        (Unsubscribe, Unsubscribed | Objected) => Step::Same,
        (Unsubscribe, _) => Step::To(Unsubscribed),

        (Object, Objected) => Step::Same,
        (Object, _) => Step::To(Objected),

        (HardBounce, Unsubscribed | Objected | Undeliverable | Lapsed) => Step::Same,
        (HardBounce, _) => Step::To(Undeliverable),

        (Lapse, Confirmed | Attested | Unproven) => Step::To(Lapsed),
        (Lapse, _) => Step::Impossible,
    }
}

/// Tells whether a move raises the counter that makes older signups ineffective.
pub fn makes_older_signups_ineffective(to: State) -> bool {
    matches!(to, State::Unsubscribed | State::Objected)
}
