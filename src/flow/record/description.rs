//! The fields of ISO/IEC TS 27560 in the form that W3C DPV publishes; each is there, and none is empty.

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::domain::consent::Hash;
use crate::domain::id::EventId;
use crate::domain::list::{Authority, ListId, SenderId};
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;

/// What the evidence shows. The names are those of DPV's form of ISO/IEC TS 27560.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// What the names mean, as JSON-LD.
    #[serde(rename = "@context")]
    pub context: Value,
    /// The type of the document.
    #[serde(rename = "@type")]
    pub kind: &'static str,
    /// The schema of ISO/IEC TS 27560 as W3C DPV publishes it.
    pub schema: &'static str,
    /// How far that goes.
    pub claim: &'static str,
    /// The same for each copy of this record.
    pub record_id: Uuid,
    /// Who agreed.
    pub subject: Subject,
    /// Where it stands: the state of the last event.
    pub status: &'static str,
    /// What the person was told.
    pub notice: Notice,
    /// What for.
    pub purposes: Vec<Purpose>,
    /// Which data.
    pub personal_data: Vec<PersonalData>,
    /// Who mails.
    pub controllers: Vec<Party>,
    /// Who works for them.
    pub processors: Vec<Party>,
    /// Who receives the data.
    pub recipients: Vec<String>,
    /// How the consent was collected.
    pub collection: Collection,
    /// Where the data are, and how long.
    pub storage: Storage,
    /// Under which law (ISO 3166).
    pub jurisdiction: String,
    /// How the person leaves.
    pub withdrawal: Withdrawal,
    /// What the person may ask.
    pub rights: Vec<Right>,
    /// To whom the person can complain.
    pub authority: Authority,
    /// What happened to the consent, oldest first.
    pub events: Vec<Step>,
}

/// Who agreed.
#[derive(Clone, Debug, Serialize)]
pub struct Subject {
    /// The subscriber: random, and nothing without the rows behind it.
    pub id: Uuid,
    /// The address as given, unless it was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// What the person was told.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    /// The privacy statement.
    pub url: String,
    /// The revision of the words.
    pub version: u32,
    /// In which language.
    pub language: Locale,
    /// The words that mail and page showed.
    pub text: String,
    /// Their SHA-256.
    pub sha256: Hash,
    /// When the person saw them.
    pub shown_at: Timestamp,
    /// What the form is known to have shown.
    pub at_signup: AtSignup,
}

/// Which words a form showed, as its backend reports it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "words", rename_all = "snake_case")]
pub enum AtSignup {
    /// Words at signup not reported: the record rests on those of mail and page.
    NotReported,
    /// These.
    Reported {
        /// Their SHA-256.
        sha256: Hash,
        /// The words.
        text: String,
    },
}

/// What for.
#[derive(Clone, Debug, Serialize)]
pub struct Purpose {
    /// The list.
    pub id: ListId,
    /// What people call it.
    pub text: String,
    /// Its type in DPV, where there is one.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// On what it rests (GDPR, article 6).
    pub legal_basis: &'static str,
    /// The promised frequency (ISO 8601).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency: Option<String>,
    /// How it comes.
    pub channel: &'static str,
}

/// Which data.
#[derive(Clone, Debug, Serialize)]
pub struct PersonalData {
    /// Its type in DPV.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether the purpose can do without.
    pub optional: bool,
    /// Whether it is of a special category (GDPR, article 9).
    pub special: bool,
}

/// An organisation and its role.
#[derive(Clone, Debug, Serialize)]
pub struct Party {
    /// Its name in configuration.
    pub id: SenderId,
    /// Its legal name.
    pub name: String,
    /// Its postal address.
    pub address: String,
    /// Where a person reaches a human.
    pub contact: String,
    /// Its page.
    pub url: String,
    /// Its role (GDPR, article 4).
    pub role: &'static str,
    /// The same in DPV.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What is to be known of this entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// How the consent was collected.
#[derive(Clone, Debug, Serialize)]
pub struct Collection {
    /// The act: `checkbox`, `button`, `form`, `oral`, `paper`; or `unknown` where the facts are erased.
    pub method: String,
    /// The act in words.
    pub act: &'static str,
    /// What stood on the control, as the list said then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_label: Option<String>,
    /// When.
    pub at: Timestamp,
    /// The page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_url: Option<String>,
    /// The place, where there was no page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What the backend's challenge said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// Who wrote it down.
    pub recorder: SenderId,
}

/// Where the data are, and how long.
#[derive(Clone, Debug, Serialize)]
pub struct Storage {
    /// Where.
    pub locations: Vec<String>,
    /// How long.
    pub retention: Retention,
}

/// How long the proof is kept.
#[derive(Clone, Debug, Serialize)]
pub struct Retention {
    /// The rule.
    pub rule: &'static str,
}

/// How the person leaves.
#[derive(Clone, Debug, Serialize)]
pub struct Withdrawal {
    /// The page that says how: a link that unsubscribes is a secret of the person's mails.
    pub url: String,
    /// Whether mail programs have a button for it (RFC 8058).
    pub one_click: bool,
    /// Where a person reaches a human.
    pub contact: String,
    /// All ways, in words.
    pub text: &'static str,
}

/// What the person may ask.
#[derive(Clone, Debug, Serialize)]
pub struct Right {
    /// The article of the GDPR.
    pub right: &'static str,
    /// Where.
    pub url: String,
}

/// One change of the consent.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The event that shows it.
    pub id: EventId,
    /// When.
    pub time: Timestamp,
    /// What the consent became, in DPV.
    pub state: &'static str,
    /// How explicit it was, in DPV.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Who did it: `subject`, `controller` or `processor`.
    pub by: &'static str,
    /// How.
    pub method: String,
    /// How long it holds.
    pub valid_for: Validity,
}

/// How long a state holds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Validity {
    /// Its type in DPV.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What ends it.
    pub until: &'static str,
}
