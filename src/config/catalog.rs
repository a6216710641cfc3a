//! Senders and lists: the words that people agree to, reviewed and versioned like code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config::Value;

use super::kinds::{
    by_language, id, list, mailbox, number, one_of, origin, page, secure_page, span, switch, text,
    words,
};
use super::mail::{Smtp, known_relays};
use super::read::{Read, Table, closest, fault};
use super::service::plain;
use crate::domain::frequency::Frequency;
use crate::domain::list::{Authority, Change, Class, ConfirmBy, List, ListId, Sender, SenderId};
use crate::domain::locale::Locale;

const LINK_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
const MOST: usize = 100;

/// Reads `[senders.*]`, and which relays take the mails of those that say so.
pub(super) fn senders(
    table: &mut Table,
    relays: &BTreeMap<String, Smtp>,
) -> (Vec<Sender>, BTreeMap<SenderId, Vec<String>>) {
    let names = table.names();
    let mut routes = BTreeMap::new();
    let mut read = |name: &String| {
        let (sender, route) = sender(name, table.table(name), relays);
        let sender = sender?;
        routes.extend(route.map(|route| (sender.id.clone(), route)));
        Some(sender)
    };
    let senders = names.iter().filter_map(&mut read).collect();
    (senders, routes)
}

/// Reads `[lists.*]`; `senders` are the names that are configured, rightly or not.
pub(super) fn lists(table: &mut Table, senders: &[String]) -> Vec<List> {
    let names = table.names();
    let mut read = |name: &String| one_list(name, table.table(name), senders);
    names.iter().filter_map(&mut read).collect()
}

/// Reads the name of a section.
fn named<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str, table: &Table) -> Option<T> {
    name.parse()
        .map_err(|err| table.fault_here(&format!("is {err}"), "name the section so"))
        .ok()
}

fn sender(
    name: &str,
    mut table: Table,
    relays: &BTreeMap<String, Smtp>,
) -> (Option<Sender>, Option<Vec<String>>) {
    let route = table.get("relays", list(MOST, words));
    if let Some(route) = &route {
        known_relays(&table, "relays", route, relays);
    }
    (facts(name, table), route.filter(|route| !route.is_empty()))
}

fn facts(name: &str, mut table: Table) -> Option<Sender> {
    let id = named::<SenderId>(name, &table);
    let legal = table.required("name", "\"Acme B.V.\"", words);
    let postal = "\"Keizersgracht 1, 1015 CN Amsterdam, NL\"";
    let address = table.required("address", postal, words);
    let contact = table.required("contact", "\"privacy@acme.example\"", words);
    let privacy_url = table.required("privacy_url", "\"https://acme.example/privacy\"", page);
    let authority = authority(&mut table);
    let from = table.required("from", "\"Acme <confirm@acme.example>\"", mailbox);
    let reply_to = table.get("reply_to", mailbox);
    let imprint = table.get("imprint", list(MOST, words));
    let dpo = table.get("dpo", words);
    let time_zone = table.get("time_zone", time_zone);
    let public_url = table.get("public_url", origin);
    table.finish();
    Some(Sender {
        id: id?,
        name: legal?,
        address: address?,
        contact: contact?,
        privacy_url: privacy_url?,
        authority: authority?,
        from: from?,
        reply_to,
        imprint: imprint.unwrap_or_default(),
        dpo,
        time_zone: time_zone.unwrap_or_else(|| "UTC".to_owned()),
        public_url: public_url.as_ref().map(plain),
    })
}

fn authority(table: &mut Table) -> Option<Authority> {
    if !table.has("authority") {
        let remedy = "write it as { name = \"...\", url = \"https://...\" }";
        table.fault("authority", "is missing", remedy);
        return None;
    }
    let mut table = table.table("authority");
    let name = table.required("name", "\"Autoriteit Persoonsgegevens\"", words);
    let url = table.required("url", "\"https://autoriteitpersoonsgegevens.nl\"", page);
    table.finish();
    Some(Authority {
        name: name?,
        url: url?,
    })
}

fn time_zone(value: &Value) -> Read<String> {
    let name = text(value)?;
    match jiff::tz::TimeZone::get(&name) {
        Ok(_) => Ok(name),
        Err(_) => Err(fault(
            format!("{name:?} is no time zone"),
            "write an IANA name, as in \"Europe/Amsterdam\"",
        )),
    }
}

fn one_list(name: &str, mut table: Table, senders: &[String]) -> Option<List> {
    const CLASSES: &[(&str, Class)] = &[
        ("marketing", Class::Marketing),
        ("delivery", Class::Delivery),
    ];
    const CONFIRMS: &[(&str, ConfirmBy)] =
        &[("button", ConfirmBy::Button), ("link", ConfirmBy::Link)];
    const CHANGES: &[(&str, Change)] = &[
        ("editorial", Change::Editorial),
        ("material", Change::Material),
    ];
    let id = named::<ListId>(name, &table);
    if name == "all" {
        table.fault_here(
            "means every list where somebody confirms",
            "give the list another name",
        );
    }
    let sender = table.required("sender", "\"acme\"", |value| known_sender(value, senders));
    let title = table.required("title", "{ en = \"Weekly news\" }", by_language);
    let example = "{ en = \"Yes, mail me the weekly news of Acme B.V.\" }";
    let consent = table.required("consent", example, by_language);
    let label = table.get("label", by_language);
    let default_locale = table.get("default_locale", super::kinds::id::<Locale>);
    let frequency = table.get("frequency", frequency);
    let class = table.get("class", one_of(CLASSES));
    let from = table.get("from", mailbox);
    let confirm = table.get("confirm", one_of(CONFIRMS));
    let link_life = table.get("link_life", span("1 hour", "30 days"));
    let origins = table.get("origins", list(MOST, origin));
    let redirects = table.get("redirects", list(MOST, secure_page));
    let signup_url = table.get("signup_url", secure_page);
    let attributes = table.get("attributes", list(8, attribute));
    let welcome = table.get("welcome", switch);
    let goodbye = table.get("goodbye", switch);
    let revision = table.get("revision", number(1..=i64::from(i32::MAX)));
    let change = table.get("change", one_of(CHANGES));

    let revision: u32 = revision.unwrap_or(1);
    if revision > 1 && change.is_none() {
        let problem = format!("is missing, and revision is {revision}");
        let remedy =
            "write \"editorial\", or \"material\" if who agreed before must be asked again";
        table.fault("change", &problem, remedy);
    }
    let attributes = attributes.unwrap_or_default();
    if attributes.iter().collect::<BTreeSet<_>>().len() < attributes.len() {
        table.fault("attributes", "names one twice", "write it once");
    }
    let titles: BTreeSet<_> = title.iter().flat_map(|texts| texts.keys()).collect();
    let consents: BTreeSet<_> = consent.iter().flat_map(|texts| texts.keys()).collect();
    if title.is_some() && consent.is_some() {
        for locale in titles.symmetric_difference(&consents) {
            let (lacking, other) = match titles.contains(locale) {
                true => ("consent", "title"),
                false => ("title", "consent"),
            };
            let problem = format!("is missing, and {other} is written in this language");
            let remedy = "write both in the same languages";
            table.fault(&format!("{lacking}.{locale}"), &problem, remedy);
        }
    }
    let default_locale = default_locale.or_else(|| match titles.first() {
        Some(only) if titles.len() == 1 => Some((*only).clone()),
        _ => Some(Locale::english()),
    });
    if let Some(locale) = default_locale.as_ref().filter(|_| consent.is_some())
        && !consents.contains(locale)
    {
        let problem = format!("is {locale}, in which the list has no words");
        let known: Vec<_> = consents.iter().map(|locale| locale.as_str()).collect();
        let remedy = format!("write one of {}", known.join(", "));
        table.fault("default_locale", &problem, &remedy);
    }
    table.finish();
    Some(List {
        id: id?,
        sender: sender?,
        title: title?,
        consent: consent?,
        label: label.unwrap_or_default(),
        default_locale: default_locale?,
        frequency,
        class: class.unwrap_or_default(),
        from,
        confirm: confirm.unwrap_or_default(),
        link_life: link_life.unwrap_or(LINK_LIFE),
        origins: origins.iter().flatten().map(plain).collect(),
        redirects: redirects.unwrap_or_default(),
        signup_url,
        attributes,
        welcome: welcome.unwrap_or(false),
        goodbye: goodbye.unwrap_or(true),
        revision,
        change,
    })
}

fn known_sender(value: &Value, senders: &[String]) -> Read<SenderId> {
    let sender: SenderId = id(value)?;
    if senders.iter().any(|name| name == sender.as_str()) {
        return Ok(sender);
    }
    let problem = format!("no sender \"{sender}\" is configured");
    Err(fault(
        problem,
        match closest(sender.as_str(), senders) {
            Some(name) => format!("known: {}; did you mean \"{name}\"?", senders.join(", ")),
            None if senders.is_empty() => format!("add a section [senders.{sender}]"),
            None => format!("known: {}", senders.join(", ")),
        },
    ))
}

fn frequency(value: &Value) -> Read<String> {
    let text = text(value)?;
    match Frequency::parse(&text) {
        Some(_) => Ok(text),
        None => Err(fault(
            format!("{text:?} is no frequency"),
            "write one number of days, weeks, months or years in ISO 8601, as in \"P7D\" or \"P1M\"",
        )),
    }
}

fn attribute(value: &Value) -> Read<String> {
    let name = text(value)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        true => Ok(name),
        false => Err(fault(
            format!("{name:?} is no name of an attribute"),
            "write 1 to 64 of a-z, A-Z, 0-9, _ and -",
        )),
    }
}
