//! The consent record as a document: what is written into the file that leaves the house.
//!
//! Its first half is a [`Description`] in the shape of ISO/IEC TS 27560, which says in words what the second half proves.
//! Nothing in the description stands alone: all of it is made from the evidence, and verification makes it once more.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize, de};

use super::description::Description;
use crate::domain::consent::Hash;
use crate::domain::evidence::Part;
use crate::domain::id::EventId;
use crate::domain::time::Timestamp;

/// The JSON Schema (2020-12) of [`Records`].
pub const SCHEMA: &str = include_str!("../../../deploy/consent-record.schema.json");
/// The name of that schema.
pub const SCHEMA_NAME: &str = "urn:confirmd:schema:consent-record:1";
/// The JSON-LD context that makes a record DPV; every record carries it, so that nobody must fetch it.
pub const CONTEXT: &str = include_str!("../../../deploy/consent-record.context.jsonld");

/// The whole file: the records of one subscriber, one for each list.
#[derive(Clone, Debug, Serialize)]
pub struct Records {
    /// The name of the schema.
    #[serde(rename = "$schema")]
    pub schema: &'static str,
    /// One for each list.
    pub records: Vec<Record>,
}

/// The whole proof for one subscriber and one list.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// What the evidence shows, in the words of ISO/IEC TS 27560 and DPV.
    #[serde(flatten)]
    pub description: Description,
    /// What the installation says of itself and of this copy; nothing proves it.
    pub stated: Stated,
    /// Every event, oldest first, with the facts behind it.
    pub evidence: Vec<Proven>,
    /// The checkpoint to which the proofs lead; none while there is none.
    pub checkpoint: Option<Checkpoint>,
    /// What evidence names by hash.
    pub sources: Sources,
}

/// What nothing but the installation's word stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// When this copy was made.
    pub generated_at: Timestamp,
    /// The version of confirmd that made it.
    pub confirmd: String,
    /// The origin of the installation's links.
    pub public_url: String,
    /// The facts of the list in force at that time, or when it was closed.
    pub in_force: Hash,
    /// The events that were known then, so that one that is taken out is missed.
    pub events: Vec<EventId>,
}

/// One event with its place in the trail and what is kept of the facts behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// Its number; none until it has one.
    pub seq: Option<u64>,
    /// The exact bytes that the trail hashes.
    pub leaf: Base64,
    /// The facts to which the leaf is committed.
    pub parts: Vec<PartText>,
    /// Those that were erased.
    pub erased: Vec<Erased>,
    /// How its hash leads to the root of the checkpoint.
    pub proof: Inclusion,
}

/// One part of the facts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartText {
    /// Which.
    pub part: Part,
    /// The key of its commitment.
    pub key: Base64,
    /// The exact text.
    pub body: String,
}

/// One part that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    /// Which.
    pub part: Part,
    /// The `evidence.erased` event that says so.
    pub by: EventId,
    /// Why.
    pub reason: String,
}

/// How an event is shown to be in the trail (RFC 6962, section 2.1.1).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Inclusion {
    /// The hashes from the leaf up to the root of the checkpoint.
    Proof {
        /// How long the trail was.
        size: u64,
        /// The siblings on the way.
        hashes: Vec<Base64>,
    },
    /// No checkpoint reaches so far yet.
    Pending(Pending),
}

/// The word for what is not proven yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pending {
    /// The word.
    #[serde(rename = "pending")]
    Pending,
}

/// A signed statement of how long the trail is and what its root is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The signed note, whole.
    pub note: String,
    /// A time stamp over the note (RFC 3161), where one was asked for.
    #[serde(deserialize_with = "present")]
    pub stamp: Option<Base64>,
    /// The keys that verify it, as the installation gives them. Who verifies brings keys that they trust instead.
    pub verifier_keys: Vec<String>,
}

/// Reads a member that says `null` where there is nothing: one that is missing was taken out.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Base64>, D::Error> {
    Option::deserialize(from)
}

/// What evidence names by SHA-256, as exact texts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// What lists and senders said.
    pub facts: BTreeMap<Hash, String>,
    /// What mails were made with.
    pub templates: BTreeMap<Hash, String>,
    /// The words of consent.
    pub texts: BTreeMap<Hash, String>,
}

/// Bytes that stand in JSON as base64 (RFC 4648, section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = BASE64_STANDARD.decode(text);
        bytes.map(Self).map_err(|_| de::Error::custom("not base64"))
    }
}
