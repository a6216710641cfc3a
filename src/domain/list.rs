//! Senders and their lists, and the catalog of those in force.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::consent::Hash;
use super::locale::Locale;
use super::mailbox::Mailbox;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
                let bytes = text.as_bytes();
                let begins = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
                if bytes.len() > 63 || !begins || !bytes.iter().all(|b| plain(*b)) {
                    return Err(InvalidName);
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

names! {
    /// The name of a sender in configuration, events and logs.
    SenderId,
    /// The name of a list; unique over the installation.
    ListId,
}

/// The text is not a name of a sender or list.
#[derive(Debug, thiserror::Error)]
#[error("not a name: 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit")]
pub struct InvalidName;

/// The authority to which a person can complain (GDPR, article 13(2)(d)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Its name.
    pub name: String,
    /// Its web address.
    pub url: String,
}

/// The organisation that mails: the GDPR controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// The name in configuration.
    pub id: SenderId,
    /// The legal name.
    pub name: String,
    /// The postal address, on one line.
    pub address: String,
    /// Where a person reaches a human.
    pub contact: String,
    /// The privacy statement.
    pub privacy_url: String,
    /// The supervisory authority.
    pub authority: Authority,
    /// The From of confirmation mails.
    pub from: Mailbox,
    /// Where answers go, if not to From.
    pub reply_to: Option<Mailbox>,
    /// Further lines of the imprint (register number, directors).
    pub imprint: Vec<String>,
    /// The data protection officer.
    pub dpo: Option<String>,
    /// The IANA time zone in which mails and pages write times.
    pub time_zone: String,
    /// The origin of this sender's links, if not the installation's.
    pub public_url: Option<String>,
}

/// How a confirm link acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmBy {
    /// The link opens a page with a button; opening changes nothing.
    #[default]
    Button,
    /// Opening the link confirms: not proof of a human act.
    Link,
}

/// What a list's mails are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Newsletters and offers.
    #[default]
    Marketing,
    /// Something that was asked for once: a freebie is no newsletter.
    Delivery,
}

/// What a new revision of a list's words means for those who agreed to the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The same consent in better words.
    Editorial,
    /// Another consent: who agreed before must be asked again.
    Material,
}

/// One purpose of one sender that a person can join and leave by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The name in configuration.
    pub id: ListId,
    /// Whose list it is.
    pub sender: SenderId,
    /// What people call it, by language.
    pub title: BTreeMap<Locale, String>,
    /// The words of consent, by language.
    pub consent: BTreeMap<Locale, String>,
    /// What stands on the control of the form with which one agrees, by language, where the operator says so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub label: BTreeMap<Locale, String>,
    /// The language for those who ask for one that the list lacks.
    pub default_locale: Locale,
    /// The promised frequency (ISO 8601), as in `P7D`.
    pub frequency: Option<String>,
    /// What its mails are for.
    pub class: Class,
    /// The From of its mails, if not the sender's.
    pub from: Option<Mailbox>,
    /// How its confirm links act.
    pub confirm: ConfirmBy,
    /// How long a confirm link lives, from sending.
    #[serde(with = "seconds")]
    pub link_life: Duration,
    /// Origins of the forms that may name themselves in the mail.
    pub origins: Vec<String>,
    /// Where the result page may lead.
    pub redirects: Vec<String>,
    /// The page where one signs up.
    pub signup_url: Option<String>,
    /// Names of attributes that a signup may carry.
    pub attributes: Vec<String>,
    /// Whether a confirmed subscription is greeted by mail.
    pub welcome: bool,
    /// Whether an unsubscribe on the page is confirmed by mail.
    pub goodbye: bool,
    /// The number of the words in force.
    pub revision: u32,
    /// What this revision means for those who agreed to the one before.
    pub change: Option<Change>,
}

impl List {
    /// Returns the title in a language, or in the list's own.
    pub fn title_in(&self, locale: &Locale) -> &str {
        self.title
            .get(locale)
            .or_else(|| self.title.get(&locale.base()))
            .or_else(|| self.title.get(&self.default_locale))
            .map_or(self.id.as_str(), String::as_str)
    }

    /// Returns the words of consent in a language that the list has.
    pub fn words_in(&self, locale: &Locale) -> Option<&str> {
        self.consent.get(locale).map(String::as_str)
    }

    /// Returns the hash that tells whether title and words are those of a known revision.
    pub fn words_hash(&self) -> Hash {
        let words = serde_json::json!([self.revision, self.title, self.consent]);
        Hash::of(words.to_string().as_bytes())
    }
}

/// Returns the host of a signup's form, only where every list names its origin: else anybody could put any name into a
/// mail. One that no mail can name is not vouched for, either.
pub fn vouched_site<'l>(source: &str, lists: impl IntoIterator<Item = &'l List>) -> Option<String> {
    let url = url::Url::parse(source).ok()?;
    let origin = url.origin().ascii_serialization();
    let known = |list: &List| list.origins.contains(&origin);
    lists
        .into_iter()
        .all(known)
        .then(|| url.host_str().map(str::to_owned))?
        .filter(|host| can_be_named(host))
}

/// Tells whether a mail can name a host: URLs know hosts with an underscore, and with signs that mean something elsewhere.
pub fn can_be_named(host: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
    host.bytes().all(plain)
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.as_secs())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_secs)
    }
}

/// A list and its sender at one moment, kept by hash: what mails, pages and records of that moment say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Whose list it is.
    pub sender: Sender,
    /// The list.
    pub list: List,
}

impl Facts {
    /// Returns the one JSON text of these facts and its hash.
    ///
    /// # Panics
    /// Never: every member has a JSON form.
    pub fn encode(&self) -> (Hash, String) {
        let text = serde_json::to_string(self).expect("facts have a JSON form");
        (Hash::of(text.as_bytes()), text)
    }
}

/// One list of the catalog.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The facts in force.
    pub facts: Arc<Facts>,
    /// Their hash.
    pub hash: Hash,
    /// Taken out of the configuration: no signup, nobody eligible, but its links work.
    pub closed: bool,
}

/// The senders and lists in force.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    senders: BTreeMap<SenderId, Arc<Sender>>,
    lists: BTreeMap<ListId, Entry>,
}

impl Catalog {
    /// Builds a catalog from configured senders and lists.
    ///
    /// A list whose sender is missing is left out; configuration refuses it before.
    pub fn new(senders: Vec<Sender>, lists: Vec<List>) -> Self {
        let senders: BTreeMap<_, _> = senders
            .into_iter()
            .map(|sender| (sender.id.clone(), Arc::new(sender)))
            .collect();
        let lists = lists
            .into_iter()
            .filter_map(|list| {
                let sender = Sender::clone(senders.get(&list.sender)?);
                Some((list.id.clone(), Entry::open(Facts { sender, list })))
            })
            .collect();
        Self { senders, lists }
    }

    /// Adds a list that is not configured here, from the facts that were kept.
    pub fn add(&mut self, facts: Facts, closed: bool) {
        self.senders
            .entry(facts.sender.id.clone())
            .or_insert_with(|| Arc::new(facts.sender.clone()));
        let entry = Entry {
            closed,
            ..Entry::open(facts)
        };
        self.lists.insert(entry.facts.list.id.clone(), entry);
    }

    /// Returns a sender.
    pub fn sender(&self, id: &SenderId) -> Option<&Arc<Sender>> {
        self.senders.get(id)
    }

    /// Returns a list, closed or not.
    pub fn list(&self, id: &ListId) -> Option<&Entry> {
        self.lists.get(id)
    }

    /// Returns all lists by name.
    pub fn lists(&self) -> impl Iterator<Item = &Entry> {
        self.lists.values()
    }

    /// Returns all senders by name.
    pub fn senders(&self) -> impl Iterator<Item = &Arc<Sender>> {
        self.senders.values()
    }

    /// Returns the language of a signup: the first of asked, its base, each list's default, that every list has.
    pub fn locale(&self, lists: &[&Entry], asked: Option<&Locale>) -> Option<Locale> {
        asked
            .into_iter()
            .flat_map(|asked| [asked.clone(), asked.base()])
            .chain(lists.iter().map(|e| e.facts.list.default_locale.clone()))
            .find(|locale| {
                lists
                    .iter()
                    .all(|entry| entry.facts.list.consent.contains_key(locale))
            })
    }
}

impl Entry {
    fn open(facts: Facts) -> Self {
        let (hash, _) = facts.encode();
        Self {
            facts: Arc::new(facts),
            hash,
            closed: false,
        }
    }
}
