//! The mails of a record as they were sent, made again from the record alone.

use mail_parser::MessageParser;

use super::document::{Record, Sources};
use super::opened::{Mail, Opened};
use crate::domain::consent::Hash;
use crate::domain::delivery::{Answer, MessageKind};
use crate::domain::evidence::Part;
use crate::domain::time::Timestamp;
use crate::message::{Composed, Proof};

/// Headers that people look at, in their order.
const HEADERS: [&str; 6] = [
    "From",
    "To",
    "Date",
    "Message-ID",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];

/// One mail as it was sent, with `*` for its tokens.
#[derive(Clone)]
pub struct Shown {
    /// Why.
    pub kind: MessageKind,
    /// When the relay took it, or perhaps did.
    pub at: Timestamp,
    /// Its subject.
    pub subject: String,
    /// Headers that people look at.
    pub headers: Vec<(&'static str, String)>,
    /// Its plain text.
    pub text: String,
    /// The SHA-256 of the bytes as sent.
    pub sha256: Hash,
    /// The SHA-256 of the same with masked tokens: that of what is shown here.
    pub masked_sha256: Hash,
    /// What the relay answered.
    pub answer: Option<Answer>,
}

/// Makes the mails of a record again; those whose evidence is erased are left out.
///
/// # Errors
/// When a mail cannot be made from what the record holds.
pub fn mails(record: &Record) -> Result<Vec<Shown>, String> {
    let mut shown = Vec::new();
    for proven in &record.evidence {
        let event = Opened::read(proven)?;
        let Some(Mail { mail, answer }) = event.says(Part::Mail) else {
            continue;
        };
        let composed = reproduce(&mail, &record.sources)?;
        shown.push(show(&mail, answer, event.leaf.time, &composed.bytes));
    }
    Ok(shown)
}

/// Makes one mail again, with masked tokens.
///
/// # Errors
/// What is missing, or why it cannot be made.
pub fn reproduce(mail: &Proof, sources: &Sources) -> Result<Composed, String> {
    let mut facts = Vec::with_capacity(mail.facts.len());
    for hash in &mail.facts {
        let text = sources.facts.get(hash);
        facts.push(
            text.ok_or_else(|| format!("source facts {hash} is missing"))?
                .as_str(),
        );
    }
    let template = mail.pinned.template;
    let source = sources.templates.get(&template);
    let source = source.ok_or_else(|| format!("source template {template} is missing"))?;
    let made = mail.reproduce(&facts, source);
    made.map_err(|error| format!("the mail cannot be made again: {error}"))
}

fn show(mail: &Proof, answer: Option<Answer>, at: Timestamp, bytes: &[u8]) -> Shown {
    let read = MessageParser::new().parse(bytes);
    let head = String::from_utf8_lossy(bytes);
    let head = head.split("\r\n\r\n").next().unwrap_or_default();
    let unfolded = head.replace("\r\n ", " ");
    // People read names, not how these were encoded.
    let decoded = |name: &str| {
        let read = read.as_ref().filter(|_| matches!(name, "From" | "To"))?;
        let first = read.header(name)?.as_address()?.first()?;
        let address = first.address()?;
        let named = first.name().map(|name| format!("{name} <{address}>"));
        Some(named.unwrap_or_else(|| address.to_owned()))
    };
    let raw = |name: &str| {
        let mut lines = unfolded
            .split("\r\n")
            .filter_map(|line| line.split_once(": "));
        let (_, value) = lines.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value.to_owned())
    };
    let header = |name: &'static str| Some((name, decoded(name).or_else(|| raw(name))?));
    let text = read.as_ref().and_then(|read| read.body_text(0));
    Shown {
        kind: mail.kind,
        at,
        subject: read
            .as_ref()
            .and_then(|read| read.subject())
            .unwrap_or_default()
            .to_owned(),
        headers: HEADERS.into_iter().filter_map(header).collect(),
        text: text
            .unwrap_or_default()
            .replace("\r\n", "\n")
            .trim_end()
            .to_owned(),
        sha256: mail.sha256,
        masked_sha256: mail.masked_sha256,
        answer,
    }
}
