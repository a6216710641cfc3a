//! Keyed hashes of addresses: equal for equal addresses, worthless without the pepper.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::address::Address;
use super::list::SenderId;

/// A keyed hash: HMAC-SHA-256 cut to 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Keyed(pub [u8; 16]);

/// The secret under which addresses are hashed; never rotated, since its hashes outlive the addresses.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl Pepper {
    /// Takes the bytes of a pepper.
    ///
    /// # Panics
    /// Never: HMAC takes keys of every length.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(bytes).expect("HMAC takes keys of every length"))
    }

    /// Names a mailbox over the whole installation, for limits and locks.
    pub fn mailbox(&self, address: &Address) -> Keyed {
        self.hash("mailbox", &[address.limit_key().as_bytes()])
    }

    /// Names an address at one sender; the names at two senders have nothing in common.
    pub fn identity(&self, sender: &SenderId, address: &Address) -> Keyed {
        let identity = address.identity();
        self.hash(
            "identity",
            &[sender.as_str().as_bytes(), identity.as_bytes()],
        )
    }

    /// Fingerprints the parts of a request, for idempotency.
    pub fn fingerprint(&self, parts: &[&[u8]]) -> Keyed {
        self.hash("request", parts)
    }

    /// Every part is preceded by its length, so that no two lists of parts read the same.
    fn hash(&self, purpose: &str, parts: &[&[u8]]) -> Keyed {
        let mut mac = self.0.clone();
        for part in std::iter::once(&purpose.as_bytes()).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let full = mac.finalize().into_bytes();
        let mut cut = [0; 16];
        cut.copy_from_slice(&full[..16]);
        Keyed(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let pepper = Pepper::new(&[7; 32]);
        assert_ne!(
            pepper.fingerprint(&[b"ab", b"c"]),
            pepper.fingerprint(&[b"a", b"bc"])
        );
    }

    #[test]
    fn senders_cannot_compare_their_subscribers() {
        let pepper = Pepper::new(&[7; 32]);
        let anna = Address::parse("anna@example.org").unwrap();
        let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
        assert_ne!(
            pepper.identity(&acme, &anna),
            pepper.identity(&other, &anna)
        );
    }
}
