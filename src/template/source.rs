//! Where templates come from: those built in, and the folder that overrides them file by file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::TemplateError;
use crate::domain::locale::Locale;

macro_rules! embedded {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../templates/", $name)))),+]
    };
}

/// Every built-in file under its name.
pub(super) const EMBEDDED: &[(&str, &str)] = embedded![
    "locales/en.toml",
    "locales/nl.toml",
    "mail/already_subscribed.html",
    "mail/already_subscribed.txt",
    "mail/asked.html",
    "mail/asked.txt",
    "mail/confirmation.html",
    "mail/confirmation.txt",
    "mail/goodbye.html",
    "mail/goodbye.txt",
    "mail/layout.html",
    "mail/leave.html",
    "mail/leave.txt",
    "mail/lists.html",
    "mail/lists.txt",
    "mail/sender.txt",
    "mail/subject.txt",
    "mail/welcome.html",
    "mail/welcome.txt",
    "page/confirm.html",
    "page/confirmed.html",
    "page/decline.html",
    "page/declined.html",
    "page/ended.html",
    "page/layout.html",
    "page/no_receipt.html",
    "page/parts.html",
    "page/problem.html",
    "page/receipt.html",
    "page/record.html",
    "page/unsubscribe.html",
    "page/unsubscribed.html",
    "parts.css",
    "record.css",
    "style.css",
];

/// The sources in force.
pub(super) struct Sources {
    /// Templates and stylesheets by name.
    pub files: BTreeMap<String, String>,
    /// Per language its catalogs, the built-in one first.
    pub catalogs: BTreeMap<Locale, Vec<String>>,
}

impl Sources {
    /// Reads the built-in files, then those of the folder over them.
    pub fn read(dir: Option<&Path>) -> Result<Self, TemplateError> {
        let mut sources = Self {
            files: BTreeMap::new(),
            catalogs: BTreeMap::new(),
        };
        for (name, text) in EMBEDDED {
            sources.add(name, (*text).to_owned())?;
        }
        if let Some(dir) = dir {
            sources.read_folder(dir, "")?;
        }
        Ok(sources)
    }

    fn read_folder(&mut self, dir: &Path, prefix: &str) -> Result<(), TemplateError> {
        let unreadable = |source| TemplateError::Read {
            path: dir.to_owned(),
            source,
        };
        for entry in fs::read_dir(dir).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            // Hidden entries are version control's, or those with which Kubernetes swaps a mounted folder.
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            if path.is_dir() && matches!(name.as_str(), "locales" | "mail" | "page") {
                self.read_folder(&path, &format!("{name}/"))?;
            } else if path.is_dir() {
                return Err(TemplateError::UnknownFile(name));
            } else {
                let text = fs::read_to_string(&path)
                    .map_err(|source| TemplateError::Read { path, source })?;
                self.add(&name, text)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, text: String) -> Result<(), TemplateError> {
        let unknown = || TemplateError::UnknownFile(name.to_owned());
        if let Some(tag) = name.strip_prefix("locales/") {
            let tag = tag.strip_suffix(".toml").ok_or_else(unknown)?;
            let locale: Locale = tag.parse().map_err(|_| unknown())?;
            if locale.as_str() != tag {
                return Err(unknown());
            }
            self.catalogs.entry(locale).or_default().push(text);
        } else if EMBEDDED.iter().any(|(known, _)| *known == name) {
            self.files.insert(name.to_owned(), text);
        } else {
            return Err(unknown());
        }
        Ok(())
    }

    /// Returns the files whose names begin so.
    pub fn under(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, text)| (name.as_str(), text.as_str()))
    }
}
