//! What the events of one subscriber say that the state tables must hold.

use std::collections::BTreeMap;

use serde_json::Value;

use super::report::At;
use crate::domain::delivery::MessageState;
use crate::domain::event::EventKind;
use crate::domain::id::{MessageId, SignupId};
use crate::domain::list::ListId;
use crate::domain::signup::ListState;
use crate::domain::subscription::{State, makes_older_signups_ineffective};
use crate::domain::time::Timestamp;
use crate::trail::leaf::Leaf;

/// What must be there of one subscriber.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// The event that made the subscriber, and the sender.
    pub known: Option<(At, String)>,
    /// Since which event rows may be missing.
    pub erased: Option<At>,
    pub subscriptions: BTreeMap<ListId, Moved>,
    pub signups: BTreeMap<SignupId, Asked>,
    pub mails: BTreeMap<MessageId, Mailed>,
}

/// A subscription.
#[derive(Debug)]
pub(super) struct Moved {
    /// The last event that moved it.
    pub at: At,
    /// Its state; two where one event stands for two.
    pub states: Vec<State>,
    pub since: Timestamp,
    pub counter: i64,
    /// The signup that confirmed it and the revision of its words, where an event says so.
    pub signup: Option<(SignupId, i64)>,
    /// When each period as confirmed began.
    pub confirmed: Vec<Timestamp>,
    /// The row may be missing.
    pub gone: bool,
}

impl Moved {
    /// Returns how many periods as confirmed are over.
    fn over(&self) -> usize {
        self.confirmed.len() - usize::from(self.states == [State::Confirmed])
    }
}

/// A signup.
#[derive(Debug)]
pub(super) struct Asked {
    pub at: At,
    pub sender: String,
    pub lists: BTreeMap<ListId, Offered>,
    pub gone: bool,
}

/// A list of a signup.
#[derive(Debug)]
pub(super) struct Offered {
    /// The last event about it.
    pub at: At,
    pub state: ListState,
    /// How it was declined.
    pub reason: Option<String>,
    /// The subscription's counter when the signup came.
    pub counter: i64,
    /// How many periods as confirmed were over then.
    pub over: usize,
}

/// A mail that events tell of.
#[derive(Debug)]
pub(super) struct Mailed {
    pub at: At,
    /// How it ended, if an event says so.
    pub state: Option<MessageState>,
    pub signup: Option<SignupId>,
    pub gone: bool,
}

impl Life {
    /// Lets the next event happen.
    pub fn happen(&mut self, at: At, leaf: &Leaf) {
        match leaf.kind {
            EventKind::SignupAccepted => self.accepted(at, leaf),
            EventKind::SignupWithheld => self.end(at, leaf, ListState::Withheld),
            EventKind::SignupDeclined => self.end(at, leaf, ListState::Declined),
            EventKind::SignupExpired => self.end(at, leaf, ListState::Expired),
            kind if kind.is_confirm() => {
                self.moved(at, leaf, &[State::Confirmed]);
                let list = leaf.list.iter().cloned().collect::<Vec<_>>();
                self.end_lists(at, leaf, &list, ListState::Confirmed);
            }
            // An import without evidence is told by the same event.
            EventKind::SubscriptionAttested => {
                self.moved(at, leaf, &[State::Attested, State::Unproven])
            }
            EventKind::SubscriptionUnsubscribed => self.moved(at, leaf, &[State::Unsubscribed]),
            EventKind::SubscriptionObjected => self.moved(at, leaf, &[State::Objected]),
            EventKind::SubscriptionUndeliverable => self.moved(at, leaf, &[State::Undeliverable]),
            EventKind::SubscriptionLapsed => self.moved(at, leaf, &[State::Lapsed]),
            EventKind::MessageSent => self.mailed(at, leaf, Some(MessageState::Sent)),
            EventKind::MessageUnknown => self.mailed(at, leaf, Some(MessageState::Unknown)),
            EventKind::MessageDeferred => self.mailed(at, leaf, None),
            EventKind::MessageFailed => {
                self.mailed(at, leaf, Some(MessageState::Failed));
                self.bounced(at, leaf);
            }
            EventKind::SubscriberErased => self.erase(at),
            _ => {}
        }
    }

    fn accepted(&mut self, at: At, leaf: &Leaf) {
        let (Some(id), Some(sender)) = (leaf.signup, &leaf.sender) else {
            return;
        };
        let sender = sender.to_string();
        self.known.get_or_insert_with(|| (at, sender.clone()));
        self.erased = None;
        let offered = lists(leaf).into_iter().map(|list| {
            let moved = self.subscriptions.get(&list);
            let (counter, over) = moved.map_or((0, 0), |moved| (moved.counter, moved.over()));
            (
                list,
                Offered {
                    at,
                    state: ListState::Open,
                    reason: None,
                    counter,
                    over,
                },
            )
        });
        let lists = offered.collect();
        self.signups.insert(
            id,
            Asked {
                at,
                sender,
                lists,
                gone: false,
            },
        );
    }

    fn end(&mut self, at: At, leaf: &Leaf, state: ListState) {
        self.end_lists(at, leaf, &lists(leaf), state);
    }

    fn end_lists(&mut self, at: At, leaf: &Leaf, lists: &[ListId], state: ListState) {
        let Some(asked) = leaf.signup.and_then(|id| self.signups.get_mut(&id)) else {
            return;
        };
        let how = leaf.data.get("how").and_then(Value::as_str);
        for list in lists {
            if let Some(offered) = asked.lists.get_mut(list) {
                offered.at = at;
                offered.state = state;
                offered.reason = how
                    .filter(|_| state == ListState::Declined)
                    .map(str::to_owned);
            }
        }
    }

    /// A confirmation mail failed: what was still open cannot be answered.
    fn bounced(&mut self, at: At, leaf: &Leaf) {
        let confirmation = leaf.data.get("kind").and_then(Value::as_str) == Some("confirmation");
        let asked = leaf.signup.and_then(|id| self.signups.get_mut(&id));
        let lists = asked.into_iter().flat_map(|asked| asked.lists.values_mut());
        for offered in lists.filter(|offered| confirmation && offered.state == ListState::Open) {
            offered.at = at;
            offered.state = ListState::Undeliverable;
        }
    }

    fn moved(&mut self, at: At, leaf: &Leaf, states: &[State]) {
        let Some(list) = &leaf.list else { return };
        let old = self.subscriptions.remove(list);
        let raised = states
            .iter()
            .any(|state| makes_older_signups_ineffective(*state));
        let revision = leaf.data.get("revision").and_then(Value::as_i64);
        // Whoever leaves, leaves what the row says of the confirm.
        let signup = match states {
            [State::Confirmed] => leaf.signup.zip(revision),
            _ => old.as_ref().and_then(|old| old.signup),
        };
        let mut confirmed = old.as_ref().map_or(Vec::new(), |old| old.confirmed.clone());
        if states == [State::Confirmed] {
            confirmed.push(leaf.time);
        }
        let counter = old.map_or(0, |old| old.counter) + i64::from(raised);
        let moved = Moved {
            at,
            states: states.to_vec(),
            since: leaf.time,
            counter,
            signup,
            confirmed,
            gone: false,
        };
        self.subscriptions.insert(list.clone(), moved);
    }

    fn mailed(&mut self, at: At, leaf: &Leaf, state: Option<MessageState>) {
        if let Some(id) = leaf.message {
            self.mails.insert(
                id,
                Mailed {
                    at,
                    state,
                    signup: leaf.signup,
                    gone: false,
                },
            );
        }
    }

    fn erase(&mut self, at: At) {
        self.erased = Some(at);
        for moved in self.subscriptions.values_mut() {
            (moved.gone, moved.at) = (true, at);
        }
        self.signups
            .values_mut()
            .for_each(|asked| asked.gone = true);
        self.mails
            .values_mut()
            .for_each(|mailed| mailed.gone = true);
    }

    /// Tells whether a list can have been confirmed when a signup for it was decided: that then ended as already confirmed,
    /// without an event. When it was left again says nothing, since clocks are set back; that it was before the signup, does.
    pub fn was_confirmed(&self, list: &ListId, offered: &Offered, at: Timestamp) -> bool {
        let moved = self.subscriptions.get(list);
        let periods = moved.into_iter().flat_map(|moved| &moved.confirmed);
        periods.skip(offered.over).any(|from| *from <= at)
    }
}

fn lists(leaf: &Leaf) -> Vec<ListId> {
    let names = leaf.data.get("lists").and_then(Value::as_array);
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    names.filter_map(|name| name.parse().ok()).collect()
}
