//! A name and an address, as configuration and facts write them.

use serde::{Deserialize, Serialize};

use super::address::{Address, InvalidAddress};

/// A mailbox as configuration writes it: `Name <local@domain>` or the bare address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mailbox {
    /// The display name.
    pub name: Option<String>,
    /// The address.
    pub address: Address,
}

impl TryFrom<String> for Mailbox {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        let (name, address) = match text.trim().strip_suffix('>') {
            Some(rest) => rest.rsplit_once('<').ok_or(InvalidAddress::NoAt)?,
            None => ("", text.trim()),
        };
        let name = name.trim();
        let name = unquoted(name).unwrap_or_else(|| name.to_owned());
        if name.chars().any(char::is_control) {
            return Err(InvalidAddress::Control);
        }
        Ok(Self {
            name: (!name.is_empty()).then_some(name),
            address: Address::parse(address)?,
        })
    }
}

impl From<Mailbox> for String {
    fn from(mailbox: Mailbox) -> String {
        let address = mailbox.address.as_str();
        match mailbox.name {
            // In quotes only where it would be read as another name: facts are named by the hash of their text.
            Some(name) if name.trim() != name || unquoted(&name).is_some() => {
                let name = name.replace('\\', r"\\").replace('"', r#"\""#);
                format!("\"{name}\" <{address}>")
            }
            Some(name) => format!("{name} <{address}>"),
            None => address.to_owned(),
        }
    }
}

/// Returns what a quoted string means (RFC 5322, section 3.2.4); none if the text is not one as a whole.
fn unquoted(text: &str) -> Option<String> {
    let mut inner = text.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut plain = String::new();
    while let Some(c) = inner.next() {
        plain.push(match c {
            '"' => return None,
            '\\' => inner.next()?,
            c => c,
        });
    }
    Some(plain)
}
