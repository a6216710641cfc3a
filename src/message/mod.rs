//! Mails as bytes: what a message row says, made into the same bytes every time.

mod composer;
mod content;
mod draft;
mod parts;
mod proof;
mod tokens;

use std::fmt;
use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use memchr::memchr_iter;

pub use self::composer::{Composer, Letter};
pub use self::draft::{Draft, Links};
pub use self::proof::Proof;

use self::parts::Parts;
use crate::domain::address::Address;
use crate::domain::list::{self, ListId};
use crate::domain::mailbox;
use crate::domain::time::Timestamp;
use crate::template::{MailTemplate, TemplateError};

/// The longest line that mail can carry, without its CRLF (RFC 5322, section 2.1.1).
const LONGEST_LINE: usize = 998;

/// A mail ready to be sent. `Debug` does not show it: it holds links and addresses.
#[derive(Clone)]
pub struct Composed {
    /// The whole mail, with CRLF line ends and no octet above 127.
    pub bytes: Vec<u8>,
    /// MAIL FROM.
    pub envelope_from: lettre::Address,
    /// RCPT TO.
    pub envelope_to: lettre::Address,
}

impl fmt::Debug for Composed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Composed(..)")
    }
}

/// Why a mail cannot be made. Sending it again later does not help.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// The draft lacks something that this kind of mail must have.
    #[error("the draft has no {0}")]
    Missing(&'static str),
    /// The draft names no list.
    #[error("the draft has no list")]
    NoList,
    /// The lists belong to different senders.
    #[error("the draft has lists of different senders")]
    Senders,
    /// A list has no words of consent in the language of the mail.
    #[error("list {0} has no words of consent in the language of this mail")]
    NoWords(ListId),
    /// A part of the draft cannot stand in a header.
    #[error("the {0} cannot stand in a mail header")]
    Header(&'static str),
    /// A line is longer than mail can carry.
    #[error("line {0} of the mail is longer than {LONGEST_LINE} octets")]
    LongLine(usize),
    /// The template cannot be rendered.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The mail library refuses it.
    #[error("the mail cannot be built: {0}")]
    Build(#[from] lettre::error::Error),
}

/// Makes a mail. The same draft and template make the same bytes.
///
/// # Errors
/// When the draft lacks what its kind of mail must have, or holds what a header cannot.
pub fn compose(draft: &Draft, template: &MailTemplate) -> Result<Composed, ComposeError> {
    let mail = draft.content(draft.links.clone()).render(template)?;
    assemble(draft, &Parts::new(mail, &[]), &[])
}

/// Puts a mail together from its parts and the tokens of its links.
fn assemble(draft: &Draft, parts: &Parts, tokens: &[String]) -> Result<Composed, ComposeError> {
    check(draft)?;
    let sender = content::sender(&draft.facts)?;
    let from = draft.from(sender);
    let envelope_from = address(&from.address, "From address")?;
    let envelope_to = address(&draft.to, "To address")?;
    let name = from.name.clone().unwrap_or_else(|| sender.name.clone());

    let envelope = Envelope::new(Some(envelope_from.clone()), vec![envelope_to.clone()])?;
    let mut builder = Message::builder()
        .envelope(envelope)
        .from(Mailbox::new(Some(name.clone()), envelope_from.clone()))
        .to(Mailbox::new(None, envelope_to.clone()));
    if let Some(quoted) = quoted("From", &name, &envelope_from) {
        builder = builder.raw_header(quoted);
    }
    if let Some(mailbox::Mailbox { name, address: to }) = &sender.reply_to {
        let to = address(to, "Reply-To address")?;
        let quoted = quoted("Reply-To", name.as_deref().unwrap_or_default(), &to);
        builder = builder.reply_to(Mailbox::new(name.clone(), to));
        if let Some(quoted) = quoted {
            builder = builder.raw_header(quoted);
        }
    }
    builder = builder
        .subject(parts.subject())
        .date(system_time(draft.date))
        .message_id(Some(format!("<{}>", draft.message_id)))
        // RFC 3834, section 5: no vacation notice answers this.
        .raw_header(header("Auto-Submitted", "auto-generated".to_owned()))
        .raw_header(header("X-Auto-Response-Suppress", "All".to_owned()));
    // RFC 8058 knows HTTPS alone; an installation without it (a demonstration on one machine) sends no such header.
    if let Some(link) = draft
        .one_click()
        .filter(|link| link.starts_with("https://"))
    {
        builder = builder
            .raw_header(header("List-Unsubscribe", format!("<{link}>")))
            .raw_header(header(
                "List-Unsubscribe-Post",
                "List-Unsubscribe=One-Click".to_owned(),
            ));
    }
    let [text, html] = parts.filled(tokens);
    let parts = MultiPart::alternative()
        .boundary(draft.boundary.clone())
        .singlepart(text)
        .singlepart(html);
    let bytes = builder.multipart(parts)?.formatted();
    match long_line(&bytes) {
        Some(line) => Err(ComposeError::LongLine(line)),
        None => Ok(Composed {
            bytes,
            envelope_from,
            envelope_to,
        }),
    }
}

/// Refuses what could end a header early or would not be read back as it was meant.
fn check(draft: &Draft) -> Result<(), ComposeError> {
    let boundary = |b: u8| b.is_ascii_alphanumeric() || b"=_-.".contains(&b);
    // RFC 5322, section 3.6.4: dot-atoms around one @.
    let id = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.@".contains(&b);
    let link = |b: u8| b.is_ascii_graphic() && !b"<>\"\\,".contains(&b);
    let only = |text: &str, allowed: fn(u8) -> bool| text.bytes().all(allowed);
    let site = draft.site.as_deref();
    match () {
        () if !site.is_none_or(list::can_be_named) => Err(ComposeError::Header("site")),
        () if !only(&draft.message_id, id) || draft.message_id.matches('@').count() != 1 => {
            Err(ComposeError::Header("Message-ID"))
        }
        () if !only(&draft.boundary, boundary)
            || !draft.boundary.starts_with("=_")
            || draft.boundary.len() > 70 =>
        {
            Err(ComposeError::Header("MIME boundary"))
        }
        () if !draft.links.all().all(|text| only(text, link)) => Err(ComposeError::Header("link")),
        () => Ok(()),
    }
}

/// A header that lettre has no type for. It folds at spaces alone, so a link stays on one line, as RFC 8058 wants.
fn header(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

/// Returns a mailbox whose name must stand in quotes and that lettre leaves without: one word with a dot in it, as in
/// Acme.example (RFC 5322, section 4.1: such a phrase is never made any more).
fn quoted(field: &'static str, name: &str, address: &lettre::Address) -> Option<HeaderValue> {
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    let is_bare = name.contains('.') && name.bytes().all(atom);
    is_bare.then(|| header(field, format!("\"{name}\" <{address}>")))
}

fn address(address: &Address, what: &'static str) -> Result<lettre::Address, ComposeError> {
    let text = address.as_str();
    text.parse().map_err(|_| ComposeError::Header(what))
}

fn system_time(at: Timestamp) -> SystemTime {
    let seconds = u64::try_from(at.as_seconds()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn long_line(bytes: &[u8]) -> Option<usize> {
    let ends = memchr_iter(b'\n', bytes).chain([bytes.len()]);
    let mut begin = 0;
    let mut lengths = ends.map(|end| {
        let line = &bytes[begin..end];
        begin = end + 1;
        line.strip_suffix(b"\r").unwrap_or(line).len()
    });
    let found = lengths.position(|length| length > LONGEST_LINE);
    found.map(|index| index + 1)
}
