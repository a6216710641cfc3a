//! The encoded parts of mails, made once for all that differ in their links and addresses alone.
//!
//! Rendering and encoding are most of the work on a mail, and those who sign up to a list within a minute read the same.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Body, SinglePart};

use super::ComposeError;
use super::content::Content;
use super::tokens::{Piece, fill, find};
use crate::domain::consent::Hash;
use crate::template::{Mail, MailTemplate};
use crate::token::CHARACTERS;

/// How many are remembered, of some 10 KB each.
const REMEMBERED: usize = 64;

/// Subject and parts, with places for the tokens of one mail.
pub(super) struct Parts {
    subject: String,
    text: Part,
    html: Part,
}

struct Part {
    encoded: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Parts {
    /// Encodes what was rendered and finds the places of these tokens.
    pub fn new(mail: Mail, tokens: &[String]) -> Self {
        Self {
            subject: mail.subject,
            text: Part::new(mail.text, tokens),
            html: Part::new(mail.html, tokens),
        }
    }

    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Returns the plain text and the HTML with other tokens in the places of those found.
    pub fn filled(&self, tokens: &[String]) -> [SinglePart; 2] {
        [
            self.text.filled(ContentType::TEXT_PLAIN, tokens),
            self.html.filled(ContentType::TEXT_HTML, tokens),
        ]
    }
}

const ENCODING: ContentTransferEncoding = ContentTransferEncoding::QuotedPrintable;

impl Part {
    fn new(text: String, tokens: &[String]) -> Self {
        let part = SinglePart::builder().header(ENCODING).body(text);
        let encoded = part.raw_body().to_vec();
        Self {
            pieces: find(&encoded, tokens),
            encoded,
        }
    }

    fn filled(&self, kind: ContentType, tokens: &[String]) -> SinglePart {
        let mut encoded = self.encoded.clone();
        fill(&mut encoded, &self.pieces, tokens);
        SinglePart::builder()
            .header(kind)
            .body(Body::dangerous_pre_encoded(encoded, ENCODING))
    }
}

/// Returns something of the length of a token, and of characters that are as inert, but no token.
pub(super) fn blank(number: usize) -> String {
    let number = number.to_string();
    "~".repeat(CHARACTERS - number.len()) + &number
}

/// The parts that were used lately, the last one at the end.
#[derive(Default)]
pub(super) struct Remembered(Mutex<VecDeque<(Hash, Content, Arc<Parts>)>>);

impl Remembered {
    /// Returns the parts of mails with this content, whose links have blanks for tokens.
    pub fn parts(
        &self,
        content: Content,
        template: &MailTemplate,
        blanks: &[String],
    ) -> Result<Arc<Parts>, ComposeError> {
        let hash = template.kept().hash;
        if let Some(parts) = self.find(hash, &content) {
            return Ok(parts);
        }
        let parts = Arc::new(Parts::new(content.render(template)?, blanks));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back((hash, content, parts.clone()));
        Ok(parts)
    }

    fn find(&self, hash: Hash, content: &Content) -> Option<Arc<Parts>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known
            .iter()
            .rposition(|(of, read, _)| *of == hash && read == content)?;
        let found = known.remove(place)?;
        let parts = found.2.clone();
        known.push_back(found);
        Some(parts)
    }
}
