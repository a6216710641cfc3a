//! Checks a record with nothing else at hand than keys that the reader trusts.
//!
//! Checked is that every event is in the trail under the checkpoint, that every fact is the one that its event is
//! committed to, that what was erased was erased by an event, that the mails can be made again, and that the description
//! says what the evidence shows. Not to be checked from a record is whether later events were left out of it: only the
//! whole trail shows that.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::describe::{Basis, describe};
use super::document::{Checkpoint, Inclusion, Proven, Sources, Stated};
use super::opened::{Opened, concerning};
use super::sources::Named;
use super::story::Story;
use crate::domain::consent::Hash;
use crate::domain::id::SubscriberId;
use crate::domain::list::{Facts, ListId};
use crate::trail::tree::verify_inclusion;

/// What a record shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// For which list.
    pub list: ListId,
    /// Whose.
    pub subscriber: SubscriberId,
    /// How many events it has.
    pub events: usize,
    /// How many of these no checkpoint covers: they stand on the installation's word.
    pub pending: usize,
    /// How many mails were made again.
    pub mails: usize,
    /// The size of the trail under its checkpoint.
    pub checkpoint: Option<u64>,
}

/// The first thing in a file that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", record.as_ref().map_or(String::new(), |record| format!("record {record}: ")))]
pub struct Broken {
    /// Which record of the file, from 1; none if the file is none.
    pub record: Option<usize>,
    /// What, and where.
    pub what: String,
}

/// Checks every record of a file. `open` checks the signature of a checkpoint with the reader's own keys and returns its
/// size and root.
///
/// # Errors
/// The first thing that does not hold.
pub fn verify(
    text: &str,
    open: impl Fn(&str) -> Result<(u64, Hash), String>,
) -> Result<Vec<Verified>, Broken> {
    let none = |what: &str| Broken {
        record: None,
        what: what.to_owned(),
    };
    let file: Value = serde_json::from_str(text).map_err(|_| none("the file is not JSON"))?;
    let Value::Object(mut file) = file else {
        return Err(none("the file is no object"));
    };
    let Some(Value::Array(records)) = file.remove("records") else {
        return Err(none("records is missing"));
    };
    if records.is_empty() {
        return Err(none("records is empty"));
    }
    let mut verified = Vec::with_capacity(records.len());
    for (i, record) in records.into_iter().enumerate() {
        let broken = |what| Broken {
            record: Some(i + 1),
            what,
        };
        let Value::Object(record) = record else {
            return Err(broken("is no object".to_owned()));
        };
        verified.push(one(record, &open).map_err(broken)?);
    }
    Ok(verified)
}

fn one(
    mut record: Map<String, Value>,
    open: &impl Fn(&str) -> Result<(u64, Hash), String>,
) -> Result<Verified, String> {
    let stated: Stated = read("stated", take(&mut record, "stated")?)?;
    let checkpoint: Option<Checkpoint> = read("checkpoint", take(&mut record, "checkpoint")?)?;
    let sources: Sources = read("sources", take(&mut record, "sources")?)?;
    let Value::Array(evidence) = take(&mut record, "evidence")? else {
        return Err("evidence is no array".to_owned());
    };
    let evidence = evidence.into_iter().enumerate();
    let evidence = evidence.map(|(i, one)| read(&format!("evidence[{i}]"), one));
    let evidence: Vec<Proven> = evidence.collect::<Result<_, _>>()?;
    let events = evidence.iter().map(Opened::read);
    let events: Vec<Opened> = events.collect::<Result<_, _>>()?;

    for (event, proven) in events.iter().zip(&evidence) {
        facts_behind(event, proven, &events)?;
    }
    all_stated(&events, &stated)?;
    let named = Named::by_all(events.iter(), &stated);
    complete("facts", &sources.facts, &named.facts)?;
    complete("template", &sources.templates, &named.templates)?;
    complete("text", &sources.texts, &named.texts)?;
    let root = match &checkpoint {
        Some(checkpoint) => {
            Some(open(&checkpoint.note).map_err(|why| format!("checkpoint: {why}"))?)
        }
        None => None,
    };
    let mut pending = 0;
    for (event, proven) in events.iter().zip(&evidence) {
        pending += usize::from(!included(event, proven, root)?);
    }

    in_order(&events)?;

    let mut facts = BTreeMap::new();
    for (hash, text) in &sources.facts {
        let read: Facts = serde_json::from_str(text)
            .map_err(|_| format!("source facts {hash} cannot be read"))?;
        facts.insert(*hash, read);
    }
    let (subscriber, list) = about(&events, &record)?;
    let all = concerning(&events, &list, &facts);
    if let Some(stranger) = events
        .iter()
        .find(|e| !all.iter().any(|one| one.leaf.id == e.leaf.id))
    {
        return Err(format!(
            "{}: does not concern list {list}, which purposes names",
            stranger.name()
        ));
    }
    let story = Story {
        list: &list,
        events: &all,
        facts: &facts,
        sources: &sources,
    };
    story.check()?;
    let description = describe(&Basis {
        stated: &stated,
        list: &list,
        subscriber,
        events: &all,
        facts: &facts,
        texts: &sources.texts,
    });
    let expected = description.map_err(|error| error.to_string())?;
    let expected = serde_json::to_value(expected).map_err(|error| error.to_string())?;
    if let Some(what) = difference("", &expected, &Value::Object(record)) {
        return Err(what);
    }
    Ok(Verified {
        mails: story.mails()?,
        subscriber,
        events: events.len(),
        pending,
        checkpoint: root.map(|(size, _)| size),
        list,
    })
}

fn take(record: &mut Map<String, Value>, name: &str) -> Result<Value, String> {
    record
        .remove(name)
        .ok_or_else(|| format!("{name} is missing"))
}

fn read<T: serde::de::DeserializeOwned>(name: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| format!("{name}: {error}"))
}

/// Every commitment has its part or the event that erased it, nothing stands beside, and what is proven has a number.
fn facts_behind(event: &Opened, proven: &Proven, all: &[Opened]) -> Result<(), String> {
    let name = event.name();
    if let (None, Inclusion::Proof { .. }) = (event.seq, &proven.proof) {
        return Err(format!("{name}: seq is missing"));
    }
    for (part, commitment) in &event.leaf.evidence {
        let part_name = part.as_str();
        let erased = proven.erased.iter().find(|erased| erased.part == *part);
        match (event.parts.get(part), erased) {
            (Some(_), Some(_)) => {
                return Err(format!(
                    "{name}: evidence \"{part_name}\" is said to be erased and is there"
                ));
            }
            (Some(kept), None) if kept.commitment() != *commitment => {
                return Err(format!(
                    "{name}: evidence \"{part_name}\" is not what the event is committed to"
                ));
            }
            (Some(_), None) => {}
            (None, None) => return Err(format!("{name}: evidence \"{part_name}\" is missing")),
            (None, Some(erased)) => {
                let by = all.iter().find(|one| one.leaf.id == erased.by);
                let says = by.and_then(Opened::erases);
                if says != Some((event.leaf.id, *part, erased.reason.as_str())) {
                    return Err(format!(
                        "{name}: the event that erased evidence \"{part_name}\" is missing or says otherwise"
                    ));
                }
            }
        }
    }
    let committed = |part| event.leaf.evidence.contains_key(part);
    let parts = event
        .parts
        .keys()
        .chain(proven.erased.iter().map(|erased| &erased.part));
    match parts.into_iter().find(|part| !committed(part)) {
        Some(part) => Err(format!(
            "{name}: evidence \"{}\" is not of this event",
            part.as_str()
        )),
        None => Ok(()),
    }
}

/// Numbers rise, what has none comes last, and no event stands twice.
fn in_order(events: &[Opened]) -> Result<(), String> {
    let mut ids = BTreeSet::new();
    let mut last = Some(0);
    for event in events {
        let rises = match (last, event.seq) {
            (Some(last), Some(seq)) => seq > last,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        if !rises || !ids.insert(event.leaf.id) {
            return Err(format!("{}: is not in its order", event.name()));
        }
        last = event.seq;
    }
    Ok(())
}

/// The events are those that the copy was made of.
fn all_stated(events: &[Opened], stated: &Stated) -> Result<(), String> {
    let there = |id| events.iter().any(|event| event.leaf.id == id);
    if let Some(missing) = stated.events.iter().find(|id| !there(**id)) {
        return Err(format!("event {missing} is missing"));
    }
    match events
        .iter()
        .find(|event| !stated.events.contains(&event.leaf.id))
    {
        Some(stranger) => Err(format!("{}: is missing in stated.events", stranger.name())),
        None => Ok(()),
    }
}

/// Every source that is named is there, and is what its name says.
fn complete(
    kind: &str,
    sources: &BTreeMap<Hash, String>,
    named: &BTreeSet<Hash>,
) -> Result<(), String> {
    if let Some(missing) = named.iter().find(|hash| !sources.contains_key(hash)) {
        return Err(format!("source {kind} {missing} is missing"));
    }
    for (hash, text) in sources {
        if Hash::of(text.as_bytes()) != *hash {
            return Err(format!("source {kind} {hash} has another hash"));
        }
        if !named.contains(hash) {
            return Err(format!("source {kind} {hash} is named by nothing"));
        }
    }
    Ok(())
}

/// Tells whether an event is shown to be in the trail; no checkpoint may reach that far yet.
fn included(event: &Opened, proven: &Proven, root: Option<(u64, Hash)>) -> Result<bool, String> {
    let name = event.name();
    match (&proven.proof, root, event.seq) {
        (Inclusion::Pending(_), Some((size, _)), Some(seq)) if seq <= size => Err(format!(
            "{name}: its proof is missing; the checkpoint covers it"
        )),
        (Inclusion::Pending(_), _, _) | (_, _, None) => Ok(false),
        (Inclusion::Proof { .. }, None, _) => Err("checkpoint is missing".to_owned()),
        (Inclusion::Proof { size, hashes }, Some((covered, root)), Some(seq)) => {
            if *size != covered {
                return Err(format!(
                    "{name}: its proof is for a trail of {size}, the checkpoint for one of {covered}"
                ));
            }
            let hashes = hashes
                .iter()
                .map(|hash| hash.0.as_slice().try_into().map(Hash));
            let hashes: Result<Vec<Hash>, _> = hashes.collect();
            let hashes = hashes.map_err(|_| format!("{name}: its proof holds what is no hash"))?;
            let leaf = event.hash();
            match verify_inclusion(leaf, seq.wrapping_sub(1), covered, &hashes, root) {
                true => Ok(true),
                false => Err(format!(
                    "{name}: leaf and proof do not lead to the root of the checkpoint"
                )),
            }
        }
    }
}

/// Returns whom and which list the record is about: one person, one sender.
fn about(events: &[Opened], record: &Map<String, Value>) -> Result<(SubscriberId, ListId), String> {
    let first = events.first().ok_or("evidence holds no event")?;
    let subscriber = first.leaf.subscriber;
    for event in events {
        if event.leaf.subscriber != subscriber || event.leaf.sender != first.leaf.sender {
            return Err(format!("{}: is about somebody else", event.name()));
        }
    }
    let list = record.get("purposes").ok_or("purposes is missing")?.get(0);
    let list = list.ok_or("purposes[0] is missing")?.get("id");
    let list = list.ok_or("purposes[0].id is missing")?.as_str();
    let list = list.and_then(|list| list.parse().ok());
    Ok((
        subscriber.ok_or("the events are about nobody")?,
        list.ok_or("purposes[0].id is no list")?,
    ))
}

/// Names the first place where a document is not what it must be.
fn difference(path: &str, expected: &Value, given: &Value) -> Option<String> {
    let at = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match (expected, given) {
        (Value::Object(expected), Value::Object(given)) => {
            let differs = |(name, value): (&String, &Value)| match given.get(name) {
                Some(given) => difference(&at(name), value, given),
                None => Some(format!("{} is missing", at(name))),
            };
            let found = expected.iter().find_map(differs);
            let stranger = || given.keys().find(|name| !expected.contains_key(*name));
            found.or_else(|| stranger().map(|name| format!("{} stands on no evidence", at(name))))
        }
        (Value::Array(expected), Value::Array(given)) => {
            let differs = |i: usize| match (expected.get(i), given.get(i)) {
                (Some(expected), Some(given)) => {
                    difference(&format!("{path}[{i}]"), expected, given)
                }
                (Some(_), None) => Some(format!("{path}[{i}] is missing")),
                _ => Some(format!("{path}[{i}] stands on no evidence")),
            };
            (0..expected.len().max(given.len())).find_map(differs)
        }
        (expected, given) if expected == given => None,
        _ => Some(format!("{path} is not what the evidence shows")),
    }
}
