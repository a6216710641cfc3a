//! A mail as evidence: all that makes its bytes, so that it can be made again years later.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ComposeError, Composed, Composer, Letter};
use crate::domain::address::Address;
use crate::domain::consent::Hash;
use crate::domain::delivery::{MessageKind, Pinned};
use crate::domain::list::Facts;
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;
use crate::template::Templates;

/// What makes a mail's bytes, and the hashes of these bytes. Facts and templates are named by their hashes.
///
/// DKIM signatures are outside: they are put on after, and in front.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Why it was sent.
    pub kind: MessageKind,
    /// To whom, as spelled in the mail.
    pub to: String,
    /// In which language.
    pub locale: Locale,
    /// What its lists said.
    pub facts: Vec<Hash>,
    /// To what it was pinned.
    pub pinned: Pinned,
    /// When the person did what the mail answers.
    pub asked_at: Timestamp,
    /// When they asked for a new mail instead of an expired one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_at: Option<Timestamp>,
    /// The host of the form, where the list vouched for it.
    pub site: Option<String>,
    /// The end of its confirm link.
    pub expires: Option<Timestamp>,
    /// The origin of its links, where the sender has none of its own.
    pub public_url: String,
    /// The SHA-256 of the bytes as sent, before any signature.
    pub sha256: Hash,
    /// The same with each token replaced by `*` of equal length: what can be checked without keys.
    pub masked_sha256: Hash,
    /// The version of confirmd that made it.
    pub release: String,
}

impl Proof {
    /// Makes the mail again with its tokens masked, from the texts of the facts and of the template that it names.
    ///
    /// # Errors
    /// When these are others than those that it names, or the mail cannot be made.
    pub fn reproduce(&self, facts: &[&str], template: &str) -> Result<Composed, ComposeError> {
        // By their texts: a later version may write the same facts in another way.
        let named = facts.iter().map(|text| Hash::of(text.as_bytes()));
        if !named.eq(self.facts.iter().copied()) {
            return Err(ComposeError::Missing("facts that it names"));
        }
        let read = |text: &&str| serde_json::from_str(text).map(Arc::new);
        let facts: Vec<Arc<Facts>> = facts
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map_err(|_| ComposeError::Missing("facts that can be read"))?;
        let templates = Templates::load(None)?;
        let composer = Composer::new(Arc::new(templates), &self.public_url);
        composer.learn(template)?;
        let to = Address::parse(&self.to);
        let links = match self.kind {
            MessageKind::AlreadySubscribed | MessageKind::Welcome => self.facts.len(),
            MessageKind::Confirmation | MessageKind::Goodbye => 0,
        };
        composer.compose_masked(&Letter {
            kind: self.kind,
            pinned: self.pinned.clone(),
            to: to.map_err(|_| ComposeError::Missing("address that can be read"))?,
            locale: self.locale.clone(),
            facts,
            signup: Some(Uuid::nil()),
            subscriptions: vec![Uuid::nil(); links],
            asked_at: self.asked_at,
            again_at: self.again_at,
            site: self.site.clone(),
            expires: self.expires,
        })
    }
}
