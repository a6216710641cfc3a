//! The kinds of events: what can be read in the trail.

use serde::Serialize;
use serde_json::{Map, Value};

use super::evidence::{Evidence, Part};
use super::id::{EventId, MessageId, SignupId, SubscriberId};
use super::list::{ListId, SenderId};
use super::time::Timestamp;

named! {
    /// What happened.
    EventKind {
        /// A signup is on stable storage.
        SignupAccepted = "signup.accepted",
        /// A limit or a hold kept a signup's mail back.
        SignupWithheld = "signup.withheld",
        /// The person said no.
        SignupDeclined = "signup.declined",
        /// The link's time ran out.
        SignupExpired = "signup.expired",
        /// The relay accepted a mail.
        MessageSent = "message.sent",
        /// A mail will be tried again.
        MessageDeferred = "message.deferred",
        /// A mail is given up.
        MessageFailed = "message.failed",
        /// Whether a mail arrived is not known; it is not sent again.
        MessageUnknown = "message.unknown",
        /// The relay's answer came when the mail's claim had ended; it changes nothing.
        MessageLate = "message.late",
        /// A mail is set aside: its claims end without an outcome.
        MessageQuarantined = "message.quarantined",
        /// The operator queued a mail again that was set aside.
        MessageReleased = "message.released",
        /// A subscription was confirmed by mail.
        SubscriptionConfirmed = "subscription.confirmed",
        /// A subscription was ended by the person.
        SubscriptionUnsubscribed = "subscription.unsubscribed",
        /// The person objected to direct marketing.
        SubscriptionObjected = "subscription.objected",
        /// Mail to the subscriber bounces for good.
        SubscriptionUndeliverable = "subscription.undeliverable",
        /// Consent given elsewhere was recorded.
        SubscriptionAttested = "subscription.attested",
        /// A subscription was confirmed anew.
        SubscriptionRenewed = "subscription.renewed",
        /// A subscription's time is over.
        SubscriptionLapsed = "subscription.lapsed",
        /// Somebody who left long ago pressed the link again: somebody still mails them.
        UnsubscribeRepeated = "unsubscribe.repeated",
        /// Something about a subscriber changed that is no subscription.
        SubscriberChanged = "subscriber.changed",
        /// A subscriber's data was handed out.
        SubscriberExported = "subscriber.exported",
        /// A subscriber was erased.
        SubscriberErased = "subscriber.erased",
        /// An API key was made.
        KeyCreated = "key.created",
        /// An API key was revoked.
        KeyRevoked = "key.revoked",
        /// A cryptographic key was added or changed its use.
        KeyringChanged = "keyring.changed",
        /// Personal facts behind an event were erased.
        EvidenceErased = "evidence.erased",
        /// A list's facts in force changed.
        ListChanged = "list.changed",
        /// A list was taken out of the configuration.
        ListClosed = "list.closed",
        /// The operator believed a clock that had jumped.
        ClockAccepted = "clock.accepted",
        /// The trail begins a new epoch.
        TrailEpoch = "trail.epoch",
    }
}

impl EventKind {
    /// Tells whether somebody confirmed by a signup's link, for the first time or anew.
    pub fn is_confirm(self) -> bool {
        matches!(
            self,
            EventKind::SubscriptionConfirmed | EventKind::SubscriptionRenewed
        )
    }
}

/// One thing that happened, before it has a place in the trail. It holds nothing personal.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub time: Timestamp,
    /// At which sender; none for what concerns the operator alone.
    pub sender: Option<SenderId>,
    /// On which list.
    pub list: Option<ListId>,
    /// To whom.
    pub subscriber: Option<SubscriberId>,
    /// By which signup.
    pub signup: Option<SignupId>,
    /// With which mail.
    pub message: Option<MessageId>,
    /// What else is known, without personal facts.
    pub data: Map<String, Value>,
    /// The personal facts behind it, which are kept beside the trail.
    pub evidence: Vec<Evidence>,
    /// Makes the event's place in the tree unguessable to those who are shown no more than its hash.
    pub salt: [u8; 16],
}

impl Event {
    /// Starts an event of a sender, with random bytes for its id and its salt.
    pub fn of(
        random: [u8; 26],
        kind: EventKind,
        time: Timestamp,
        sender: Option<&SenderId>,
    ) -> Self {
        let (mut id, mut salt) = ([0; 10], [0; 16]);
        id.copy_from_slice(&random[..10]);
        salt.copy_from_slice(&random[10..]);
        Self {
            id: EventId::new(time, id),
            salt,
            evidence: Vec::new(),
            kind,
            time,
            sender: sender.cloned(),
            list: None,
            subscriber: None,
            signup: None,
            message: None,
            data: Map::new(),
        }
    }

    /// Names the list.
    pub fn list(mut self, list: &ListId) -> Self {
        self.list = Some(list.clone());
        self
    }

    /// Names the subscriber.
    pub fn subscriber(mut self, subscriber: SubscriberId) -> Self {
        self.subscriber = Some(subscriber);
        self
    }

    /// Names the signup.
    pub fn signup(mut self, signup: SignupId) -> Self {
        self.signup = Some(signup);
        self
    }

    /// Names the mail.
    pub fn message(mut self, message: MessageId) -> Self {
        self.message = Some(message);
        self
    }

    /// Adds a fact.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }

    /// Adds personal facts, to be kept apart; `key` is random.
    pub fn evidence(mut self, part: Part, key: [u8; 32], facts: &impl Serialize) -> Self {
        self.evidence.push(Evidence::new(part, key, facts));
        self
    }
}

/// One event with its place in the trail, as feeds and `events tail` print it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sequenced {
    /// Its number: 1, 2, 3 and so on without a gap.
    pub seq: i64,
    /// Its id.
    pub id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When.
    pub time: Timestamp,
    /// At which sender.
    pub sender: Option<SenderId>,
    /// On which list.
    pub list: Option<ListId>,
    /// To whom.
    pub subscriber: Option<SubscriberId>,
    /// By which signup.
    pub signup: Option<SignupId>,
    /// With which mail.
    pub message: Option<MessageId>,
    /// What else is known.
    #[serde(flatten)]
    pub data: Map<String, Value>,
}
