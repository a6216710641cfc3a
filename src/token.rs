//! Links: what a signed token says, and the keys that sign it.
//!
//! A token is 62 characters of base64url without padding over 46 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version: 1 |
//! | 4 | id of the link key |
//! | 1 | purpose: `c`, `d`, `u` or `r` |
//! | 16 | subject: the id of a signup (`c`, `d`, `r`) or of a subscription (`u`) |
//! | 8 | expiry, seconds since 1970, big-endian; 0 for never |
//! | 16 | first half of HMAC-SHA-256 over all the bytes before |
//!
//! The MAC key is HKDF-SHA-256 of the link key with the info `confirmd link v1 ` and the purpose, so a token made for
//! one purpose is noise for another. It holds no address and is never stored: the same inputs give the same token.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::domain::time::Timestamp;

const VERSION: u8 = 1;
const SIGNED: usize = 30;
const BYTES: usize = SIGNED + 16;
/// The length of a token in characters.
pub const CHARACTERS: usize = 62;

/// What a link is for; a token of one purpose is refused for every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Confirm a signup.
    Confirm,
    /// Say no to a signup; never expires.
    Decline,
    /// Leave a list; never expires.
    Unsubscribe,
    /// See what a signup agreed to; never expires.
    Receipt,
}

impl Purpose {
    /// Every purpose, in the order of its declaration.
    pub const ALL: [Purpose; 4] = [
        Purpose::Confirm,
        Purpose::Decline,
        Purpose::Unsubscribe,
        Purpose::Receipt,
    ];

    fn byte(self) -> u8 {
        match self {
            Purpose::Confirm => b'c',
            Purpose::Decline => b'd',
            Purpose::Unsubscribe => b'u',
            Purpose::Receipt => b'r',
        }
    }

    /// Tells whether leaving is what a link of this purpose is for.
    fn only_leaves(self) -> bool {
        matches!(self, Purpose::Decline | Purpose::Unsubscribe)
    }

    /// Returns the path under which links of this purpose live.
    pub fn path(self) -> &'static str {
        match self {
            Purpose::Confirm => "/c/",
            Purpose::Decline => "/d/",
            Purpose::Unsubscribe => "/u/",
            Purpose::Receipt => "/r/",
        }
    }

    /// Returns the purpose under whose path another path lies, and the rest of it.
    pub fn of_path(path: &str) -> Option<(Self, &str)> {
        let below = |purpose: Self| Some((purpose, path.strip_prefix(purpose.path())?));
        Self::ALL.into_iter().find_map(below)
    }
}

/// The id of a link key, as eight hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl KeyId {
    /// Returns it as a number.
    pub fn number(self) -> u32 {
        u32::from_be_bytes(self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.number())
    }
}

impl FromStr for KeyId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u32::from_str_radix(text, 16).map(|id| Self(id.to_be_bytes()))
    }
}

/// What a link key may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Signs new links.
    Sign,
    /// Verifies links that were signed with it.
    Verify,
    /// Compromised: its links may still leave, and do nothing else.
    UnsubscribeOnly,
}

impl KeyState {
    /// Returns the name used in the database and by `keyring list`.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyState::Sign => "sign",
            KeyState::Verify => "verify",
            KeyState::UnsubscribeOnly => "unsubscribe-only",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        [KeyState::Sign, KeyState::Verify, KeyState::UnsubscribeOnly]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// What a valid token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The link key that signed it.
    pub key: KeyId,
    /// The id of a signup or subscription.
    pub subject: Uuid,
    /// When the link ends, if ever.
    pub expires: Option<Timestamp>,
}

impl Claims {
    /// Tells whether the link has ended.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// The token is none of ours; which way it is wrong is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a link of this installation")]
pub struct InvalidToken;

/// The link keys of an installation.
#[derive(Clone)]
pub struct LinkKeys {
    keys: BTreeMap<KeyId, LinkKey>,
    signing: KeyId,
}

#[derive(Clone)]
struct LinkKey {
    state: KeyState,
    macs: [Hmac<Sha256>; Purpose::ALL.len()],
}

impl LinkKeys {
    /// Takes all link keys; returns none unless exactly one of them signs.
    pub fn new(keys: impl IntoIterator<Item = (KeyId, KeyState, [u8; 32])>) -> Option<Self> {
        let keys: BTreeMap<_, _> = keys
            .into_iter()
            .map(|(id, state, secret)| (id, LinkKey::derive(state, &secret)))
            .collect();
        let mut signing = keys.iter().filter(|(_, key)| key.state == KeyState::Sign);
        let (Some((&signing, _)), None) = (signing.next(), signing.next()) else {
            return None;
        };
        Some(Self { keys, signing })
    }

    /// Returns the ids of all keys.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.keys().copied()
    }

    /// Returns the id of the key that signs new links.
    pub fn signing(&self) -> KeyId {
        self.signing
    }

    /// Tells whether the links of a key may do nothing but leave.
    pub fn only_leave(&self, key: KeyId) -> bool {
        let key = self.keys.get(&key);
        key.is_none_or(|key| key.state == KeyState::UnsubscribeOnly)
    }

    /// Makes the token of a link, signed with a key of this installation; none if the key is not here.
    pub fn sign(
        &self,
        key: KeyId,
        purpose: Purpose,
        subject: Uuid,
        expires: Option<Timestamp>,
    ) -> Option<String> {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&key.0);
        bytes[5] = purpose.byte();
        bytes[6..22].copy_from_slice(subject.as_bytes());
        let seconds = expires.map_or(0, Timestamp::as_seconds);
        bytes[22..SIGNED].copy_from_slice(&seconds.to_be_bytes());
        let mac = self.keys.get(&key)?.mac(purpose, &bytes[..SIGNED]);
        bytes[SIGNED..].copy_from_slice(&mac.finalize().into_bytes()[..16]);
        Some(BASE64.encode(bytes))
    }

    /// Reads a token that must have been made for this purpose.
    ///
    /// An expired token is valid here: its page says so. The MAC is compared in constant time.
    ///
    /// # Errors
    /// When it was not made so by a key of this installation that may still do this, or is spelled in any other way.
    pub fn verify(&self, purpose: Purpose, text: &str) -> Result<Claims, InvalidToken> {
        if text.len() != CHARACTERS {
            return Err(InvalidToken);
        }
        let mut bytes = [0; BYTES];
        match BASE64.decode_slice(text, &mut bytes) {
            Ok(BYTES) => {}
            _ => return Err(InvalidToken),
        }
        let id = KeyId([bytes[1], bytes[2], bytes[3], bytes[4]]);
        let key = self.keys.get(&id).ok_or(InvalidToken)?;
        if bytes[0] != VERSION || bytes[5] != purpose.byte() {
            return Err(InvalidToken);
        }
        if self.only_leave(id) && !purpose.only_leaves() {
            return Err(InvalidToken);
        }
        key.mac(purpose, &bytes[..SIGNED])
            .verify_truncated_left(&bytes[SIGNED..])
            .map_err(|_| InvalidToken)?;
        let mut subject = [0; 16];
        subject.copy_from_slice(&bytes[6..22]);
        let mut seconds = [0; 8];
        seconds.copy_from_slice(&bytes[22..SIGNED]);
        let seconds = i64::from_be_bytes(seconds);
        Ok(Claims {
            key: id,
            subject: Uuid::from_bytes(subject),
            expires: (seconds != 0).then(|| Timestamp::from_seconds(seconds)),
        })
    }
}

impl LinkKey {
    fn derive(state: KeyState, secret: &[u8; 32]) -> Self {
        let root = Hkdf::<Sha256>::new(None, secret);
        let macs = Purpose::ALL.map(|purpose| {
            let mut key = [0; 32];
            let info = [b"confirmd link v1 ".as_slice(), &[purpose.byte()]];
            root.expand_multi_info(&info, &mut key)
                .expect("32 bytes are within HKDF's bound");
            Hmac::new_from_slice(&key).expect("HMAC takes keys of every length")
        });
        Self { state, macs }
    }

    fn mac(&self, purpose: Purpose, bytes: &[u8]) -> Hmac<Sha256> {
        self.macs[purpose as usize].clone().chain_update(bytes)
    }
}
