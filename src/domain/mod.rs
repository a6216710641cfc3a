//! The rules of consent, pure: no I/O, no clock, no SQL, no HTTP.

/// A closed set whose members have one name in the database, events and the API.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every member, in the order of its definition.
            pub const ALL: [$name; [$($text),+].len()] = [$($name::$variant),+];

            /// Returns the name used in the database, events and the API.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// Reads the name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some($name::$variant),)+ _ => None }
            }
        }
    };
}

pub mod address;
pub mod consent;
pub mod delivery;
pub mod eligibility;
pub mod event;
pub mod evidence;
pub mod frequency;
pub(crate) mod hex;
pub mod id;
pub mod ledger;
pub mod limits;
pub mod list;
pub mod locale;
pub mod mailbox;
pub mod pepper;
pub mod receipt;
pub mod signup;
pub mod subscription;
pub mod time;
