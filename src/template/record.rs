//! What the printed consent record says, in the order in which a court asks. It holds addresses, so it has no `Debug`.

use serde::Serialize;

use super::face::SenderFace;
use super::page::Page;
use crate::domain::consent::Hash;
use crate::domain::event::EventKind;
use crate::domain::frequency::Frequency;
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;

/// The consent records of one subscriber, to be read and printed.
#[derive(Clone, Serialize)]
pub struct RecordPage {
    /// Whose lists they are; none where there is no record.
    pub sender: Option<SenderFace>,
    /// When this copy was made.
    pub generated_at: Timestamp,
    /// One for each list.
    pub records: Vec<RecordFace>,
}

impl Page for RecordPage {
    const FILE: &'static str = "page/record.html";
}

/// One record.
#[derive(Clone, Serialize)]
pub struct RecordFace {
    /// What people call the list.
    pub title: String,
    /// Its name in configuration.
    pub list: String,
    /// The id of the record.
    pub id: String,
    /// The id of the subscriber.
    pub subscriber: String,
    /// The address, unless it was erased.
    pub email: Option<String>,
    /// Where the consent stands: the end of a key `page.record.state_...`.
    pub state: &'static str,
    /// Since when.
    pub since: Timestamp,
    /// On what it rests: the end of a key `page.record.basis_...`.
    pub basis: &'static str,
    /// The promised frequency.
    pub frequency: Option<Frequency>,
    /// The words of consent.
    pub words: String,
    /// Their language.
    pub lang: Locale,
    /// Its name: the end of a key `page.record.language_...`.
    pub language: &'static str,
    /// Their SHA-256.
    pub sha256: Hash,
    /// Their revision.
    pub version: u32,
    /// What the form showed, where its backend says so.
    pub reported: Option<String>,
    /// The privacy statement.
    pub privacy_url: String,
    /// The act: the end of a key `page.record.act_...`.
    pub act: &'static str,
    /// When.
    pub at: Timestamp,
    /// The page or the place.
    pub source: Option<String>,
    /// What the backend's challenge said.
    pub challenge: Option<String>,
    /// What happened to the consent, oldest first.
    pub steps: Vec<StepFace>,
    /// The mails as they were sent, oldest first.
    pub mails: Vec<MailFace>,
    /// Every event, oldest first.
    pub events: Vec<EventFace>,
    /// The signed note to which the proofs lead.
    pub checkpoint: Option<String>,
    /// Whether a time stamp lies over it.
    pub stamped: bool,
    /// The version of confirmd.
    pub confirmd: String,
}

/// One change of the consent.
#[derive(Clone, Serialize)]
pub struct StepFace {
    /// When.
    pub time: Timestamp,
    /// To what: the end of a key `page.record.state_...`.
    pub state: &'static str,
    /// How: the end of a key `page.record.method_...`.
    pub method: &'static str,
}

/// One mail as it was sent, with masked links.
#[derive(Clone, Serialize)]
pub struct MailFace {
    /// Its subject.
    pub subject: String,
    /// When the relay took it.
    pub at: Timestamp,
    /// Headers that people look at.
    pub headers: Vec<HeaderFace>,
    /// Its plain text.
    pub text: String,
    /// The SHA-256 of the bytes as sent.
    pub sha256: Hash,
    /// The SHA-256 of what is shown.
    pub masked_sha256: Hash,
    /// What the relay answered: code and enhanced code.
    pub answer: Option<String>,
}

/// One header.
#[derive(Clone, Serialize)]
pub struct HeaderFace {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

/// One event of the trail.
#[derive(Clone, Serialize)]
pub struct EventFace {
    /// Its number; none until it has one.
    pub seq: Option<u64>,
    /// When.
    pub time: Timestamp,
    /// What: the end of a key `page.record.event_...`.
    pub kind: String,
    /// How: the end of a key `page.record.how_...`, one of [`HOWS`] or `other`.
    pub how: Option<&'static str>,
    /// The hash of its leaf.
    pub hash: Hash,
    /// Whether a proof leads from it to the checkpoint.
    pub proven: bool,
    /// IP address and user agent, as far as they are kept.
    pub network: Option<String>,
    /// Parts of its evidence that were erased.
    pub erased: Vec<ErasedFace>,
}

/// One part of evidence that was erased.
#[derive(Clone, Serialize)]
pub struct ErasedFace {
    /// Which: the end of a key `page.record.part_...`.
    pub part: &'static str,
    /// Why: the end of a key `page.record.reason_...`.
    pub reason: &'static str,
}

/// What an event may say of how it came about, or of what, by its name in the trail.
pub const HOWS: [&str; 11] = [
    "button",
    "link",
    "page",
    "one_click",
    "no",
    "not_me",
    "consent_record",
    "confirmation",
    "already_subscribed",
    "welcome",
    "goodbye",
];

/// Returns the end of the key of an event; those that are never about a subscriber have one in common.
pub fn event_key(kind: EventKind) -> String {
    use EventKind::*;
    match kind {
        KeyCreated | KeyRevoked | KeyringChanged | ListChanged | ListClosed | ClockAccepted
        | TrailEpoch => "other".to_owned(),
        about => about.as_str().replace('.', "_"),
    }
}
