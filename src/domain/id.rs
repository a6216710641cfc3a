//! Identifiers: UUIDv7, made from an instant and random bits that the caller brings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::time::Timestamp;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes an id from an instant and ten random bytes (RFC 9562, version 7).
            pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
                Self(version7(at, random))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

ids! {
    /// One request by one address for one or more lists.
    SignupId,
    /// One address at one sender.
    SubscriberId,
    /// One subscriber on one list.
    SubscriptionId,
    /// One mail that must be sent.
    MessageId,
    /// One thing that happened.
    EventId,
    /// One API key.
    ApiKeyId,
}

fn version7(at: Timestamp, random: [u8; 10]) -> Uuid {
    let millis = u64::try_from(at.as_micros() / 1000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}
