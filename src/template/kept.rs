//! The templates of one kind of mail in one language, so kept that an old mail can be made again.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use minijinja::value::{Serde, Value};
use minijinja::{Environment, context};
use serde::{Deserialize, Serialize};

use super::catalog::Catalog;
use super::engine::{engine, render};
use super::mail::MailContext;
use super::sample::MailSample;
use super::{TemplateError, sample};
use crate::domain::consent::Hash;
use crate::domain::delivery::MessageKind;
use crate::domain::locale::Locale;

/// Sections of the catalog that every mail may use, besides the one named after its kind.
const SECTIONS: [&str; 8] = [
    "language", "date", "month", "span", "every", "sender", "list", "mail",
];
/// Files that every mail may use, besides the two named after its kind.
const SHARED: [&str; 9] = [
    "mail/asked.html",
    "mail/asked.txt",
    "mail/layout.html",
    "mail/leave.html",
    "mail/leave.txt",
    "mail/lists.html",
    "mail/lists.txt",
    "mail/sender.txt",
    "mail/subject.txt",
];
/// What has no place in a mail: remote content, and whatever else can tell that it was read.
const FORBIDDEN: [&str; 8] = [
    "<img", "<script", "<link", "<iframe", "<form", " src=", "url(", "@import",
];

/// A rendered mail.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// The subject: one line.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same in HTML.
    pub html: String,
}

/// The exact set of sources from which one kind of mail in one language is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The SHA-256 of `source`.
    pub hash: Hash,
    /// The sources as one JSON text.
    pub source: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    kind: MessageKind,
    language: Locale,
    files: BTreeMap<String, String>,
    texts: BTreeMap<String, String>,
}

impl Source {
    fn parse(json: &str) -> Result<Self, TemplateError> {
        serde_json::from_str(json).map_err(TemplateError::Kept)
    }

    fn engine(&self) -> Result<Environment<'static>, TemplateError> {
        let catalog = Arc::new(Catalog::from_kept(&self.texts)?);
        let files = self.files.iter();
        let files = files.map(|(name, text)| (name.as_str(), text.as_str()));
        let mut env = engine(&self.language, catalog, files)?;
        env.add_global("kind", self.kind.as_str());
        Ok(env)
    }
}

/// The templates of one kind of mail in one language. Renders from nothing but what is kept.
#[derive(Debug)]
pub struct MailTemplate {
    kind: MessageKind,
    language: Locale,
    kept: Kept,
    /// Made of what is kept when a mail is due: a tenth of a megabyte, and most kinds in most languages never are.
    engine: OnceLock<Environment<'static>>,
}

impl MailTemplate {
    /// Builds it from all sources, and shows it every sample.
    pub(super) fn new<'a>(
        kind: MessageKind,
        language: &Locale,
        catalog: &Catalog,
        files: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, TemplateError> {
        let name = kind.as_str();
        let own = [format!("mail/{name}.html"), format!("mail/{name}.txt")];
        let mut sections = SECTIONS.to_vec();
        sections.push(name);
        let source = Source {
            kind,
            language: language.clone(),
            files: files
                .filter(|(file, _)| SHARED.contains(file) || own.iter().any(|own| own == file))
                .map(|(file, text)| (file.to_owned(), text.to_owned()))
                .collect(),
            texts: catalog.sections(&sections),
        };
        let json = serde_json::to_string(&source).map_err(TemplateError::Kept)?;
        let mut template = Self::build(source, json)?;
        for sample in sample::mails(kind) {
            template.check(&sample)?;
        }
        template.engine = OnceLock::new();
        Ok(template)
    }

    /// Builds it from what was kept of an earlier mail; the hash is that of the text given.
    ///
    /// # Errors
    /// When the text is not what [`MailTemplate::kept`] returned.
    pub fn from_kept(source: &str) -> Result<Self, TemplateError> {
        Self::build(Source::parse(source)?, source.to_owned())
    }

    fn build(source: Source, json: String) -> Result<Self, TemplateError> {
        Ok(Self {
            engine: source.engine()?.into(),
            kind: source.kind,
            language: source.language,
            kept: Kept {
                hash: Hash::of(json.as_bytes()),
                source: json,
            },
        })
    }

    fn engine(&self) -> Result<&Environment<'static>, TemplateError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = Source::parse(&self.kept.source)?.engine()?;
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Returns the kind of mail.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Returns the language of the mail.
    pub fn language(&self) -> &Locale {
        &self.language
    }

    /// Returns the sources and their hash.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Renders a mail.
    ///
    /// # Errors
    /// When the context is of another kind, or a template cannot be rendered with it.
    pub fn render<C: MailContext>(&self, context: &C) -> Result<Mail, TemplateError> {
        if C::KIND != self.kind {
            let other = C::KIND.as_str();
            return Err(self.unfit("html", format!("is no template of a {other} mail")));
        }
        self.render_value(Value::from(Serde(context)))
    }

    fn render_value(&self, context: Value) -> Result<Mail, TemplateError> {
        let engine = self.engine()?;
        let subject = render(engine, "mail/subject.txt", context.clone())?;
        if subject.is_empty() || subject.chars().any(char::is_control) {
            return Err(TemplateError::Unfit {
                file: "mail/subject.txt".to_owned(),
                reason: "makes a subject that is not one line".to_owned(),
            });
        }
        let context = context! { subject => &subject, ..context };
        Ok(Mail {
            text: render(engine, &self.file("txt"), context.clone())?,
            html: render(engine, &self.file("html"), context)?,
            subject,
        })
    }

    fn check(&self, sample: &MailSample) -> Result<(), TemplateError> {
        let mail = self.render_value(sample.context.clone())?;
        for needed in &sample.required {
            for (ending, part) in [("txt", &mail.text), ("html", &mail.html)] {
                if !part.contains(needed.as_str()) {
                    let reason = format!("does not show {needed:?} of sample {:?}", sample.name);
                    return Err(self.unfit(ending, reason));
                }
            }
        }
        // A mail is shown again without its tokens: that must be the same mail.
        let masked = self.render_value(sample.masked.clone())?;
        if masked.subject != mail.subject {
            return Err(TemplateError::Unfit {
                file: "mail/subject.txt".to_owned(),
                reason: format!("shows a link of sample {:?}", sample.name),
            });
        }
        let texts = [
            ("txt", &mail.text, &masked.text),
            ("html", &mail.html, &masked.html),
        ];
        if let Some((ending, ..)) = texts
            .iter()
            .find(|(_, with, of)| sample::mask(with) != **of)
        {
            let name = sample.name;
            let reason = format!("changes a link of sample {name:?}, or words by it");
            return Err(self.unfit(ending, reason));
        }
        let html = mail.html.to_ascii_lowercase();
        match FORBIDDEN.iter().find(|what| html.contains(**what)) {
            Some(what) => Err(self.unfit("html", format!("holds {what:?}, which no mail may"))),
            None => Ok(()),
        }
    }

    fn file(&self, ending: &str) -> String {
        format!("mail/{}.{ending}", self.kind.as_str())
    }

    fn unfit(&self, ending: &str, reason: String) -> TemplateError {
        TemplateError::Unfit {
            file: self.file(ending),
            reason,
        }
    }

    /// Renders every sample.
    pub(super) fn previews(&self) -> Result<Vec<(&'static str, Mail)>, TemplateError> {
        sample::mails(self.kind)
            .into_iter()
            .map(|sample| Ok((sample.name, self.render_value(sample.context)?)))
            .collect()
    }
}
