//! From what a claimed mail is pinned to, to its bytes.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use super::parts::{Remembered, blank};
use super::tokens::masked;
use super::{ComposeError, Composed, Draft, Links, Proof, assemble};
use crate::domain::address::Address;
use crate::domain::consent::Hash;
use crate::domain::delivery::{MessageKind, Pinned};
use crate::domain::list::Facts;
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;
use crate::template::{MailTemplate, Templates};
use crate::token::{CHARACTERS, LinkKeys, Purpose};

/// A claimed mail: everything that its bytes depend on, besides keys and templates.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Why it is sent.
    pub kind: MessageKind,
    /// To what it is pinned.
    pub pinned: Pinned,
    /// To whom.
    pub to: Address,
    /// In which language.
    pub locale: Locale,
    /// What its lists say, all of one sender.
    pub facts: Vec<Arc<Facts>>,
    /// The signup that confirm and decline links are for.
    pub signup: Option<Uuid>,
    /// The subscriptions that unsubscribe links are for.
    pub subscriptions: Vec<Uuid>,
    /// When the person did what the mail answers.
    pub asked_at: Timestamp,
    /// When they asked for a new mail instead of an expired one.
    pub again_at: Option<Timestamp>,
    /// The host of the form, where the list vouches for it.
    pub site: Option<String>,
    /// When the confirm link ends.
    pub expires: Option<Timestamp>,
}

/// Makes mails with the templates in force, and with those that a mail was pinned to before.
pub struct Composer {
    templates: Arc<Templates>,
    public_url: String,
    earlier: RwLock<HashMap<Hash, Arc<MailTemplate>>>,
    remembered: Remembered,
}

impl Composer {
    /// Takes the templates in force and the origin of links of senders that have none of their own.
    pub fn new(templates: Arc<Templates>, public_url: &str) -> Self {
        Self {
            templates,
            public_url: public_url.trim_end_matches('/').to_owned(),
            earlier: RwLock::default(),
            remembered: Remembered::default(),
        }
    }

    /// Returns the hash of the templates in force for a kind of mail in a language: what a new mail is pinned to.
    pub fn hash(&self, kind: MessageKind, locale: &Locale) -> Hash {
        self.templates.kept(kind, locale).hash
    }

    /// Returns every mail template in force, to be kept by its hash.
    pub fn sources(&self) -> Vec<(Hash, String)> {
        let languages = self.templates.languages();
        let kept = languages.flat_map(|locale| {
            let of = |kind| self.templates.kept(kind, locale);
            MessageKind::ALL.map(|kind| (of(kind).hash, of(kind).source.clone()))
        });
        kept.collect()
    }

    /// Tells whether a mail pinned to these templates can be made without looking for them.
    pub fn knows(&self, letter: &Letter) -> bool {
        self.template(letter).is_some()
    }

    /// Takes templates that were kept.
    ///
    /// # Errors
    /// When the text is none that [`Composer::sources`] returned.
    pub fn learn(&self, source: &str) -> Result<(), ComposeError> {
        let template = Arc::new(MailTemplate::from_kept(source)?);
        self.earlier
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(template.kept().hash, template);
        Ok(())
    }

    /// Makes the mail: the same letter gives the same bytes, whatever came into force since.
    ///
    /// # Errors
    /// When its key or templates are not here, or the letter lacks what its kind must have.
    pub fn compose(&self, letter: &Letter, keys: &LinkKeys) -> Result<Composed, ComposeError> {
        self.write(letter, &letter.sign(keys)?)
    }

    /// Makes the mail with every token replaced by `*` of the same length: who has no key makes the same.
    ///
    /// # Errors
    /// As [`Composer::compose`], but for the key.
    pub fn compose_masked(&self, letter: &Letter) -> Result<Composed, ComposeError> {
        let stars = letter.links().map(|_| "*".repeat(CHARACTERS));
        self.write(letter, &stars.collect::<Vec<_>>())
    }

    /// Makes the mail and says all that makes its bytes, as evidence of what was sent; `facts` names those of the letter
    /// as they are kept.
    ///
    /// # Errors
    /// As [`Composer::compose`].
    pub fn compose_proven(
        &self,
        letter: &Letter,
        facts: Vec<Hash>,
        keys: &LinkKeys,
    ) -> Result<(Composed, Proof), ComposeError> {
        let tokens = letter.sign(keys)?;
        let composed = self.write(letter, &tokens)?;
        // What `compose_masked` makes, at a fraction of its cost.
        let masked = masked(composed.bytes.clone(), &tokens);
        let proof = Proof {
            kind: letter.kind,
            to: letter.to.as_str().to_owned(),
            locale: letter.locale.clone(),
            facts,
            pinned: letter.pinned.clone(),
            asked_at: letter.asked_at,
            again_at: letter.again_at,
            site: letter.site.clone(),
            expires: letter.expires,
            public_url: self.public_url.clone(),
            sha256: Hash::of(&composed.bytes),
            masked_sha256: Hash::of(&masked),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok((composed, proof))
    }

    fn write(&self, letter: &Letter, tokens: &[String]) -> Result<Composed, ComposeError> {
        let template = self.template(letter);
        let template = template.ok_or(ComposeError::Missing("template that it was pinned to"))?;
        let draft = Draft {
            kind: letter.kind,
            locale: letter.locale.clone(),
            facts: letter.facts.clone(),
            to: letter.to.clone(),
            message_id: letter.pinned.message_id.clone(),
            date: letter.pinned.date,
            boundary: letter.pinned.boundary.clone(),
            links: self.links(letter, tokens),
            asked_at: letter.asked_at,
            again_at: letter.again_at,
            site: letter.site.clone(),
            expires: letter.expires,
        };
        let blanks: Vec<_> = (0..tokens.len()).map(blank).collect();
        let content = draft.content(self.links(letter, &blanks));
        let parts = self.remembered.parts(content, &template, &blanks)?;
        assemble(&draft, &parts, tokens)
    }

    fn template(&self, letter: &Letter) -> Option<Found<'_>> {
        let wanted = letter.pinned.template;
        let in_force = self.templates.mail(letter.kind, &letter.locale);
        if in_force.kept().hash == wanted {
            return Some(Found::InForce(in_force));
        }
        let earlier = self.earlier.read().unwrap_or_else(PoisonError::into_inner);
        earlier.get(&wanted).cloned().map(Found::Earlier)
    }

    /// Makes links of tokens, one for each of the letter's.
    fn links(&self, letter: &Letter, tokens: &[String]) -> Links {
        let own = letter.facts.first();
        let own = own.and_then(|facts| facts.sender.public_url.as_deref());
        let origin = own.map_or(self.public_url.as_str(), |own| own.trim_end_matches('/'));
        let mut links = Links::default();
        for ((purpose, ..), token) in letter.links().zip(tokens) {
            let link = format!("{origin}{}{token}", purpose.path());
            match purpose {
                Purpose::Confirm => links.confirm = Some(link),
                Purpose::Decline => links.decline = Some(link),
                _ => links.unsubscribe.push(link),
            }
        }
        links
    }
}

impl Letter {
    /// What its links are for, to whom they belong and when they end.
    fn links(&self) -> impl Iterator<Item = (Purpose, Uuid, Option<Timestamp>)> {
        let asks = self.kind == MessageKind::Confirmation;
        let signup = self.signup.filter(|_| asks).into_iter();
        let answers = signup.flat_map(|signup| {
            [
                (Purpose::Confirm, signup, self.expires),
                (Purpose::Decline, signup, None),
            ]
        });
        let leaves = self.subscriptions.iter();
        answers.chain(leaves.map(|id| (Purpose::Unsubscribe, *id, None)))
    }

    /// Makes the tokens of its links.
    fn sign(&self, keys: &LinkKeys) -> Result<Vec<String>, ComposeError> {
        let missing = || ComposeError::Missing("link key that it was pinned to");
        let key = self.pinned.link_key.parse().map_err(|_| missing())?;
        self.links()
            .map(|(purpose, subject, expires)| keys.sign(key, purpose, subject, expires))
            .map(|token| token.ok_or_else(missing))
            .collect()
    }
}

enum Found<'t> {
    InForce(&'t MailTemplate),
    Earlier(Arc<MailTemplate>),
}

impl Deref for Found<'_> {
    type Target = MailTemplate;

    fn deref(&self) -> &MailTemplate {
        match self {
            Found::InForce(template) => template,
            Found::Earlier(template) => template,
        }
    }
}
