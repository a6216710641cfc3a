//! The texts of one language: keys to sentences with placeholders.

use std::collections::{BTreeMap, BTreeSet};

use super::TemplateError;
use crate::domain::locale::Locale;

/// The texts of one language by dotted key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Catalog(BTreeMap<String, Text>);

/// One sentence, cut at its placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    source: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Words(String),
    Slot(String),
}

impl Catalog {
    /// Reads a catalog file and lays its texts over these.
    pub fn lay_over(&mut self, file: &str, toml: &str) -> Result<(), TemplateError> {
        let table: toml::Table = toml.parse().map_err(|error: toml::de::Error| {
            let before = error.span().map_or(0, |span| span.start);
            TemplateError::Broken {
                file: file.to_owned(),
                line: 1 + toml[..before.min(toml.len())].matches('\n').count(),
                reason: error.message().to_owned(),
            }
        })?;
        self.add(file, "", table)
    }

    fn add(&mut self, file: &str, prefix: &str, table: toml::Table) -> Result<(), TemplateError> {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                toml::Value::Table(inner) => self.add(file, &format!("{key}."), inner)?,
                toml::Value::String(text) => {
                    let text = Text::parse(text).map_err(|reason| wrong(file, &key, reason))?;
                    self.0.insert(key, text);
                }
                _ => return Err(wrong(file, &key, "is no text; put it between quotes")),
            }
        }
        Ok(())
    }

    /// Checks that these texts can stand wherever the English ones do: the same keys, the same placeholders.
    pub fn fits(&self, file: &str, english: &Catalog) -> Result<(), TemplateError> {
        for (key, text) in &english.0 {
            let own = self
                .0
                .get(key)
                .ok_or_else(|| wrong(file, key, "is missing"))?;
            let (own, slots) = (own.slots(), text.slots());
            if let Some(slot) = own.difference(&slots).next() {
                let reason = format!("has a placeholder {{{slot}}} that this text does not get");
                return Err(wrong(file, key, reason));
            }
            if let Some(slot) = slots.difference(&own).next() {
                return Err(wrong(
                    file,
                    key,
                    format!("lacks the placeholder {{{slot}}}"),
                ));
            }
        }
        match self.0.keys().find(|key| !english.0.contains_key(*key)) {
            Some(key) => Err(wrong(
                file,
                key,
                "is unknown: no template asks for it in English",
            )),
            None => Ok(()),
        }
    }

    /// Returns one text with its placeholders filled, or what is wrong.
    pub fn text(
        &self,
        key: &str,
        value: impl Fn(&str) -> Option<String>,
    ) -> Result<String, String> {
        let text = self
            .0
            .get(key)
            .ok_or_else(|| format!("no text has the key {key}"))?;
        let mut out = String::new();
        for piece in &text.pieces {
            match piece {
                // "Acme B.V." brings the full stop that ends the sentence.
                Piece::Words(words) if out.ends_with('.') => {
                    out.push_str(words.strip_prefix('.').unwrap_or(words));
                }
                Piece::Words(words) => out.push_str(words),
                Piece::Slot(slot) => out.push_str(
                    &value(slot)
                        .ok_or_else(|| format!("text {key} needs a value for {{{slot}}}"))?,
                ),
            }
        }
        Ok(out)
    }

    /// Returns the first name among these that the text has no placeholder for.
    pub fn stranger<'a>(
        &self,
        key: &str,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Option<&'a str> {
        let pieces = &self.0.get(key)?.pieces;
        let is_slot =
            |piece: &Piece, name: &str| matches!(piece, Piece::Slot(slot) if slot == name);
        names.find(|name| !pieces.iter().any(|piece| is_slot(piece, name)))
    }

    /// Returns the texts whose keys lie under one of these sections.
    pub fn sections(&self, sections: &[&str]) -> BTreeMap<String, String> {
        let wanted = |key: &str| {
            let section = key.split('.').next().unwrap_or_default();
            sections.contains(&section)
        };
        self.0
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(key, text)| (key.clone(), text.source.clone()))
            .collect()
    }

    /// Builds a catalog of texts that were kept.
    pub fn from_kept(texts: &BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let mut catalog = Self::default();
        for (key, text) in texts {
            let text = Text::parse(text.clone()).map_err(|reason| wrong("kept", key, reason))?;
            catalog.0.insert(key.clone(), text);
        }
        Ok(catalog)
    }
}

/// Returns the file name of a language's catalog.
pub(super) fn file(locale: &Locale) -> String {
    format!("locales/{locale}.toml")
}

fn wrong(file: &str, key: &str, reason: impl Into<String>) -> TemplateError {
    TemplateError::Catalog {
        file: file.to_owned(),
        key: key.to_owned(),
        reason: reason.into(),
    }
}

impl Text {
    fn parse(source: String) -> Result<Self, &'static str> {
        if source.chars().any(char::is_control) {
            return Err("holds a line break or another control character");
        }
        let mut pieces = Vec::new();
        let mut rest = source.as_str();
        while let Some((words, after)) = rest.split_once('{') {
            let (slot, after) = after
                .split_once('}')
                .ok_or("has a { that is never closed")?;
            let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
            if slot.is_empty() || !slot.bytes().all(plain) || words.contains('}') {
                return Err("has a brace that belongs to no placeholder");
            }
            pieces.push(Piece::Words(words.to_owned()));
            pieces.push(Piece::Slot(slot.to_owned()));
            rest = after;
        }
        if rest.contains('}') {
            return Err("has a brace that belongs to no placeholder");
        }
        pieces.push(Piece::Words(rest.to_owned()));
        Ok(Self { source, pieces })
    }

    fn slots(&self) -> BTreeSet<&str> {
        self.pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Slot(slot) => Some(slot.as_str()),
                Piece::Words(_) => None,
            })
            .collect()
    }
}
