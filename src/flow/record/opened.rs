//! Events with the facts behind them, read from their bytes: what a record is made from, and what it is checked against.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::document::Proven;
use crate::domain::consent::Hash;
use crate::domain::delivery::Answer;
use crate::domain::event::EventKind;
use crate::domain::evidence::{Evidence, Part};
use crate::domain::id::{EventId, SignupId};
use crate::domain::list::{Facts, ListId};
use crate::domain::locale::Locale;
use crate::message::Proof;
use crate::trail::leaf::Leaf;
use crate::trail::tree::leaf_hash;

/// One event with what is kept of the facts behind it.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its number; none until it has one.
    pub seq: Option<u64>,
    /// The bytes that the trail hashes.
    pub bytes: Vec<u8>,
    /// What they say.
    pub leaf: Leaf,
    /// The facts behind it.
    pub parts: BTreeMap<Part, Evidence>,
}

/// What the words were.
#[derive(Clone, Debug, Deserialize)]
pub struct Wording {
    /// In which language.
    pub locale: Locale,
    /// For each list of the signup.
    pub lists: Vec<ListWords>,
    /// What the form showed, as far as its backend reports it.
    pub reported_sha256: Option<Hash>,
}

/// The words of one list.
#[derive(Clone, Debug, Deserialize)]
pub struct ListWords {
    /// The list.
    pub list: ListId,
    /// What it said.
    pub facts: Hash,
    /// Its words of consent.
    pub text_sha256: Hash,
}

/// The mail.
#[derive(Clone, Debug, Deserialize)]
pub struct Mail {
    /// All that makes its bytes.
    pub mail: Proof,
    /// What the relay answered.
    pub answer: Option<Answer>,
}

/// The request that confirmed.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    /// Which signup.
    pub signup: SignupId,
    /// What the list said at that signup.
    pub facts: Hash,
}

/// The address.
#[derive(Clone, Debug, Deserialize)]
pub struct Given {
    /// As it was given.
    pub email: String,
}

impl Opened {
    /// Reads one event of a record.
    ///
    /// # Errors
    /// What of it cannot be read.
    pub fn read(proven: &Proven) -> Result<Self, String> {
        let name = proven
            .seq
            .map_or("an event".to_owned(), |seq| format!("event {seq}"));
        let leaf = Leaf::decode(&proven.leaf.0);
        let leaf = leaf.map_err(|error| format!("{name}: its leaf is {error}"))?;
        let mut parts = BTreeMap::new();
        for text in &proven.parts {
            let part = text.part.as_str();
            let key = text.key.0.as_slice().try_into();
            let key = key.map_err(|_| {
                format!("{name}: evidence \"{part}\" has a key of another length than 32")
            })?;
            let evidence = Evidence {
                part: text.part,
                key,
                body: text.body.clone(),
            };
            if parts.insert(text.part, evidence).is_some() {
                return Err(format!("{name}: evidence \"{part}\" stands twice"));
            }
        }
        Ok(Self {
            seq: proven.seq,
            bytes: proven.leaf.0.clone(),
            leaf,
            parts,
        })
    }

    /// Returns what a part says; none if it is not there or says it in another form.
    pub fn says<T: DeserializeOwned>(&self, part: Part) -> Option<T> {
        let part = self.parts.get(&part)?;
        serde_json::from_str(&part.body).ok()
    }

    /// Returns what else the leaf says.
    pub fn data(&self, name: &str) -> Option<&str> {
        self.leaf.data.get(name).and_then(Value::as_str)
    }

    /// Returns the lists that the leaf names.
    pub fn lists(&self) -> impl Iterator<Item = &str> {
        let several = self.leaf.data.get("lists").and_then(Value::as_array);
        let several = several.into_iter().flatten().filter_map(Value::as_str);
        self.leaf.list.iter().map(ListId::as_str).chain(several)
    }

    /// Returns the part whose erasure this event says, with the event behind which it was, and why.
    pub fn erases(&self) -> Option<(EventId, Part, &str)> {
        if self.leaf.kind != EventKind::EvidenceErased {
            return None;
        }
        let event = self.data("event")?.parse().ok()?;
        let part = Part::from_name(self.data("part")?)?;
        Some((event, part, self.data("reason")?))
    }

    /// Returns the hash of the leaf.
    pub fn hash(&self) -> Hash {
        leaf_hash(&self.bytes)
    }

    /// Returns how people call the event: by its number, else by its id.
    pub fn name(&self) -> String {
        match self.seq {
            Some(seq) => format!("event {seq}"),
            None => format!("event {}", self.leaf.id),
        }
    }
}

/// Keeps the events that concern a list: those that name it, those of its signups and mails that name no other, and
/// those about the person as a whole.
pub fn concerning<'e>(
    events: &'e [Opened],
    list: &ListId,
    facts: &BTreeMap<Hash, Facts>,
) -> Vec<&'e Opened> {
    let names = |event: &Opened| event.lists().any(|name| name == list.as_str());
    let signups: BTreeSet<SignupId> = events
        .iter()
        .filter(|event| names(event))
        .filter_map(|event| event.leaf.signup)
        .collect();
    let about = |mail: &Mail| {
        let said = mail.mail.facts.iter().filter_map(|hash| facts.get(hash));
        said.into_iter().any(|facts| facts.list.id == *list)
    };
    let concerns = |event: &Opened| {
        if event.lists().next().is_some() {
            return names(event);
        }
        if let Some(mail) = event.says::<Mail>(Part::Mail) {
            return about(&mail);
        }
        match (event.leaf.signup, event.leaf.message) {
            (Some(signup), _) => signups.contains(&signup),
            // A mail of no signup whose evidence is gone says no more to whom it was about.
            (None, Some(_)) => false,
            (None, None) => event.erases().is_none(),
        }
    };
    let kept: BTreeSet<EventId> = events
        .iter()
        .filter(|event| concerns(event))
        .map(|event| event.leaf.id)
        .collect();
    let erases_one = |event: &Opened| event.erases().is_some_and(|(of, _, _)| kept.contains(&of));
    let wanted = |event: &&Opened| kept.contains(&event.leaf.id) || erases_one(event);
    events.iter().filter(wanted).collect()
}
