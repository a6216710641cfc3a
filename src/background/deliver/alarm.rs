//! When a relay refuses to work for us, and somebody has to look at its settings.

use std::collections::BTreeSet;

use crate::background::verdict::{Concerns, concerns};
use crate::domain::list::SenderId;
use crate::domain::pepper::Keyed;
use crate::smtp::Verdict;
use crate::store::message::Message;

/// Mailboxes refused in a row that are an alarm: one may be refused for its own sake.
const REFUSED: usize = 3;

/// What a relay has refused since it last took a mail.
#[derive(Default)]
pub(super) struct Alarm {
    on: bool,
    /// Whose mails it refuses, where that is one sender: what it takes of others says nothing.
    sender: Option<SenderId>,
    refused: BTreeSet<Keyed>,
}

impl Alarm {
    /// Hears what became of a mail; returns whether the alarm is on, where that has changed.
    pub(super) fn hear(&mut self, verdict: Verdict, message: &Message) -> Option<bool> {
        match verdict {
            Verdict::Misconfigured { phase, cause } if !self.on => {
                let whom = concerns(phase, cause);
                if whom == Concerns::Mail {
                    self.refused.insert(message.mailbox);
                }
                self.on = whom != Concerns::Mail || self.refused.len() >= REFUSED;
                self.sender = (whom == Concerns::Sender).then(|| message.sender.clone());
                self.on.then_some(true)
            }
            Verdict::Sent { .. } => {
                self.refused.clear();
                let ends = self.on && self.sender().is_none_or(|s| *s == message.sender);
                if ends {
                    *self = Self::default();
                }
                ends.then_some(false)
            }
            _ => None,
        }
    }

    /// Returns whose mails are refused, where that is not everybody's.
    pub(super) fn sender(&self) -> Option<&SenderId> {
        self.sender.as_ref()
    }
}
