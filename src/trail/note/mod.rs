//! Checkpoints: the signed word of how many events there were, and what the root of their tree was.
//!
//! ```text
//! lists.acme.example/confirmd                         origin: the log, and the name of its key
//! 20852163                                            size
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=        root
//! time 2026-11-23T12:00:00.000000Z                    when it was signed
//!
//! — lists.acme.example/confirmd Az3grlgtzPICa5OS...   key id and Ed25519 signature over all lines above the empty one
//! ```
//!
//! This is a [C2SP signed note](https://c2sp.org/signed-note) with the text of a
//! [C2SP checkpoint](https://c2sp.org/tlog-checkpoint). The time is an extension line, which the latter allows; there is
//! no other. Each line has one spelling only. Witnesses may add signature lines; they are not asked for.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::domain::consent::Hash;
use crate::domain::time::Timestamp;

/// What C2SP calls an Ed25519 key that signs notes.
const ED25519_NOTE: u8 = 1;
/// More signatures are not looked at; C2SP asks for 16 at least.
const MOST_SIGNATURES: usize = 100;

/// A key that signs checkpoints.
pub struct Signer {
    pair: Ed25519KeyPair,
    verifier: Verifier,
}

impl Signer {
    /// Takes the 32 secret bytes of RFC 8032, section 5.1.5, from which the public key follows.
    ///
    /// # Errors
    /// When the origin cannot be the name of a key.
    pub fn new(origin: &str, seed: &[u8; 32]) -> Result<Self, InvalidKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| InvalidKey::Seed)?;
        let public_key = pair.public_key().as_ref().try_into();
        let public_key = public_key.map_err(|_| InvalidKey::Seed)?;
        let verifier = Verifier::new(origin, public_key)?;
        Ok(Self { pair, verifier })
    }

    /// Returns the public half, for everybody.
    pub fn verifier(&self) -> Verifier {
        self.verifier.clone()
    }

    /// Signs the text of a note: the line that goes below.
    fn line(&self, text: &str) -> String {
        let mut bytes = self.verifier.id.to_vec();
        bytes.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("— {} {}\n", self.verifier.name, BASE64.encode(bytes))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer of {}", self.verifier)
    }
}

/// A public key under its name, written `name+key id+base64` (C2SP calls it a vkey).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    id: [u8; 4],
    public_key: [u8; 32],
}

impl Verifier {
    /// Names a public key.
    ///
    /// # Errors
    /// When this cannot be the name of a key.
    pub fn new(name: &str, public_key: [u8; 32]) -> Result<Self, InvalidKey> {
        if !is_name(name) {
            return Err(InvalidKey::Name);
        }
        let named = [name.as_bytes(), &[b'\n', ED25519_NOTE], &public_key].concat();
        let [a, b, c, d, ..] = Hash::of(&named).0;
        Ok(Self {
            name: name.to_owned(),
            id: [a, b, c, d],
            public_key,
        })
    }

    /// Returns its name, which is the origin of its checkpoints.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the public key (RFC 8032, section 5.1.5).
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    fn verify(&self, text: &str, signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.public_key);
        key.verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519_NOTE], self.public_key.as_slice()].concat();
        let id = u32::from_be_bytes(self.id);
        write!(f, "{}+{id:08x}+{}", self.name, BASE64.encode(key))
    }
}

impl FromStr for Verifier {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        // Base64 has the plus, too.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(InvalidKey::Form);
        };
        let bytes = BASE64.decode(key).map_err(|_| InvalidKey::Form)?;
        let (kind, key) = bytes.split_first().ok_or(InvalidKey::Form)?;
        if *kind != ED25519_NOTE {
            return Err(InvalidKey::Kind);
        }
        let key = key.try_into().map_err(|_| InvalidKey::Form)?;
        let verifier = Self::new(name, key)?;
        // One spelling, and with it the right id.
        if verifier.to_string() != text {
            return Err(InvalidKey::Id);
        }
        Ok(verifier)
    }
}

/// The key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// The name.
    #[error(
        "not the name of a key: it must not be empty nor hold spaces, pluses or control characters"
    )]
    Name,
    /// The shape of a vkey.
    #[error("not a key: write it as name+12345678+base64")]
    Form,
    /// The kind of key.
    #[error("not an Ed25519 key that signs notes")]
    Kind,
    /// The key id.
    #[error("the key does not have this id, or is written in another way than signers write it")]
    Id,
    /// The secret.
    #[error("the seed makes no Ed25519 key")]
    Seed,
}

fn is_name(text: &str) -> bool {
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !text.is_empty() && !text.contains(forbidden)
}

/// How many events there were, and what the root of their tree was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log: the name of the key that signs.
    pub origin: String,
    /// How many events.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Hash,
    /// When it was signed.
    pub time: Timestamp,
}

impl Checkpoint {
    /// Writes what is signed.
    pub fn text(&self) -> String {
        let Self {
            origin,
            size,
            time,
            root,
        } = self;
        let root = BASE64.encode(root.0);
        format!("{origin}\n{size}\n{root}\ntime {time}\n")
    }

    /// Writes the note; its origin must be the signer's name, or nobody opens it.
    pub fn sign(&self, signer: &Signer) -> String {
        let text = self.text();
        format!("{text}\n{}", signer.line(&text))
    }

    /// Reads a note that one of these keys signed, under the name that the checkpoint has as its origin.
    ///
    /// Signatures by other keys are not looked at, unless they are malformed.
    ///
    /// # Errors
    /// When a line is malformed, a signature by one of the keys is not good, or there is none by them.
    pub fn open(note: &str, verifiers: &[Verifier]) -> Result<Self, NoteError> {
        let (checkpoint, signatures) = Self::read(note)?;
        let text = checkpoint.text();
        let (mut good, mut unknown) = (false, Vec::new());
        for Signature { name, id, bytes } in signatures {
            let is_it = |key: &&Verifier| key.name == name && key.id == id;
            let mut known = verifiers.iter().filter(is_it).peekable();
            let signer = format!("{name}+{:08x}", u32::from_be_bytes(id));
            if known.peek().is_none() {
                unknown.push(signer);
            } else if !known.any(|key| key.verify(&text, &bytes)) {
                return Err(NoteError::BadSignature(signer));
            } else {
                good |= name == checkpoint.origin;
            }
        }
        if !good {
            let signers = unknown.join(", ");
            return Err(NoteError::UnknownKey(signers));
        }
        Ok(checkpoint)
    }

    /// Reads a note without believing it. Every line reads as it would be written, so the text is that of the result.
    fn read(note: &str) -> Result<(Self, Vec<Signature<'_>>), NoteError> {
        let lines: Vec<&str> = note.split('\n').collect();
        let malformed = |line, why| NoteError::Malformed { line, why };
        let [origin, size, root, time, empty, signatures @ .., end] = lines.as_slice() else {
            return Err(malformed(lines.len(), "lines are missing below"));
        };
        if !is_name(origin) {
            return Err(malformed(1, "not the name of a key"));
        }
        let number = size.parse().ok().filter(|n: &u64| n.to_string() == *size);
        let hash = BASE64
            .decode(root)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        let instant = time.strip_prefix("time ").and_then(|time| {
            Timestamp::parse(time)
                .ok()
                .filter(|at| at.to_string() == time)
        });
        let checkpoint = Self {
            origin: (*origin).to_owned(),
            size: number.ok_or(malformed(2, "not a size as it is written here"))?,
            root: Hash(hash.ok_or(malformed(3, "not a hash in base64"))?),
            time: instant.ok_or(malformed(4, "not a time as it is written here"))?,
        };
        if !empty.is_empty() {
            return Err(malformed(5, "not the empty line before the signatures"));
        }
        if signatures.is_empty() {
            return Err(malformed(6, "there is no signature"));
        }
        if signatures.len() > MOST_SIGNATURES {
            return Err(malformed(6 + MOST_SIGNATURES, "too many signatures"));
        }
        if !end.is_empty() {
            return Err(malformed(lines.len(), "the line does not end"));
        }
        let signatures = signatures
            .iter()
            .enumerate()
            .map(|(at, line)| Signature::read(line).ok_or(malformed(6 + at, "not a signature")));
        Ok((checkpoint, signatures.collect::<Result<_, _>>()?))
    }
}

/// A signature line, of whatever kind of key.
struct Signature<'a> {
    name: &'a str,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl<'a> Signature<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (name, signature) = line.strip_prefix("— ")?.split_once(' ')?;
        let bytes = BASE64.decode(signature).ok()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        let well_formed = is_name(name) && !bytes.is_empty();
        well_formed.then(|| Self {
            name,
            id: *id,
            bytes: bytes.to_vec(),
        })
    }
}

/// The note says nothing that can be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A line, from 1, is not what must stand there.
    #[error("malformed line {line}: {why}")]
    Malformed {
        /// Its number.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// None of the known keys signed, or none that has the origin as its name.
    #[error("unknown key: signed by {0}, and by no known key of this origin")]
    UnknownKey(String),
    /// A key that is known did not sign this.
    #[error("bad signature by {0}")]
    BadSignature(String),
}
