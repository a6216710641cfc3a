//! What is read of a mail, and the context that its template is given.

use std::sync::Arc;

use super::{ComposeError, Links};
use crate::domain::delivery::MessageKind;
use crate::domain::list::{ConfirmBy, Facts, Sender};
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;
use crate::template::{
    AlreadySubscribed, Confirmation, Goodbye, JoinedList, LeftList, ListFace, Mail, MailTemplate,
    Welcome,
};

/// All that subject and parts of a mail depend on besides their template.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub kind: MessageKind,
    pub locale: Locale,
    pub facts: Vec<Arc<Facts>>,
    pub links: Links,
    /// To the minute.
    pub asked_at: Timestamp,
    /// To the minute.
    pub again_at: Option<Timestamp>,
    pub site: Option<String>,
    /// To the minute.
    pub expires: Option<Timestamp>,
    /// How long the confirm link lives from the date of the mail, in seconds.
    pub life: u64,
}

impl Content {
    /// Renders subject and both parts.
    pub fn render(&self, template: &MailTemplate) -> Result<Mail, ComposeError> {
        let sender = sender(&self.facts)?.into();
        let site = self.site.clone();
        let mail = match self.kind {
            MessageKind::Confirmation => template.render(&Confirmation {
                sender,
                lists: self.lists().collect::<Result<_, _>>()?,
                asked_at: self.asked_at,
                again_at: self.again_at,
                site,
                expires: self.expires.ok_or(ComposeError::Missing("expiry"))?,
                life: self.life,
                confirm: self.confirm_by(),
                confirm_url: needed(&self.links.confirm, "confirm link")?,
                decline_url: needed(&self.links.decline, "decline link")?,
            }),
            MessageKind::AlreadySubscribed => template.render(&AlreadySubscribed {
                sender,
                lists: self.joined()?,
                asked_at: self.asked_at,
                again_at: self.again_at,
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

/// Returns the sender of all lists.
pub(super) fn sender(facts: &[Arc<Facts>]) -> Result<&Sender, ComposeError> {
    let first = &facts.first().ok_or(ComposeError::NoList)?.sender;
    match facts.iter().all(|facts| facts.sender.id == first.id) {
        true => Ok(first),
        false => Err(ComposeError::Senders),
    }
}
