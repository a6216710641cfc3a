//! Mails to be sent: their kinds and states, and when to try again.

pub mod breaker;
pub mod pace;
pub mod retry;
#[cfg(test)]
mod simulation;
pub mod turns;

use serde::{Deserialize, Serialize};

use super::consent::Hash;
use super::list::ListId;
use super::time::Timestamp;

named! {
    /// Why a mail is sent.
    MessageKind {
        /// Asks to confirm a signup.
        Confirmation = "confirmation",
        /// Answers a signup that asked for nothing new.
        AlreadySubscribed = "already_subscribed",
        /// Greets after a confirm.
        Welcome = "welcome",
        /// Confirms an unsubscribe.
        Goodbye = "goodbye",
    }
}

named! {
    /// The state of one mail.
    MessageState {
        /// Waiting for its time.
        Queued = "queued",
        /// Taken by a process, under a lease.
        Claimed = "claimed",
        /// Accepted by the relay.
        Sent = "sent",
        /// Kept back by a limit or a hold.
        Withheld = "withheld",
        /// No longer wanted when its turn came.
        Cancelled = "cancelled",
        /// Refused for good, or given up.
        Failed = "failed",
        /// Perhaps sent; not sent again.
        Unknown = "unknown",
        /// Set aside: whoever had it ended each time without saying what became of it.
        Quarantined = "quarantined",
    }
}

/// What makes the bytes of a mail, fixed when it is first claimed and kept over all attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The id of the link key.
    pub link_key: String,
    /// The hash of the templates.
    pub template: Hash,
    /// The Message-ID, without angle brackets.
    pub message_id: String,
    /// The Date.
    pub date: Timestamp,
    /// The MIME boundary.
    pub boundary: String,
}

/// A list that a mail is about, and what the list said then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The list.
    pub list: ListId,
    /// The hash of its facts.
    pub facts: Hash,
}

/// What the relay answered last, without its words: those repeat addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// In which phase of the session.
    pub phase: String,
    /// What happened there: a class such as `reply`, `timeout`, `closed` or `stopped`.
    pub cause: String,
    /// The reply code (RFC 5321).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The enhanced status code (RFC 3463).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enhanced: Option<String>,
}

impl Answer {
    /// Tells whether the relay had the text, or a part of it.
    pub fn is_past_data(&self) -> bool {
        matches!(self.phase.as_str(), "body" | "dot")
    }
}

named! {
    /// How one attempt ended, as the retry rules see it.
    Attempt {
        /// Accepted.
        Sent = "sent",
        /// Refused for good.
        Failed = "failed",
        /// Nothing was sent that counts.
        Deferred = "deferred",
        /// Perhaps accepted: the answer to the final dot is missing.
        Ambiguous = "ambiguous",
        /// Not made: its link was used, so that an earlier copy came, of which nobody wrote anything down.
        Arrived = "arrived",
    }
}

impl Attempt {
    /// Tells whether the relay was asked.
    pub fn was_made(self) -> bool {
        self != Attempt::Arrived
    }
}
