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
use std::fmt::Write;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::domain::consent::Hash;
use crate::domain::event::{Event, EventKind, Sequenced};
use crate::domain::evidence::Part;
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

/// Writes an event down as the bytes that the trail hashes.
pub fn encode(event: &Event) -> Vec<u8> {
    let evidence = event.evidence.iter();
    let evidence: Map<String, Value> = evidence
        .map(|e| {
            (
                e.part.as_str().to_owned(),
                e.commitment().to_string().into(),
            )
        })
        .collect();
    let salt = event.salt.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let members = [
        ("v", json!(VERSION)),
        ("id", json!(event.id)),
        ("type", json!(event.kind)),
        ("time", json!(event.time)),
        ("sender", json!(event.sender)),
        ("list", json!(event.list)),
        ("subscriber", json!(event.subscriber)),
        ("signup", json!(event.signup)),
        ("message", json!(event.message)),
        ("data", Value::Object(event.data.clone())),
        ("evidence", Value::Object(evidence)),
        ("salt", json!(salt)),
    ];
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    let members = members.into_iter().filter(|(_, value)| !empty(value));
    let members = members.map(|(name, value)| (name.to_owned(), value));
    let mut text = String::with_capacity(512);
    canonical(&Value::Object(members.collect()), &mut text);
    text.into_bytes()
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

/// Writes a value in the form of RFC 8785. Names are ASCII here, so their bytes sort as their UTF-16 does, and numbers
/// are integers.
fn canonical(value: &Value, to: &mut String) {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            let mut before = '{';
            for (name, value) in sorted {
                to.push(before);
                to.push_str(&Value::from(name.as_str()).to_string());
                to.push(':');
                canonical(value, to);
                before = ',';
            }
            if before == '{' {
                to.push('{');
            }
            to.push('}');
        }
        Value::Array(items) => {
            to.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    to.push(',');
                }
                canonical(item, to);
            }
            to.push(']');
        }
        // serde_json escapes strings and writes integers as RFC 8785 does.
        plain => {
            let _ = write!(to, "{plain}");
        }
    }
}
