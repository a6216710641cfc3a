//! The kinds of values that settings have: what is accepted, and what to write instead.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use config::{Value, ValueKind};
use url::{Host, Url};

use super::read::{Fault, Read, fault, name};
use super::source::ENVIRONMENT;
use crate::domain::address::Address;
use crate::domain::locale::Locale;
use crate::domain::mailbox::Mailbox;
use crate::domain::time::parse_duration;

/// The longest text that a setting may hold, in characters.
const LONGEST: usize = 1000;

fn wrong(value: &Value, remedy: impl Into<String>) -> Fault {
    fault(format!("is {}", name(&value.kind)), remedy)
}

/// Reads a text as it is; the environment has no other kind.
pub(super) fn text(value: &Value) -> Read<String> {
    match &value.kind {
        ValueKind::String(text) => Ok(text.clone()),
        _ => Err(wrong(value, "write a text in quotes")),
    }
}

/// Reads words for people: not empty, at most 1000 characters, without control characters.
pub(super) fn words(value: &Value) -> Read<String> {
    let text = text(value)?;
    if text.trim().is_empty() {
        return Err(fault("is empty", "write it, or leave the key out"));
    }
    if text.chars().count() > LONGEST {
        let problem = format!("has more than {LONGEST} characters");
        return Err(fault(problem, "shorten it"));
    }
    if text.chars().any(char::is_control) {
        return Err(fault(
            "holds a control character, such as a line break",
            "write it on one line",
        ));
    }
    Ok(text)
}

/// Reads true or false.
pub(super) fn switch(value: &Value) -> Read<bool> {
    match (&value.kind, value.origin()) {
        (ValueKind::Boolean(on), _) => Ok(*on),
        (ValueKind::String(text), Some(ENVIRONMENT)) if text == "true" => Ok(true),
        (ValueKind::String(text), Some(ENVIRONMENT)) if text == "false" => Ok(false),
        _ => Err(wrong(value, "write true or false, without quotes")),
    }
}

/// Reads a whole number within bounds.
pub(super) fn number<N: TryFrom<i64>>(bounds: RangeInclusive<i64>) -> impl Fn(&Value) -> Read<N> {
    move |value| {
        let (least, most) = (bounds.start(), bounds.end());
        let remedy = format!("write a whole number from {least} to {most}, without quotes");
        let number = match (&value.kind, value.origin()) {
            (ValueKind::I64(number), _) => *number,
            (ValueKind::String(text), Some(ENVIRONMENT)) => text
                .parse()
                .map_err(|_| fault("is no whole number", remedy.clone()))?,
            _ => return Err(wrong(value, remedy)),
        };
        let fits = bounds.contains(&number).then(|| N::try_from(number).ok());
        fits.flatten()
            .ok_or_else(|| fault(format!("{number} is out of bounds"), remedy))
    }
}

/// Reads a span of time within bounds.
pub(super) fn span(least: &str, most: &str) -> impl Fn(&Value) -> Read<Duration> {
    let bounds = parse_duration(least).ok().zip(parse_duration(most).ok());
    let bounds_said = format!("from \"{least}\" to \"{most}\"");
    move |value| {
        let remedy = format!("write a time {bounds_said}");
        let text = match &value.kind {
            ValueKind::String(text) => text,
            ValueKind::I64(_) => {
                let remedy = format!("{remedy}, with its unit and in quotes");
                return Err(fault("is a number without a unit", remedy));
            }
            _ => return Err(wrong(value, remedy)),
        };
        let span =
            parse_duration(text).map_err(|err| fault(format!("{text:?} is {err}"), &remedy))?;
        match bounds {
            Some((least, most)) if (least..=most).contains(&span) => Ok(span),
            _ => Err(fault(format!("{text:?} is out of bounds"), remedy)),
        }
    }
}

/// Reads a number of bytes.
pub(super) fn size(value: &Value) -> Read<u64> {
    const UNITS: &[(&str, u64)] = &[
        ("B", 1),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    const MOST: u64 = 1 << 50;
    const REMEDY: &str = "write a size as in \"256 MB\": B, kB, MB, GB, KiB, MiB or GiB";
    let text = match &value.kind {
        ValueKind::String(text) => text,
        ValueKind::I64(_) => {
            let remedy = format!("{REMEDY}, in quotes");
            return Err(fault("is a number without a unit", remedy));
        }
        _ => return Err(wrong(value, REMEDY)),
    };
    let read = || {
        let (number, unit) = text.split_once(' ')?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let bytes = number.parse::<u64>().ok()?.checked_mul(*factor)?;
        (bytes <= MOST).then_some(bytes)
    };
    read().ok_or_else(|| fault(format!("{text:?} is no size"), REMEDY))
}

/// Reads one of a closed set of words.
pub(super) fn one_of<T: Copy>(set: &[(&str, T)]) -> impl Fn(&Value) -> Read<T> {
    move |value| {
        let known: Vec<_> = set.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let remedy = format!("write {}", known.join(" or "));
        let ValueKind::String(text) = &value.kind else {
            return Err(wrong(value, remedy));
        };
        let found = set.iter().find(|(word, _)| word == text);
        found
            .map(|(_, member)| *member)
            .ok_or_else(|| fault(format!("{text:?} is not known"), remedy))
    }
}

/// Reads a list; the environment writes it with commas.
pub(super) fn list<T>(
    most: usize,
    read: impl Fn(&Value) -> Read<T>,
) -> impl Fn(&Value) -> Read<Vec<T>> {
    move |value| {
        let environment = ENVIRONMENT.to_owned();
        let part = |text: &str| Value::new(Some(&environment), text.trim().to_owned());
        let parts = match (&value.kind, value.origin()) {
            (ValueKind::Array(values), _) => values.clone(),
            (ValueKind::String(text), Some(ENVIRONMENT)) if text.trim().is_empty() => Vec::new(),
            (ValueKind::String(text), Some(ENVIRONMENT)) => text.split(',').map(part).collect(),
            _ => return Err(wrong(value, "write a list in square brackets")),
        };
        if parts.len() > most {
            let problem = format!("has {} members", parts.len());
            return Err(fault(problem, format!("write at most {most}")));
        }
        let read_at = |(at, value)| {
            read(value).map_err(|err| Fault {
                at: format!("[{at}]"),
                ..err
            })
        };
        parts.iter().enumerate().map(read_at).collect()
    }
}

/// Reads words by language.
pub(super) fn by_language(value: &Value) -> Read<BTreeMap<Locale, String>> {
    let ValueKind::Table(table) = &value.kind else {
        return Err(wrong(value, "write words by language: { en = \"...\" }"));
    };
    let mut texts = BTreeMap::new();
    let mut tags: Vec<_> = table.keys().collect();
    tags.sort();
    for tag in tags {
        let at = |err: Fault| Fault {
            at: format!(".{tag}"),
            ..err
        };
        let locale = Locale::from_str(tag).map_err(|err| {
            let problem = format!("is {err}");
            at(fault(problem, "write a language tag, as in nl or pt-BR"))
        })?;
        if texts
            .insert(locale, words(&table[tag]).map_err(at)?)
            .is_some()
        {
            return Err(at(fault(
                "names a language for the second time",
                "write one of them",
            )));
        }
    }
    if texts.is_empty() {
        return Err(fault(
            "is empty",
            "write words by language: { en = \"...\" }",
        ));
    }
    Ok(texts)
}

/// Reads an IP address with a port.
pub(super) fn listen(value: &Value) -> Read<SocketAddr> {
    let remedy = "write an IP address and a port, as in \"127.0.0.1:8080\" or \"[::]:8080\"";
    let text = text(value)?;
    text.parse()
        .map_err(|_| fault(format!("{text:?} is no IP address with a port"), remedy))
}

/// Reads a path.
pub(super) fn path(value: &Value) -> Read<PathBuf> {
    words(value).map(PathBuf::from)
}

/// Reads a mail address; never repeats it.
pub(super) fn address(value: &Value) -> Read<Address> {
    Address::parse(&text(value)?)
        .map_err(|err| fault(err.to_string(), "write a mail address that can be mailed"))
}

/// Reads a mailbox; never repeats it.
pub(super) fn mailbox(value: &Value) -> Read<Mailbox> {
    Mailbox::try_from(words(value)?).map_err(|err| {
        let remedy = "write it as \"Name <local@domain>\" or \"local@domain\"";
        fault(err.to_string(), remedy)
    })
}

/// Reads a name of a sender or list.
pub(super) fn id<T: FromStr<Err: std::fmt::Display>>(value: &Value) -> Read<T> {
    let text = text(value)?;
    text.parse()
        .map_err(|err| fault(format!("{text:?} is {err}"), "write such a name"))
}

/// Reads the address of a page, https or http, and returns it as written.
pub(super) fn page(value: &Value) -> Read<String> {
    absolute(value).map(|(text, _)| text)
}

/// Reads the address of a page, https unless the host is loopback, and returns it as written.
pub(super) fn secure_page(value: &Value) -> Read<String> {
    let (text, url) = absolute(value)?;
    secure(&url)?;
    Ok(text)
}

/// Reads an address to which something is sent, https unless the host is loopback.
pub(super) fn endpoint(value: &Value) -> Read<Url> {
    let (_, url) = absolute(value)?;
    secure(&url)?;
    Ok(url)
}

/// Reads an origin (scheme, host, port), https unless the host is loopback.
pub(super) fn origin(value: &Value) -> Read<Url> {
    let (_, url) = absolute(value)?;
    secure(&url)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        let remedy = format!("write {:?}", url.origin().ascii_serialization());
        return Err(fault("is more than scheme, host and port", remedy));
    }
    Ok(url)
}

fn absolute(value: &Value) -> Read<(String, Url)> {
    let remedy = "write an absolute address, as in \"https://acme.example/news\"";
    let text = words(value)?;
    // The parser would drop spaces silently.
    let url = Url::parse(&text).ok().filter(|url| {
        matches!(url.scheme(), "https" | "http") && url.has_host() && !text.contains(' ')
    });
    let url = url.ok_or_else(|| fault("is no absolute https address", remedy))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault("holds a user name or password", "leave it out"));
    }
    Ok((text, url))
}

fn secure(url: &Url) -> Read<()> {
    if url.scheme() == "https" || url.host().is_some_and(|host| is_loopback(&host)) {
        return Ok(());
    }
    Err(fault(
        "is http to another host",
        "write https; http is for loopback only",
    ))
}

/// Tells whether a host can only be this machine.
pub(super) fn is_loopback<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => IpAddr::from(*ip).to_canonical().is_loopback(),
        Host::Domain(name) => is_localhost(name.as_ref()),
    }
}

fn is_localhost(name: &str) -> bool {
    // RFC 6761, section 6.3.
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Tells whether a host, written as a name or an IP address without brackets, can only be this machine.
pub(super) fn is_loopback_name(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => is_localhost(host),
    }
}
