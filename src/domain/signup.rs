//! The states of a signup and of each of its lists, and what a press on its links does.

use super::subscription::{self, Move, Step};
use super::time::Timestamp;

named! {
    /// The state of one signup.
    SignupState {
        /// On stable storage; its mail is waiting.
        Accepted = "accepted",
        /// Its mail was accepted by the relay.
        Sent = "sent",
        /// A limit or a hold kept its mail back.
        Withheld = "withheld",
        /// Every list was confirmed already.
        NotNeeded = "not_needed",
        /// Its mail cannot be delivered.
        Undeliverable = "undeliverable",
    }
}

named! {
    /// The state of one list of a signup; every list ends in exactly one of the others.
    ListState {
        /// Waiting for the person.
        Open = "open",
        /// The person said yes.
        Confirmed = "confirmed",
        /// The person said no.
        Declined = "declined",
        /// The link's time ran out.
        Expired = "expired",
        /// Kept out of the mail by a limit or a hold.
        Withheld = "withheld",
        /// The address was subscribed already.
        AlreadyConfirmed = "already_confirmed",
        /// The mail could not be delivered.
        Undeliverable = "undeliverable",
        /// The person was erased.
        Erased = "erased",
    }
}

impl ListState {
    /// Tells whether "that was not me" can still be said of it: nobody said yes.
    pub fn is_refused(self) -> bool {
        matches!(self, ListState::Declined | ListState::Expired)
    }
}

named! {
    /// How somebody said no.
    Decline {
        /// "No, I do not want this."
        No = "no",
        /// "That was not me."
        NotMe = "not_me",
        /// The mail program's own button (RFC 8058).
        OneClick = "one_click",
    }
}

impl Decline {
    /// Tells whether further confirmation mails of this sender are held.
    pub fn holds(self) -> bool {
        matches!(self, Decline::NotMe | Decline::OneClick)
    }
}

/// What a decision about one list of a signup rests on.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The state of the list within the signup.
    pub list: ListState,
    /// When the signup's link ends; none while no mail was made.
    pub expires: Option<Timestamp>,
    /// The subscription's counter when the signup came.
    pub counter_then: i64,
    /// The subscription's counter now.
    pub counter_now: i64,
    /// The state of the subscription now.
    pub subscription: Option<subscription::State>,
    /// It rests on words that changed materially since, and this signup asks for the new ones.
    pub renews: bool,
}

/// What pressing "confirm" does for one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// The subscription becomes confirmed, or is renewed.
    Yes,
    /// The subscription is confirmed already; the list of the signup ends so.
    Already,
    /// This signup confirmed it before; nothing changes.
    Again,
    /// The person left, objected or was erased after asking: this link no longer works.
    Ineffective,
    /// The link's time is over.
    Expired,
    /// The person said no to this signup.
    Declined,
    /// The list was not in this mail, or the mail could not be delivered.
    NotOffered,
}

/// Decides what pressing "confirm" does for one list; viewing the page asks the same.
pub fn confirm(standing: Standing, now: Timestamp) -> Confirm {
    let effective = standing.counter_then == standing.counter_now;
    match standing.list {
        ListState::Confirmed | ListState::AlreadyConfirmed | ListState::Expired if !effective => {
            Confirm::Ineffective
        }
        ListState::Confirmed | ListState::AlreadyConfirmed => Confirm::Again,
        ListState::Declined => Confirm::Declined,
        ListState::Expired => Confirm::Expired,
        ListState::Erased => Confirm::Ineffective,
        ListState::Withheld => Confirm::NotOffered,
        // A mail that bounced and was read all the same is proof enough that it arrived.
        ListState::Open | ListState::Undeliverable => match standing.expires {
            _ if !effective => Confirm::Ineffective,
            None => Confirm::NotOffered,
            Some(end) if end <= now => Confirm::Expired,
            Some(_) => match subscription::step(standing.subscription, Move::Confirm) {
                Step::Same if !standing.renews => Confirm::Already,
                _ => Confirm::Yes,
            },
        },
    }
}

/// What pressing "no" does for one list; neither where it had been declined, or has ended otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// The list of the signup is declined.
    pub declines: bool,
    /// The subscription ends, by whichever signup it was confirmed.
    pub leaves: bool,
}

/// Decides what pressing "no" does for one list. The link never expires.
pub fn refuse(standing: Standing) -> Refuse {
    use ListState::*;
    let can_leave = |state| {
        let step = subscription::step(Some(state), Move::Unsubscribe);
        matches!(step, Step::To(_))
    };
    Refuse {
        declines: matches!(standing.list, Open | Undeliverable),
        leaves: standing
            .subscription
            .is_some_and(|state| match standing.list {
                Erased => false,
                // What it confirmed itself ends also where mail bounces or the time is over.
                Confirmed | AlreadyConfirmed => can_leave(state),
                _ => state.is_subscribed(),
            }),
    }
}
