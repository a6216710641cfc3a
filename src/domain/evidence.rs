//! Evidence: the personal facts behind an event, in parts that can be erased one by one.
//!
//! The event itself holds no fact, only a commitment to each part: HMAC-SHA-256 under a random key that is kept with the
//! part. Whoever has the part can check that it is the one; once part and key are gone, the commitment tells nothing,
//! not even to somebody who guesses the fact.

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use super::consent::Hash;

named! {
    /// Which personal facts a part holds.
    #[derive(PartialOrd, Ord)]
    Part {
        /// The address as it was given.
        Address = "address",
        /// The words and the language, and what the lists said.
        Wording = "wording",
        /// The act, the page or place, the time, as the signup's backend reports them.
        Form = "form",
        /// The mail: all that makes its bytes, their hashes, and the relay's answer.
        Mail = "mail",
        /// The request that confirmed.
        Request = "request",
        /// IP address and user agent, as far as the policy keeps them.
        Network = "network",
    }
}

/// One part, as it is kept beside the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Which facts.
    pub part: Part,
    /// The key of its commitment.
    pub key: [u8; 32],
    /// The facts, as one JSON text that is never written anew.
    pub body: String,
}

impl Evidence {
    /// Takes facts; `key` is random.
    pub fn new(part: Part, key: [u8; 32], facts: &impl Serialize) -> Self {
        // Facts are structs and texts, which always can be written to memory.
        let body = serde_json::to_string(facts).unwrap_or_default();
        Self { part, key, body }
    }

    /// Returns what the event says about this part: HMAC-SHA-256 with its key over `confirmd evidence v1`, a line feed,
    /// the name of the part, a line feed, and the body.
    ///
    /// # Panics
    /// Never: HMAC takes keys of every length.
    pub fn commitment(&self) -> Hash {
        let mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of every length");
        let mac = mac
            .chain_update(b"confirmd evidence v1\n")
            .chain_update(self.part.as_str())
            .chain_update(b"\n")
            .chain_update(&self.body);
        Hash(mac.finalize().into_bytes().into())
    }
}
