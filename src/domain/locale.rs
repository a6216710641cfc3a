//! Languages of words, mails and pages.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A language tag of BCP 47, kept in its usual spelling (`nl`, `pt-BR`, `zh-Hant`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Locale(String);

impl Locale {
    /// Returns the tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the base language (`pt` of `pt-BR`).
    pub fn base(&self) -> Locale {
        Locale(self.0.split('-').next().unwrap_or_default().to_owned())
    }

    /// English, which every installation has.
    pub fn english() -> Locale {
        Locale("en".to_owned())
    }
}

impl FromStr for Locale {
    type Err = InvalidLocale;

    fn from_str(text: &str) -> Result<Self, InvalidLocale> {
        let mut parts = text.split('-');
        let language = parts.next().unwrap_or_default();
        let letters = |part: &str| part.bytes().all(|b| b.is_ascii_alphabetic());
        if text.len() > 35 || !(2..=3).contains(&language.len()) || !letters(language) {
            return Err(InvalidLocale);
        }
        let mut tag = language.to_ascii_lowercase();
        for part in parts {
            if part.is_empty() || part.len() > 8 || !part.bytes().all(|b| b.is_ascii_alphanumeric())
            {
                return Err(InvalidLocale);
            }
            tag.push('-');
            match part.len() {
                2 => tag.push_str(&part.to_ascii_uppercase()),
                4 if letters(part) => {
                    tag.push_str(&part[..1].to_ascii_uppercase());
                    tag.push_str(&part[1..].to_ascii_lowercase());
                }
                _ => tag.push_str(&part.to_ascii_lowercase()),
            }
        }
        Ok(Self(tag))
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Locale {
    type Error = InvalidLocale;
    fn try_from(text: String) -> Result<Self, InvalidLocale> {
        text.parse()
    }
}

impl From<Locale> for String {
    fn from(locale: Locale) -> String {
        locale.0
    }
}

/// The text is not a language tag.
#[derive(Debug, thiserror::Error)]
#[error("not a language tag (BCP 47), as in \"nl\" or \"pt-BR\"")]
pub struct InvalidLocale;
