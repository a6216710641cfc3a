//! What mails and pages show of senders and lists.

use serde::Serialize;

use crate::domain::frequency::Frequency;
use crate::domain::list::{Authority, List, Sender};
use crate::domain::locale::Locale;

/// Who is writing.
#[derive(Clone, Debug, Serialize)]
pub struct SenderFace {
    /// The legal name.
    pub name: String,
    /// The postal address.
    pub address: String,
    /// Where a person reaches a human.
    pub contact: String,
    /// The same as a link, where it is an address or a page.
    pub contact_url: Option<String>,
    /// The privacy statement.
    pub privacy_url: String,
    /// The supervisory authority.
    pub authority: Authority,
    /// Further lines of the imprint.
    pub imprint: Vec<String>,
    /// The data protection officer.
    pub dpo: Option<String>,
    /// The IANA time zone in which times are written.
    pub time_zone: String,
}

impl From<&Sender> for SenderFace {
    fn from(sender: &Sender) -> Self {
        let contact = sender.contact.trim();
        let contact_url = match contact {
            _ if contact.starts_with("https://") => Some(contact.to_owned()),
            _ if contact.contains('@') && !contact.contains([' ', '?', '<']) => {
                Some(format!("mailto:{contact}"))
            }
            _ => None,
        };
        Self {
            name: sender.name.clone(),
            address: sender.address.clone(),
            contact: contact.to_owned(),
            contact_url,
            privacy_url: sender.privacy_url.clone(),
            authority: sender.authority.clone(),
            imprint: sender.imprint.clone(),
            dpo: sender.dpo.clone(),
            time_zone: sender.time_zone.clone(),
        }
    }
}

/// One list with the words of consent.
#[derive(Clone, Debug, Serialize)]
pub struct ListFace {
    /// The name that a form sends back.
    pub id: String,
    /// What people call it.
    pub title: String,
    /// The words of consent.
    pub words: String,
    /// The language of title and words.
    pub lang: Locale,
    /// How often it comes.
    pub frequency: Option<Frequency>,
}

impl ListFace {
    /// Takes what a list says in the language of its signup; none where it has no words of consent in it.
    pub fn new(list: &List, locale: &Locale) -> Option<Self> {
        Some(Self {
            id: list.id.to_string(),
            title: list.title_in(locale).to_owned(),
            words: list.words_in(locale)?.to_owned(),
            lang: locale.clone(),
            frequency: list.frequency.as_deref().and_then(Frequency::parse),
        })
    }
}
