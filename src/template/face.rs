//! What mails and pages show of senders and lists.

use serde::{Deserialize, Serialize};

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

/// A promised frequency that has words in every language: every so many of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frequency {
    /// How many units lie between two mails.
    pub count: u32,
    /// The unit.
    pub unit: Unit,
}

/// A unit of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Days.
    Day,
    /// Weeks.
    Week,
    /// Months.
    Month,
    /// Years.
    Year,
}

impl Unit {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Year => "year",
        }
    }
}

impl Frequency {
    /// Reads an ISO 8601 span of one unit (`P7D`, `P2W`, `P1M`); whole weeks of days become weeks.
    ///
    /// None for spans of several units, or of hours: configuration refuses them with this.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_prefix('P')?;
        let (number, letter) = number.split_at_checked(number.len().checked_sub(1)?)?;
        let count: u32 = number.parse().ok().filter(|count| *count > 0)?;
        let (count, unit) = match letter {
            "D" if count.is_multiple_of(7) => (count / 7, Unit::Week),
            "D" => (count, Unit::Day),
            "W" => (count, Unit::Week),
            "M" => (count, Unit::Month),
            "Y" => (count, Unit::Year),
            _ => return None,
        };
        Some(Self { count, unit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_have_one_unit() {
        let read = |text| Frequency::parse(text).map(|f| (f.count, f.unit));
        assert_eq!(read("P7D"), Some((1, Unit::Week)));
        assert_eq!(read("P2W"), Some((2, Unit::Week)));
        assert_eq!(read("P80D"), Some((80, Unit::Day)));
        assert_eq!(read("P1M"), Some((1, Unit::Month)));
        for odd in [
            "P1M2D", "PT5H", "P1DT1H", "P0D", "-P7D", "P", "P7", "PD", "weekly",
        ] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }
}
