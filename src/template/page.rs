//! What each page says: one context per template. All links and form actions come ready-made;
//! they are secrets, so what holds them has no `Debug`.

use serde::Serialize;

use super::face::{ListFace, SenderFace};
use crate::domain::frequency::Frequency;
use crate::domain::time::Timestamp;

/// What one page template is given.
pub trait Page: Serialize {
    /// The template.
    const FILE: &'static str;
}

macro_rules! pages {
    ($($page:ident = $file:literal),+ $(,)?) => {
        $(impl Page for $page { const FILE: &'static str = $file; })+
    };
}

pages! {
    ConfirmPage = "page/confirm.html",
    ConfirmedPage = "page/confirmed.html",
    EndedPage = "page/ended.html",
    DeclinePage = "page/decline.html",
    DeclinedPage = "page/declined.html",
    UnsubscribePage = "page/unsubscribe.html",
    UnsubscribedPage = "page/unsubscribed.html",
    ProblemPage = "page/problem.html",
}

/// Asks for a yes or no: at least one list is open. With one, an empty form confirms it; with several the buttons
/// send `list=<id>` or `list=all`.
#[derive(Clone, Serialize)]
pub struct ConfirmPage {
    /// Who asks.
    pub sender: SenderFace,
    /// The lists that wait for a yes.
    pub open: Vec<ListFace>,
    /// The other lists of the signup.
    pub other: Vec<OtherList>,
    /// When the signup came.
    pub asked_at: Timestamp,
    /// The host of the page on which it was made, where the list vouches for it.
    pub site: Option<String>,
    /// When the link ends.
    pub expires: Timestamp,
    /// Where the yes goes (POST).
    pub confirm_action: String,
    /// The page that asks for the no.
    pub decline_url: String,
}

/// A list of the signup that does not wait.
#[derive(Clone, Serialize)]
pub struct OtherList {
    /// What people call it.
    pub title: String,
    /// Why it does not wait.
    pub state: OtherState,
}

/// Why a list of the signup does not wait for a yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherState {
    /// Confirmed already.
    Confirmed,
    /// The person said no.
    Declined,
    /// Left, objected or erased after asking.
    Ended,
    /// The link's time ran out before.
    Expired,
    /// Not in this mail.
    NotOffered,
    /// Taken out of the configuration.
    Closed,
    /// Confirmed once, and they may not be mailed any more.
    Over,
}

/// Says what was confirmed.
#[derive(Clone, Serialize)]
pub struct ConfirmedPage {
    /// Whose lists they are.
    pub sender: SenderFace,
    /// Whether it happened by this press.
    pub when: Confirmed,
    /// The lists that are confirmed.
    pub lists: Vec<ConfirmedList>,
    /// The lists that still wait, with their buttons.
    pub open: Vec<ListFace>,
    /// The other lists of the signup.
    pub other: Vec<OtherList>,
    /// Where a further yes goes (POST); needed where `open` is not empty.
    pub confirm_action: String,
    /// Where a new mail for what expired can be asked for (POST), if it can.
    pub again_action: Option<String>,
    /// Where the backend wants to lead the person on.
    pub redirect_url: Option<String>,
    /// The receipt, where there is one.
    pub receipt_url: Option<String>,
}

/// Whether a confirm happened by this press.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmed {
    /// By this press.
    Now,
    /// Earlier; nothing changed.
    Before,
}

/// A list that is confirmed.
#[derive(Clone, Serialize)]
pub struct ConfirmedList {
    /// What people call it.
    pub title: String,
    /// How often it comes.
    pub frequency: Option<Frequency>,
    /// Since when, where it was confirmed before.
    pub since: Option<Timestamp>,
    /// The link that ends it.
    pub unsubscribe_url: String,
}

/// Says why a confirm link confirms nothing (any more), and what can be done instead.
///
/// Shows the button of `again_action`; without it the link of `signup_url`; without both an explanation.
#[derive(Clone, Serialize)]
pub struct EndedPage {
    /// Whose lists they are; none where nothing is known any more.
    pub sender: Option<SenderFace>,
    /// Why.
    #[serde(flatten)]
    pub reason: Ended,
    /// The titles of the lists of which that is said.
    pub titles: Vec<String>,
    /// The other lists of the signup.
    pub other: Vec<OtherList>,
    /// Where "send me a new mail" goes (POST).
    pub again_action: Option<String>,
    /// The page where one signs up.
    pub signup_url: Option<String>,
}

/// Why a confirm link confirms nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Ended {
    /// Its time is over. Needs a sender.
    Expired {
        /// When it ended.
        expired_at: Timestamp,
    },
    /// A new mail was just asked for.
    Mailed,
    /// A new mail was asked for, and none is sent: an earlier one's link works. Needs a sender.
    MailedBefore {
        /// When that was sent.
        mailed_at: Timestamp,
    },
    /// A new mail was asked for, and none is sent now.
    NotNow,
    /// The person said no.
    Declined,
    /// Left, objected or erased after asking.
    Ineffective,
    /// The lists were not in this mail.
    NotOffered,
    /// The lists were taken out of the configuration.
    Closed,
    /// Confirmed once, and they may not be mailed any more. Needs a sender.
    Over,
    /// The signature is right, but the signup is gone.
    Unknown,
}

/// Asks for the no. At least one of `open`, `closed` and `subscribed` is not empty. The buttons send `reason=no` and
/// `reason=not_me`.
#[derive(Clone, Serialize)]
pub struct DeclinePage {
    /// Whose lists they are.
    pub sender: SenderFace,
    /// Titles of the lists that wait for a yes.
    pub open: Vec<String>,
    /// Titles of those that were taken out of the configuration meanwhile.
    pub closed: Vec<String>,
    /// Titles of the lists from which a press unsubscribes.
    pub subscribed: Vec<String>,
    /// How long `not_me` holds further confirmation mails, in seconds.
    pub hold: u64,
    /// Where the no goes (POST).
    pub action: String,
}

/// Says what a no did. The buttons send `hold=lift`, `hold=all` and `reason=not_me`.
#[derive(Clone, Serialize)]
pub struct DeclinedPage {
    /// Whose lists they are.
    pub sender: SenderFace,
    /// What this press did.
    pub outcome: Declined,
    /// Titles of the lists that are declined.
    pub declined: Vec<String>,
    /// Titles of the lists that were left.
    pub unsubscribed: Vec<String>,
    /// The hold on confirmation mails, where there is one.
    pub hold: Option<Hold>,
    /// How long `not_me` would hold them, in seconds, where that can still be said.
    pub not_me: Option<u64>,
    /// Where the buttons go (POST); none where this link may not change a hold.
    pub action: Option<String>,
    /// The page where one signs up.
    pub signup_url: Option<String>,
}

/// What a press on the page of the no did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Declined {
    /// Declined or unsubscribed, as the titles say.
    Done,
    /// The person had said no before.
    Already,
    /// Nothing is open any more.
    Nothing,
    /// A new mail was asked for, and the hold keeps it back.
    Held,
    /// The hold was lifted.
    Lifted,
    /// It was changed too often today.
    TooOften,
    /// The hold was extended to every sender.
    Extended,
}

/// A hold on confirmation mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    /// When it ends.
    pub until: Timestamp,
    /// Whether it holds for every sender of the installation.
    pub everywhere: bool,
}

/// Asks for the press that unsubscribes. The button sends `by=page`, which tells it from the mail program's own.
#[derive(Clone, Serialize)]
pub struct UnsubscribePage {
    /// Whose list it is.
    pub sender: SenderFace,
    /// The title of the list.
    pub title: String,
    /// Where the press goes (POST).
    pub action: String,
}

/// Says that the person is unsubscribed.
#[derive(Clone, Serialize)]
pub struct UnsubscribedPage {
    /// Whose list it was; none where nothing is known any more.
    pub sender: Option<SenderFace>,
    /// The title of the list; empty where nothing is known any more.
    pub title: String,
    /// What this press did.
    #[serde(flatten)]
    pub outcome: Unsubscribed,
    /// The page on which one asks by address, where the record is gone and no suppression protects the person.
    pub by_address_url: Option<String>,
    /// The page where one signs up.
    pub signup_url: Option<String>,
}

/// What a press on the unsubscribe page did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Unsubscribed {
    /// In force now. Needs a sender.
    Done {
        /// Whether a goodbye mail follows.
        goodbye: bool,
    },
    /// Was unsubscribed before. Needs a sender.
    Already {
        /// Since when, where it is known.
        since: Option<Timestamp>,
    },
    /// The record was erased or never existed.
    Gone,
}

/// Says why a page cannot be shown.
#[derive(Clone, Serialize)]
pub struct ProblemPage {
    /// The sender, where the address of the page tells it.
    pub sender: Option<SenderFace>,
    /// What is wrong.
    pub problem: Problem,
}

/// Why a page cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Malformed or forged; the page does not say which.
    BadLink,
    /// Another method than the page has.
    Method,
    /// More was sent than is read.
    TooLarge,
    /// Try again later (503).
    Unavailable,
    /// No such page.
    NotFound,
}

impl Problem {
    /// Every problem, in the order of its declaration.
    pub const ALL: [Problem; 5] = [
        Problem::BadLink,
        Problem::Method,
        Problem::TooLarge,
        Problem::Unavailable,
        Problem::NotFound,
    ];
}
