//! What a message row says, and the context that its template is given.

use std::sync::Arc;

use super::ComposeError;
use crate::domain::address::Address;
use crate::domain::delivery::MessageKind;
use crate::domain::list::{ConfirmBy, Facts, Mailbox, Sender};
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;
use crate::template::{
    AlreadySubscribed, Confirmation, Goodbye, JoinedList, LeftList, ListFace, Mail, MailTemplate,
    Welcome,
};

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
    /// The host of the signup's page, only where the list vouches for it.
    pub site: Option<String>,
    /// When the confirm link ends; a confirmation needs it.
    pub expires: Option<Timestamp>,
}

/// The links of a mail, ready-made.
#[derive(Clone, Default)]
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
    /// Returns the sender of all lists.
    pub(super) fn sender(&self) -> Result<&Sender, ComposeError> {
        let first = &self.facts.first().ok_or(ComposeError::NoList)?.sender;
        match self.facts.iter().all(|facts| facts.sender.id == first.id) {
            true => Ok(first),
            false => Err(ComposeError::Senders),
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

    /// Renders subject and both parts.
    pub(super) fn render(&self, template: &MailTemplate) -> Result<Mail, ComposeError> {
        let sender = self.sender()?.into();
        let site = self.site.clone();
        let mail = match self.kind {
            MessageKind::Confirmation => {
                let expires = self.expires.ok_or(ComposeError::Missing("expiry"))?;
                template.render(&Confirmation {
                    sender,
                    lists: self.lists().collect::<Result<_, _>>()?,
                    asked_at: self.asked_at,
                    site,
                    expires,
                    life: expires.since(self.date).as_secs(),
                    confirm: self.confirm_by(),
                    confirm_url: needed(&self.links.confirm, "confirm link")?,
                    decline_url: needed(&self.links.decline, "decline link")?,
                })
            }
            MessageKind::AlreadySubscribed => template.render(&AlreadySubscribed {
                sender,
                lists: self.joined()?,
                asked_at: self.asked_at,
                site,
            }),
            MessageKind::Welcome => template.render(&Welcome {
                sender,
                lists: self.joined()?,
                confirmed_at: self.asked_at,
            }),
            MessageKind::Goodbye => template.render(&Goodbye {
                sender,
                lists: self.left(),
                left_at: self.asked_at,
            }),
        };
        mail.map_err(ComposeError::Template)
    }

    /// A link confirms by itself only where it is that of one list, which chose so.
    fn confirm_by(&self) -> ConfirmBy {
        match self.facts.as_slice() {
            [only] => only.list.confirm,
            _ => ConfirmBy::Button,
        }
    }

    fn lists(&self) -> impl Iterator<Item = Result<ListFace, ComposeError>> {
        self.facts.iter().map(|facts| {
            ListFace::new(&facts.list, &self.locale)
                .ok_or_else(|| ComposeError::NoWords(facts.list.id.clone()))
        })
    }

    fn joined(&self) -> Result<Vec<JoinedList>, ComposeError> {
        if self.links.unsubscribe.len() != self.facts.len() {
            return Err(ComposeError::Missing("unsubscribe link for each list"));
        }
        let links = self.links.unsubscribe.iter().cloned();
        self.lists()
            .zip(links)
            .map(|(list, unsubscribe_url)| {
                Ok(JoinedList {
                    list: list?,
                    unsubscribe_url,
                })
            })
            .collect()
    }

    fn left(&self) -> Vec<LeftList> {
        self.facts
            .iter()
            .map(|facts| LeftList {
                title: facts.list.title_in(&self.locale).to_owned(),
                signup_url: facts.list.signup_url.clone(),
            })
            .collect()
    }
}

fn needed(link: &Option<String>, what: &'static str) -> Result<String, ComposeError> {
    link.clone().ok_or(ComposeError::Missing(what))
}
