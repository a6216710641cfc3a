//! What evidence names by hash: facts, templates, words of consent.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{Sources, Stated};
use super::opened::{Mail, Opened, Request, Wording};
use crate::domain::consent::Hash;
use crate::domain::evidence::Part;
use crate::domain::list::Facts;
use crate::store::{Error, Tx};

/// What evidence names by hash, read once for all records.
pub(super) struct Library {
    bodies: BTreeMap<Hash, String>,
    /// What lists said.
    pub read: BTreeMap<Hash, Facts>,
}

impl Library {
    /// Reads what these events name, and these facts.
    pub async fn read(
        tx: &mut Tx,
        events: &[Opened],
        also: impl Iterator<Item = &Hash>,
    ) -> Result<Self, Error> {
        let named = events.iter().flat_map(|event| Named::by(event).facts);
        let named: BTreeSet<Hash> = named.chain(also.copied()).collect();
        let (mut bodies, mut read) = (BTreeMap::new(), BTreeMap::new());
        for hash in named {
            let body = tx.facts_text(hash).await?;
            let body = body.ok_or_else(|| Error::corrupt("facts of a list are missing"))?;
            let facts = serde_json::from_str(&body);
            let facts = facts.map_err(|_| Error::corrupt("kept facts have another form"))?;
            read.insert(hash, facts);
            bodies.insert(hash, body);
        }
        Ok(Self { bodies, read })
    }

    /// Returns what a record's events name.
    pub async fn sources(
        &self,
        tx: &mut Tx,
        events: &[&Opened],
        stated: &Stated,
    ) -> Result<Sources, Error> {
        let mut sources = Sources::default();
        let named = Named::by_all(events.iter().copied(), stated);
        for hash in named.facts {
            sources
                .facts
                .extend(self.bodies.get(&hash).map(|body| (hash, body.clone())));
        }
        for hash in named.templates {
            let body = tx.template(hash).await?;
            let body = body.ok_or_else(|| Error::corrupt("the template of a mail is missing"))?;
            sources.templates.insert(hash, body);
        }
        for hash in named.texts {
            let body = tx.text_of(hash).await?;
            let body = body.ok_or_else(|| Error::corrupt("words of consent are missing"))?;
            sources.texts.insert(hash, body);
        }
        Ok(sources)
    }
}

/// The hashes that evidence names.
#[derive(Default)]
pub(super) struct Named {
    /// What lists and senders said.
    pub facts: BTreeSet<Hash>,
    /// What mails were made with.
    pub templates: BTreeSet<Hash>,
    /// Words of consent.
    pub texts: BTreeSet<Hash>,
}

impl Named {
    /// Collects them over a record.
    pub fn by_all<'e>(events: impl Iterator<Item = &'e Opened>, stated: &Stated) -> Self {
        let mut all = Self::default();
        all.facts.insert(stated.in_force);
        for one in events.map(Self::by) {
            all.facts.extend(one.facts);
            all.templates.extend(one.templates);
            all.texts.extend(one.texts);
        }
        all
    }

    fn by(event: &Opened) -> Self {
        let mut named = Self::default();
        if let Some(wording) = event.says::<Wording>(Part::Wording) {
            named
                .facts
                .extend(wording.lists.iter().map(|list| list.facts));
            named
                .texts
                .extend(wording.lists.iter().map(|list| list.text_sha256));
            named.texts.extend(wording.reported_sha256);
        }
        if let Some(Mail { mail, .. }) = event.says(Part::Mail) {
            named.facts.extend(&mail.facts);
            named.templates.insert(mail.pinned.template);
        }
        if let Some(request) = event.says::<Request>(Part::Request) {
            named.facts.insert(request.facts);
        }
        named
    }
}
