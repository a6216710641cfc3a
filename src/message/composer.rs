//! From what a claimed mail is pinned to, to its bytes.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use super::mask::masked;
use super::{ComposeError, Composed, Draft, Links, Proof, compose};
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
}

impl Composer {
    /// Takes the templates in force and the origin of links of senders that have none of their own.
    pub fn new(templates: Arc<Templates>, public_url: &str) -> Self {
        Self {
            templates,
            public_url: public_url.trim_end_matches('/').to_owned(),
            earlier: RwLock::default(),
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
        Ok(self.compose_signed(letter, keys)?.0)
    }

    /// Makes the mail and returns the tokens in it.
    fn compose_signed(
        &self,
        letter: &Letter,
        keys: &LinkKeys,
    ) -> Result<(Composed, Vec<String>), ComposeError> {
        let missing = || ComposeError::Missing("link key that it was pinned to");
        let key = letter.pinned.link_key.parse().map_err(|_| missing())?;
        let mut tokens = Vec::new();
        let composed = self.write(letter, |purpose, subject, expires| {
            let token = keys.sign(key, purpose, subject, expires);
            tokens.extend(token.clone());
            token.ok_or_else(missing)
        })?;
        Ok((composed, tokens))
    }

    /// Makes the mail with every token replaced by `*` of the same length: who has no key makes the same.
    ///
    /// # Errors
    /// As [`Composer::compose`], but for the key.
    pub fn compose_masked(&self, letter: &Letter) -> Result<Composed, ComposeError> {
        self.write(letter, |_, _, _| Ok("*".repeat(CHARACTERS)))
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
        let (composed, tokens) = self.compose_signed(letter, keys)?;
        // What `compose_masked` makes, at a fraction of its cost.
        let masked = masked(composed.bytes.clone(), &tokens);
        let proof = Proof {
            kind: letter.kind,
            to: letter.to.as_str().to_owned(),
            locale: letter.locale.clone(),
            facts,
            pinned: letter.pinned.clone(),
            asked_at: letter.asked_at,
            site: letter.site.clone(),
            expires: letter.expires,
            public_url: self.public_url.clone(),
            sha256: Hash::of(&composed.bytes),
            masked_sha256: Hash::of(&masked),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Ok((composed, proof))
    }

    fn write(
        &self,
        letter: &Letter,
        sign: impl FnMut(Purpose, Uuid, Option<Timestamp>) -> Result<String, ComposeError>,
    ) -> Result<Composed, ComposeError> {
        let template = self.template(letter);
        let draft = Draft {
            kind: letter.kind,
            locale: letter.locale.clone(),
            facts: letter.facts.clone(),
            to: letter.to.clone(),
            message_id: letter.pinned.message_id.clone(),
            date: letter.pinned.date,
            boundary: letter.pinned.boundary.clone(),
            links: self.links(letter, sign)?,
            asked_at: letter.asked_at,
            site: letter.site.clone(),
            expires: letter.expires,
        };
        match template {
            Some(Found::InForce(template)) => compose(&draft, template),
            Some(Found::Earlier(template)) => compose(&draft, &template),
            None => Err(ComposeError::Missing("template that it was pinned to")),
        }
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

    fn links(
        &self,
        letter: &Letter,
        mut sign: impl FnMut(Purpose, Uuid, Option<Timestamp>) -> Result<String, ComposeError>,
    ) -> Result<Links, ComposeError> {
        let own = letter.facts.first();
        let own = own.and_then(|facts| facts.sender.public_url.as_deref());
        let origin = own.map_or(self.public_url.as_str(), |own| own.trim_end_matches('/'));
        let mut link = |purpose: Purpose, subject, expires| {
            let token = sign(purpose, subject, expires)?;
            Ok::<_, ComposeError>(format!("{origin}{}{token}", purpose.path()))
        };
        let mut links = Links::default();
        if let (MessageKind::Confirmation, Some(signup)) = (letter.kind, letter.signup) {
            links.confirm = Some(link(Purpose::Confirm, signup, letter.expires)?);
            links.decline = Some(link(Purpose::Decline, signup, None)?);
        }
        for subscription in &letter.subscriptions {
            links
                .unsubscribe
                .push(link(Purpose::Unsubscribe, *subscription, None)?);
        }
        Ok(links)
    }
}

enum Found<'t> {
    InForce(&'t MailTemplate),
    Earlier(Arc<MailTemplate>),
}
