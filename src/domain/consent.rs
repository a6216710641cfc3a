//! What a person agreed to and how: the words, the act, where it happened.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hex;
use super::time::Timestamp;

/// A SHA-256 hash; the name under which words, templates and facts are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Hashes bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::text(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidHash);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidHash)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidHash)?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Hash {
    type Error = InvalidHash;
    fn try_from(text: String) -> Result<Self, InvalidHash> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        hash.to_string()
    }
}

/// The text is not a SHA-256 in hexadecimal.
#[derive(Debug, thiserror::Error)]
#[error("not a SHA-256: 64 digits of lower-case hexadecimal")]
pub struct InvalidHash;

/// The affirmative act by which a person agreed at signup (GDPR, article 4(11)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Ticked a box that was empty.
    Checkbox,
    /// Pressed a button that says what it does.
    Button,
    /// Sent a form that serves nothing else.
    Form,
    /// Said so.
    Oral,
    /// Signed or wrote on paper.
    Paper,
}

/// The facts of the first opt-in, as the signup backend reports them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Consent {
    /// The act.
    pub action: Action,
    /// Where it happened: the address of the page, or a name of the place.
    pub source: String,
    /// The words that were shown, when the backend named them; else the record rests on mail and page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_sha256: Option<Hash>,
    /// When it happened, if not at the moment of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What the backend's challenge said, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// When the signup came whose facts these are, where this one was made again from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<Timestamp>,
}

/// The longest user agent that is kept, in bytes.
pub const USER_AGENT: usize = 1000;

/// Where a request came from, as far as the policy keeps it: only ever evidence, and the first of it to be erased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The network address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// How much of a network fact is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Nothing.
    #[default]
    None,
    /// The network (/24 of IPv4, /40 of IPv6), or the first word of a user agent.
    Prefix,
    /// All of it.
    Full,
}

impl Keep {
    /// Returns what this policy keeps of an IP address.
    pub fn ip(self, ip: IpAddr) -> Option<String> {
        match (self, ip.to_canonical()) {
            (Keep::None, _) => None,
            (Keep::Full, ip) => Some(ip.to_string()),
            (Keep::Prefix, IpAddr::V4(ip)) => {
                let [a, b, c, _] = ip.octets();
                Some(format!("{a}.{b}.{c}.0/24"))
            }
            (Keep::Prefix, IpAddr::V6(ip)) => {
                let network = ip.to_bits() & (u128::MAX << 88);
                Some(format!("{}/40", std::net::Ipv6Addr::from_bits(network)))
            }
        }
    }

    /// Returns what this policy keeps of a user agent.
    pub fn user_agent(self, agent: &str) -> Option<String> {
        match self {
            Keep::None => None,
            Keep::Prefix => agent.split_whitespace().next().map(str::to_owned),
            Keep::Full => Some(agent.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_read_back_in_one_form() {
        let hash = Hash::of(b"Yes, mail me");
        assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
        assert!(hash.to_string().to_uppercase().parse::<Hash>().is_err());
        assert!("é".repeat(32).parse::<Hash>().is_err());
    }

    #[test]
    fn network_facts_are_cut_by_policy() {
        let v4 = "198.51.100.7".parse().unwrap();
        let v6 = "2001:db8:1234:5678::1".parse().unwrap();
        assert_eq!(Keep::None.ip(v4), None);
        assert_eq!(Keep::Prefix.ip(v4).unwrap(), "198.51.100.0/24");
        assert_eq!(Keep::Prefix.ip(v6).unwrap(), "2001:db8:1200::/40");
        assert_eq!(Keep::Full.ip(v4).unwrap(), "198.51.100.7");
        assert_eq!(
            Keep::Prefix.user_agent("Mozilla/5.0 (X11)").unwrap(),
            "Mozilla/5.0"
        );
    }
}
