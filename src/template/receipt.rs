//! What a receipt says, and what is said where there is none.

use serde::Serialize;

use super::face::{ListFace, SenderFace};
use super::page::Page;
use crate::domain::consent::{Action, Hash};
use crate::domain::list::{Class, ConfirmBy};
use crate::domain::locale::Locale;
use crate::domain::receipt::{Ended, NotAgreed};
use crate::domain::time::Timestamp;

/// Shows what a person agreed to by one signup. At least one list was.
#[derive(Clone, Serialize)]
pub struct ReceiptPage {
    /// Whom to turn to now.
    pub sender: SenderFace,
    /// Who asked, as it was then.
    pub asked_by: SenderFace,
    /// The id of the signup.
    pub id: String,
    /// When the person asked.
    pub asked_at: Timestamp,
    /// When that reached us, where it is another time.
    pub received_at: Option<Timestamp>,
    /// When the person asked for a new mail instead of an expired one.
    pub again_at: Option<Timestamp>,
    /// The act.
    pub action: Action,
    /// Where it happened, as reported: shown, never a link.
    pub source: String,
    /// The confirmation mail, while its record is kept.
    pub mailed: Option<ReceiptMail>,
    /// What was agreed to.
    pub agreed: Vec<AgreedList>,
    /// The other lists of the signup.
    pub other: Vec<NotAgreedList>,
}

impl Page for ReceiptPage {
    const FILE: &'static str = "page/receipt.html";
}

/// The confirmation mail.
#[derive(Clone, Serialize)]
pub struct ReceiptMail {
    /// When it was sent, or else when it was made.
    pub at: Timestamp,
    /// Whether the relay is known to have taken it.
    pub taken: bool,
}

/// A list that was agreed to.
#[derive(Clone, Serialize)]
pub struct AgreedList {
    /// The list as it was then.
    pub list: ListFace,
    /// The SHA-256 of its words.
    pub sha256: Hash,
    /// Other words that the form showed.
    pub other_words: Option<OtherWords>,
    /// Whether the form reported any words of this list.
    pub reported: bool,
    /// What its mails are for.
    pub purpose: Class,
    /// When it was confirmed.
    pub confirmed_at: Timestamp,
    /// How, where it is known.
    pub by: Option<ConfirmBy>,
    /// When and how this consent ended.
    pub ended: Option<Ended>,
    /// Since when the person is subscribed now.
    pub subscribed_since: Option<Timestamp>,
    /// Whether they may be mailed now.
    pub eligible: bool,
    /// Since when processing is restricted.
    pub restricted_at: Option<Timestamp>,
    /// Whether the list no longer exists.
    pub closed: bool,
    /// The link that ends it, where there is something to end.
    pub unsubscribe_url: Option<String>,
}

/// Words that the form showed instead of those of mail and page.
#[derive(Clone, Serialize)]
pub struct OtherWords {
    /// The words.
    pub words: String,
    /// Their language.
    pub lang: Locale,
    /// Their SHA-256.
    pub sha256: Hash,
}

/// A list of the signup that was not agreed to.
#[derive(Clone, Serialize)]
pub struct NotAgreedList {
    /// What people call it.
    pub title: String,
    /// Why not.
    pub why: NotAgreed,
}

/// Says that nothing was agreed to by a signup.
#[derive(Clone, Serialize)]
pub struct NoReceiptPage {
    /// Who asked.
    pub sender: SenderFace,
    /// The reason that tells most.
    pub why: NotAgreed,
    /// The titles of the lists for which it holds.
    pub titles: Vec<String>,
    /// When the person asked.
    pub asked_at: Timestamp,
    /// The other lists of the signup.
    pub other: Vec<NotAgreedList>,
}

impl Page for NoReceiptPage {
    const FILE: &'static str = "page/no_receipt.html";
}
