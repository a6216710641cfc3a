//! What a message row says.

use std::sync::Arc;

use super::content::Content;
use crate::domain::address::Address;
use crate::domain::delivery::MessageKind;
use crate::domain::list::{Facts, Sender};
use crate::domain::locale::Locale;
use crate::domain::mailbox::Mailbox;
use crate::domain::time::Timestamp;

/// All that a mail depends on besides its template. The same draft and template give the same bytes.
#[derive(Clone)]
pub struct Draft {
    /// Why it is sent.
    pub kind: MessageKind,
    /// The language of titles and words: the signup's.
    pub locale: Locale,
    /// The lists of the mail, all of one sender.
    pub facts: Vec<Arc<Facts>>,
    /// Who gets it.
    pub to: Address,
    /// The Message-ID, without its angle brackets.
    pub message_id: String,
    /// The Date.
    pub date: Timestamp,
    /// The MIME boundary. Begins with `=_`, so that no quoted-printable line can equal it (RFC 2045, section 6.7).
    pub boundary: String,
    /// The links in it.
    pub links: Links,
    /// When the person did what the mail answers: signed up, confirmed or left.
    pub asked_at: Timestamp,
    /// When they asked for a new mail instead of an expired one.
    pub again_at: Option<Timestamp>,
    /// The host of the signup's page, only where the list vouches for it.
    pub site: Option<String>,
    /// When the confirm link ends; a confirmation needs it.
    pub expires: Option<Timestamp>,
}

/// The links of a mail, ready-made.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// The confirm link; a confirmation needs it.
    pub confirm: Option<String>,
    /// The "no" link; a confirmation needs it.
    pub decline: Option<String>,
    /// One for each list, in the order of `facts`; needed by `already_subscribed` and `welcome`.
    pub unsubscribe: Vec<String>,
}

impl Links {
    /// Returns every link.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        let single = self.confirm.iter().chain(&self.decline);
        single.chain(&self.unsubscribe).map(String::as_str)
    }
}

impl Draft {
    /// Returns what is read of it, with these links.
    pub(super) fn content(&self, links: Links) -> Content {
        Content {
            kind: self.kind,
            locale: self.locale.clone(),
            facts: self.facts.clone(),
            links,
            asked_at: self.asked_at.minute(),
            again_at: self.again_at.map(Timestamp::minute),
            site: self.site.clone(),
            expires: self.expires.map(Timestamp::minute),
            life: self.expires.map_or(0, |end| end.since(self.date).as_secs()),
        }
    }

    /// Returns the From: the lists' own where they agree on one, else the sender's.
    pub(super) fn from<'a>(&'a self, sender: &'a Sender) -> &'a Mailbox {
        let own = self
            .facts
            .first()
            .and_then(|facts| facts.list.from.as_ref());
        let agreed = self
            .facts
            .iter()
            .all(|facts| facts.list.from.as_ref() == own);
        own.filter(|_| agreed).unwrap_or(&sender.from)
    }

    /// Returns the link that the mail program's own button uses, where the mail has one.
    pub(super) fn one_click(&self) -> Option<&str> {
        match (self.kind, self.links.unsubscribe.as_slice()) {
            (MessageKind::Confirmation, _) => self.links.decline.as_deref(),
            (MessageKind::Goodbye, _) => None,
            (_, [only]) => Some(only),
            _ => None,
        }
    }
}
