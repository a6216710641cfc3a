//! Mails and pages: built-in templates, a folder that overrides them, and the languages.
//!
//! Everything is compiled and rendered with samples when it is loaded, so that what can go wrong goes wrong then.

mod catalog;
mod engine;
mod error;
mod face;
mod kept;
mod mail;
mod page;
mod receipt;
mod record;
mod sample;
mod source;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::Environment;
use minijinja::value::{Serde, Value};

pub use self::error::TemplateError;
pub use self::face::{ListFace, SenderFace};
pub use self::kept::{Kept, Mail, MailTemplate};
pub use self::mail::{
    AlreadySubscribed, Confirmation, Goodbye, JoinedList, LeftList, MailContext, Welcome,
};
pub use self::page::{
    ConfirmPage, Confirmed, ConfirmedList, ConfirmedPage, DeclinePage, Declined, DeclinedPage,
    Ended, EndedPage, Hold, OtherList, OtherState, Page, Problem, ProblemPage, UnsubscribePage,
    Unsubscribed, UnsubscribedPage,
};
pub use self::receipt::{
    AgreedList, NoReceiptPage, NotAgreedList, OtherWords, ReceiptMail, ReceiptPage,
};

pub use self::record::{
    ErasedFace, EventFace, HOWS, HeaderFace, MailFace, RecordFace, RecordPage, StepFace, event_key,
};

use self::catalog::Catalog;
use self::engine::{engine, render};
use self::source::Sources;
use crate::domain::consent::Hash;
use crate::domain::delivery::MessageKind;
use crate::domain::locale::Locale;

/// Stylesheets, by the names that templates know: that of every page, that of more than a few words, and what the consent
/// record has besides.
const STYLES: [(&str, &str); 3] = [
    ("style", "style.css"),
    ("parts_style", "parts.css"),
    ("record_style", "record.css"),
];

/// Every template in every language.
#[derive(Debug)]
pub struct Templates {
    languages: BTreeMap<Locale, Language>,
    style_src: String,
}

#[derive(Debug)]
struct Language {
    pages: Environment<'static>,
    mails: Vec<MailTemplate>,
}

/// One template rendered with a sample.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The template.
    pub file: String,
    /// The name of the sample.
    pub sample: &'static str,
    /// What came out.
    pub text: String,
}

impl Templates {
    /// Loads the built-in templates and those of a folder that override them, and tries them all.
    ///
    /// A catalog `locales/<language>.toml` in the folder replaces single texts of a known language; that of a region
    /// (`nl-BE`) is laid over its base language; any other must be complete.
    ///
    /// # Errors
    /// When a file overrides nothing, is broken, or cannot be rendered; the error names it.
    pub fn load(dir: Option<&Path>) -> Result<Self, TemplateError> {
        let sources = Sources::read(dir)?;
        let styles = STYLES.map(|(name, file)| (name, sources.files[file].trim_end()));
        let hashes = styles.map(|(_, style)| {
            let digest = BASE64_STANDARD.encode(Hash::of(style.as_bytes()).0);
            format!("'sha256-{digest}'")
        });
        let mut languages = BTreeMap::new();
        for (locale, catalog) in catalogs(&sources)? {
            let language = Language::new(&locale, catalog, &sources, styles)?;
            languages.insert(locale, language);
        }
        Ok(Self {
            languages,
            style_src: hashes.join(" "),
        })
    }

    /// Returns the source expressions of the pages' stylesheets for a content security policy.
    pub fn style_src(&self) -> &str {
        &self.style_src
    }

    /// Returns the language in which mails and pages are written for a locale: itself, its base or English.
    pub fn language(&self, locale: &Locale) -> &Locale {
        self.find(locale).0
    }

    /// Tells whether a locale, or its base, is among the languages.
    pub fn speaks(&self, locale: &Locale) -> bool {
        self.language(locale).base() == locale.base()
    }

    /// Returns every language.
    pub fn languages(&self) -> impl Iterator<Item = &Locale> {
        self.languages.keys()
    }

    /// Returns the templates of one kind of mail.
    ///
    /// # Panics
    /// Never: loading makes one for every kind.
    pub fn mail(&self, kind: MessageKind, locale: &Locale) -> &MailTemplate {
        let mails = &self.find(locale).1.mails;
        let mail = mails.iter().find(|mail| mail.kind() == kind);
        mail.expect("every kind of mail has templates")
    }

    /// Returns the exact set of sources from which one kind of mail in one language is made, and its hash.
    pub fn kept(&self, kind: MessageKind, locale: &Locale) -> &Kept {
        self.mail(kind, locale).kept()
    }

    /// Renders a page.
    ///
    /// # Errors
    /// When the context does what no sample did and a template cannot follow.
    pub fn page<P: Page>(&self, locale: &Locale, page: &P) -> Result<String, TemplateError> {
        render(
            &self.find(locale).1.pages,
            P::FILE,
            Value::from(Serde(page)),
        )
    }

    /// Renders every template in one language with its samples.
    ///
    /// # Errors
    /// Never after loading, which does the same.
    pub fn previews(&self, locale: &Locale) -> Result<Vec<Preview>, TemplateError> {
        let language = self.find(locale).1;
        let mut previews = language.page_previews()?;
        for template in &language.mails {
            let file = |ending| format!("mail/{}.{ending}", template.kind().as_str());
            for (sample, mail) in template.previews()? {
                let text = format!("Subject: {}\n\n{}", mail.subject, mail.text);
                previews.push(Preview {
                    file: file("txt"),
                    sample,
                    text,
                });
                let text = mail.html;
                previews.push(Preview {
                    file: file("html"),
                    sample,
                    text,
                });
            }
        }
        Ok(previews)
    }

    fn find(&self, locale: &Locale) -> (&Locale, &Language) {
        let languages = &self.languages;
        languages
            .get_key_value(locale)
            .or_else(|| languages.get_key_value(&locale.base()))
            .or_else(|| languages.get_key_value(&Locale::english()))
            .expect("English is built in")
    }
}

impl Language {
    fn new(
        locale: &Locale,
        catalog: Catalog,
        sources: &Sources,
        styles: [(&'static str, &str); STYLES.len()],
    ) -> Result<Self, TemplateError> {
        let mails = MessageKind::ALL
            .into_iter()
            .map(|kind| MailTemplate::new(kind, locale, &catalog, sources.under("mail/")))
            .collect::<Result<_, _>>()?;
        let mut pages = engine(locale, Arc::new(catalog), sources.under("page/"))?;
        for (name, style) in styles {
            pages.add_global(name, Value::from_safe_string(style.to_owned()));
        }
        let language = Self { pages, mails };
        language.page_previews()?;
        Ok(language)
    }

    fn page_previews(&self) -> Result<Vec<Preview>, TemplateError> {
        sample::pages()
            .into_iter()
            .map(|sample| {
                Ok(Preview {
                    file: sample.file.to_owned(),
                    sample: sample.name,
                    text: render(&self.pages, sample.file, sample.context)?,
                })
            })
            .collect()
    }
}

/// Reads the catalogs of all languages and compares them with the English one.
fn catalogs(sources: &Sources) -> Result<BTreeMap<Locale, Catalog>, TemplateError> {
    let mut read: BTreeMap<Locale, Catalog> = BTreeMap::new();
    // A base language comes before its regions in this order.
    for (locale, texts) in &sources.catalogs {
        let mut catalog = read.get(&locale.base()).cloned().unwrap_or_default();
        for text in texts {
            catalog.lay_over(&catalog::file(locale), text)?;
        }
        read.insert(locale.clone(), catalog);
    }
    let english = &read[&Locale::english()];
    for (locale, catalog) in &read {
        catalog.fits(&catalog::file(locale), english)?;
    }
    Ok(read)
}
