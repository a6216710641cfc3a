//! What each kind of mail says: one context per kind. They hold links, so they have no `Debug`.

use serde::Serialize;

use super::face::{ListFace, SenderFace};
use crate::domain::delivery::MessageKind;
use crate::domain::list::ConfirmBy;
use crate::domain::time::Timestamp;

/// What the templates of one kind of mail are given.
pub trait MailContext: Serialize {
    /// The kind.
    const KIND: MessageKind;

    /// Returns what both parts must show, whatever the templates look like.
    fn required(&self) -> Vec<&str>;
}

/// Asks to confirm a signup. Holds nothing that the signup supplied but the checked host of its page.
#[derive(Clone, Serialize)]
pub struct Confirmation {
    /// Who asks.
    pub sender: SenderFace,
    /// The lists to confirm.
    pub lists: Vec<ListFace>,
    /// When the signup came, to the minute.
    pub asked_at: Timestamp,
    /// When they asked for a new mail instead of an expired one, to the minute.
    pub again_at: Option<Timestamp>,
    /// The host of the page on which it was made, where the list vouches for it.
    pub site: Option<String>,
    /// When the link ends, to the minute.
    pub expires: Timestamp,
    /// How long the link lives from the date of the mail, in seconds.
    pub life: u64,
    /// Whether a page with a button follows or the link itself confirms.
    pub confirm: ConfirmBy,
    /// The confirm link.
    pub confirm_url: String,
    /// The "no" link.
    pub decline_url: String,
}

/// Answers a signup that asked for nothing new.
#[derive(Clone, Serialize)]
pub struct AlreadySubscribed {
    /// Who answers.
    pub sender: SenderFace,
    /// The lists that were asked for.
    pub lists: Vec<JoinedList>,
    /// When the signup came, to the minute.
    pub asked_at: Timestamp,
    /// When they asked for a new mail instead of an expired one, to the minute.
    pub again_at: Option<Timestamp>,
    /// The host of the page on which it was made, where the list vouches for it.
    pub site: Option<String>,
}

/// Greets after a confirm.
#[derive(Clone, Serialize)]
pub struct Welcome {
    /// Who greets.
    pub sender: SenderFace,
    /// The lists that were confirmed.
    pub lists: Vec<JoinedList>,
    /// When they were, to the minute.
    pub confirmed_at: Timestamp,
}

/// Confirms an unsubscribe.
#[derive(Clone, Serialize)]
pub struct Goodbye {
    /// Whose lists they were.
    pub sender: SenderFace,
    /// The lists that were left.
    pub lists: Vec<LeftList>,
    /// When they were, to the minute.
    pub left_at: Timestamp,
}

/// A list to which the person is subscribed.
#[derive(Clone, Serialize)]
pub struct JoinedList {
    /// The list.
    #[serde(flatten)]
    pub list: ListFace,
    /// The link that ends it.
    pub unsubscribe_url: String,
}

/// A list that the person left.
#[derive(Clone, Serialize)]
pub struct LeftList {
    /// What people call it.
    pub title: String,
    /// The page where one signs up.
    pub signup_url: Option<String>,
}

/// Who must be named in every mail (requirements B-03).
fn imprint(sender: &SenderFace) -> impl Iterator<Item = &str> {
    [
        &sender.name,
        &sender.address,
        &sender.contact,
        &sender.privacy_url,
        &sender.authority.url,
    ]
    .into_iter()
    .map(String::as_str)
}

impl MailContext for Confirmation {
    const KIND: MessageKind = MessageKind::Confirmation;

    fn required(&self) -> Vec<&str> {
        let links = [self.confirm_url.as_str(), self.decline_url.as_str()];
        let words = self.lists.iter().map(|list| list.words.as_str());
        imprint(&self.sender).chain(links).chain(words).collect()
    }
}

impl MailContext for AlreadySubscribed {
    const KIND: MessageKind = MessageKind::AlreadySubscribed;

    fn required(&self) -> Vec<&str> {
        imprint(&self.sender).chain(leave(&self.lists)).collect()
    }
}

impl MailContext for Welcome {
    const KIND: MessageKind = MessageKind::Welcome;

    fn required(&self) -> Vec<&str> {
        imprint(&self.sender).chain(leave(&self.lists)).collect()
    }
}

impl MailContext for Goodbye {
    const KIND: MessageKind = MessageKind::Goodbye;

    fn required(&self) -> Vec<&str> {
        imprint(&self.sender).collect()
    }
}

fn leave(lists: &[JoinedList]) -> impl Iterator<Item = &str> {
    lists.iter().map(|list| list.unsubscribe_url.as_str())
}
