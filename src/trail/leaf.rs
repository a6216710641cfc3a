//! The bytes of an event in the trail: written once, hashed, and never written anew.
//!
//! A leaf is one JSON object in the canonical form of RFC 8785: members sorted by name, no space, strings escaped only
//! where JSON must. Members without a value are left out. All numbers are integers.
//!
//! | member | what |
//! |---|---|
//! | `v` | 1: this rule |
//! | `id` | the event, a UUIDv7 |
//! | `type` | what happened, as in `subscription.confirmed` |
//! | `time` | when (RFC 3339, UTC, six decimals) |
//! | `sender`, `list` | their names in configuration |
//! | `subscriber`, `signup`, `message` | their ids; random, so that they say nothing once the rows are gone |
//! | `data` | what else is known, nothing personal |
//! | `evidence` | for each part of the personal facts its commitment, in hexadecimal |
//! | `salt` | 16 random bytes in hexadecimal |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::domain::consent::Hash;
use crate::domain::event::{Event, EventKind, Sequenced};
use crate::domain::evidence::Part;
use crate::domain::hex;
use crate::domain::id::{EventId, MessageId, SignupId, SubscriberId};
use crate::domain::list::{ListId, SenderId};
use crate::domain::time::Timestamp;

const VERSION: u8 = 1;

/// What a leaf says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaf {
    v: u8,
    /// The event.
    pub id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When.
    pub time: Timestamp,
    /// At which sender.
    #[serde(default)]
    pub sender: Option<SenderId>,
    /// On which list.
    #[serde(default)]
    pub list: Option<ListId>,
    /// To whom.
    #[serde(default)]
    pub subscriber: Option<SubscriberId>,
    /// By which signup.
    #[serde(default)]
    pub signup: Option<SignupId>,
    /// With which mail.
    #[serde(default)]
    pub message: Option<MessageId>,
    /// What else is known.
    #[serde(default)]
    pub data: Map<String, Value>,
    /// The commitments to the personal facts.
    #[serde(default)]
    pub evidence: BTreeMap<Part, Hash>,
    salt: String,
}

/// The bytes are no leaf of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a leaf of version {VERSION}: {0}")]
pub struct InvalidLeaf(String);

/// A leaf to be written, its members sorted by name.
#[derive(Serialize)]
struct Written<'e> {
    #[serde(skip_serializing_if = "Members::is_empty")]
    data: Members<'e>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    evidence: BTreeMap<&'static str, Hash>,
    id: EventId,
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<&'e ListId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<MessageId>,
    salt: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<&'e SenderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signup: Option<SignupId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriber: Option<SubscriberId>,
    time: Timestamp,
    r#type: EventKind,
    v: u8,
}

/// Writes an event down as the bytes that the trail hashes.
pub fn encode(event: &Event) -> Vec<u8> {
    let evidence = event.evidence.iter();
    let leaf = Written {
        data: Members(&event.data),
        evidence: evidence
            .map(|e| (e.part.as_str(), e.commitment()))
            .collect(),
        id: event.id,
        list: event.list.as_ref(),
        message: event.message,
        salt: hex::text(&event.salt),
        sender: event.sender.as_ref(),
        signup: event.signup,
        subscriber: event.subscriber,
        time: event.time,
        r#type: event.kind,
        v: VERSION,
    };
    // serde_json escapes strings and writes integers as RFC 8785 does; all this always can be written to memory.
    serde_json::to_vec(&leaf).unwrap_or_default()
}

impl Leaf {
    /// Reads a leaf.
    ///
    /// # Errors
    /// When the bytes are not what [`encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidLeaf> {
        let leaf: Leaf =
            serde_json::from_slice(bytes).map_err(|error| InvalidLeaf(error.to_string()))?;
        match leaf.v {
            VERSION => Ok(leaf),
            other => Err(InvalidLeaf(format!("version {other}"))),
        }
    }

    /// Returns the event with its place in the trail.
    pub fn at(self, seq: i64) -> Sequenced {
        Sequenced {
            seq,
            id: self.id,
            kind: self.kind,
            time: self.time,
            sender: self.sender,
            list: self.list,
            subscriber: self.subscriber,
            signup: self.signup,
            message: self.message,
            data: self.data,
        }
    }
}

/// Members of an object, which are written in the order of their names. These are ASCII here, so that their bytes sort as
/// their UTF-16 does.
struct Members<'v>(&'v Map<String, Value>);

impl Members<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let sorted: BTreeMap<&String, &Value> = self.0.iter().collect();
        to.collect_map(
            sorted
                .into_iter()
                .map(|(name, value)| (name, Sorted(value))),
        )
    }
}

/// A value in which every object is written so.
struct Sorted<'v>(&'v Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => Members(members).serialize(to),
            Value::Array(items) => to.collect_seq(items.iter().map(Sorted)),
            plain => plain.serialize(to),
        }
    }
}
