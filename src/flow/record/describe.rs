//! From evidence to the fields of ISO/IEC TS 27560: one pure function, by which a record is made and by which it is checked.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::{Builder, Uuid};

use super::description::{
    AtSignup, Collection, Description, Notice, Party, PersonalData, Purpose, Retention, Right,
    Step, Storage, Subject, Withdrawal,
};
use super::document::{CONTEXT, Stated};
use super::opened::{Given, Mail, Opened, Request, Wording};
use super::step::step;
use crate::domain::consent::Hash;
use crate::domain::event::EventKind;
use crate::domain::evidence::Part;
use crate::domain::id::SubscriberId;
use crate::domain::list::{Class, Facts, ListId, Sender};
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;

/// What a description is made from.
pub struct Basis<'b> {
    /// What the installation says.
    pub stated: &'b Stated,
    /// The list.
    pub list: &'b ListId,
    /// Whose record it is.
    pub subscriber: SubscriberId,
    /// The events that concern the list, oldest first.
    pub events: &'b [&'b Opened],
    /// What lists said, by hash.
    pub facts: &'b BTreeMap<Hash, Facts>,
    /// Words of consent, by hash.
    pub texts: &'b BTreeMap<Hash, String>,
}

/// What cannot be described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing")]
pub struct Missing(pub String);

const SCHEMA: &str = "https://w3id.org/dpv/schema/dpv-27560#record-eu-gdpr";
const CLAIM: &str = "aligned with ISO/IEC TS 27560:2023; not certified";
const PROCESSOR: &str = "Whoever runs confirmd at this address; where that is the controller itself, it is no processor.";
const RETENTION: &str = "As the controller's privacy statement says; confirmd erases on request.";
const WITHDRAWAL: &str = "By the unsubscribe link, by the mail program's own button, or by a message to the contact; free, without an \
account.";

/// Describes what the evidence shows.
///
/// # Errors
/// When a source is missing without which a field would be empty.
pub fn describe(basis: &Basis<'_>) -> Result<Description, Missing> {
    let told = Told::find(basis)?;
    let (facts, sender) = (told.facts, &told.facts.sender);
    let steps: Vec<Step> = basis
        .events
        .iter()
        .filter_map(|event| step(event))
        .collect();
    let status = steps.last().map(|step| step.state);
    let origin = sender.public_url.as_deref();
    let origin = origin.unwrap_or(&basis.stated.public_url);
    Ok(Description {
        context: context(),
        kind: "dpv:ConsentRecord",
        schema: SCHEMA,
        claim: CLAIM,
        record_id: record_id(basis),
        subject: Subject {
            id: basis.subscriber.0,
            email: told.email(basis),
        },
        status: status
            .ok_or_else(|| Missing("an event that says where the consent stands".into()))?,
        notice: told.notice(basis)?,
        purposes: vec![purpose(facts, &told)],
        personal_data: vec![PersonalData {
            kind: "pd:EmailAddress",
            optional: false,
            special: false,
        }],
        controllers: vec![controller(sender)],
        processors: vec![processor(sender, origin)],
        recipients: vec!["the controller and its processors alone".to_owned()],
        collection: told.collection(),
        storage: Storage {
            locations: vec![format!("the database of the installation at {origin}")],
            retention: Retention { rule: RETENTION },
        },
        jurisdiction: jurisdiction(sender),
        rights: rights(sender),
        withdrawal: Withdrawal {
            url: sender.privacy_url.clone(),
            one_click: true,
            contact: sender.contact.clone(),
            text: WITHDRAWAL,
        },
        authority: sender.authority.clone(),
        events: steps,
    })
}

/// The signup on which a consent rests, or the last one while there is none, and what was said then.
struct Told<'b> {
    grant: Option<&'b Opened>,
    asked: &'b Opened,
    wording: Option<Wording>,
    facts: &'b Facts,
}

impl<'b> Told<'b> {
    fn find(basis: &Basis<'b>) -> Result<Self, Missing> {
        use EventKind::*;
        let last = |wanted: &dyn Fn(&Opened) -> bool| {
            let events = basis.events.iter().rev().copied();
            events.into_iter().find(|event| wanted(event))
        };
        let grant = last(&|event| {
            let kind = event.leaf.kind;
            matches!(
                kind,
                SubscriptionConfirmed | SubscriptionRenewed | SubscriptionAttested
            )
        });
        let signup = grant.and_then(|grant| grant.leaf.signup);
        let asked = last(&|event| {
            event.leaf.kind == SignupAccepted && (signup.is_none() || event.leaf.signup == signup)
        });
        // Consent given elsewhere has no signup: its facts lie behind the event itself.
        let asked = match grant {
            Some(grant) if signup.is_none() => Some(grant),
            grant => asked.or(grant),
        };
        let asked = asked.or(basis.events.first().copied());
        let asked = asked.ok_or_else(|| Missing("every event".into()))?;
        let wording: Option<Wording> = asked.says(Part::Wording);
        let words = wording.as_ref();
        let words = words.and_then(|w| w.lists.iter().find(|l| l.list == *basis.list));
        let request: Option<Request> = grant.and_then(|grant| grant.says(Part::Request));
        let hash = words.map(|words| words.facts);
        let hash = hash.or(request.map(|request| request.facts));
        let hash = hash.unwrap_or(basis.stated.in_force);
        let facts = basis.facts.get(&hash);
        Ok(Self {
            grant,
            asked,
            facts: facts.ok_or_else(|| Missing(format!("source facts {hash}")))?,
            wording,
        })
    }

    fn locale(&self) -> Locale {
        let from_leaf = self.asked.data("locale").and_then(|tag| tag.parse().ok());
        let from_words = self.wording.as_ref().map(|words| words.locale.clone());
        let own = || self.facts.list.default_locale.clone();
        from_words.or(from_leaf).unwrap_or_else(own)
    }

    fn email(&self, basis: &Basis<'_>) -> Option<String> {
        let given: Option<Given> = self.asked.says(Part::Address);
        let mailed = || {
            let mails = basis.events.iter().filter(|event| {
                event.leaf.signup.is_some() && event.leaf.signup == self.asked.leaf.signup
            });
            let mut mails = mails.filter_map(|event| event.says::<Mail>(Part::Mail));
            mails.next().map(|mail| mail.mail.to)
        };
        given.map(|given| given.email).or_else(mailed)
    }

    fn notice(&self, basis: &Basis<'_>) -> Result<Notice, Missing> {
        let list = &self.facts.list;
        let language = self.locale();
        let said = self.wording.as_ref();
        let words = said.and_then(|w| w.lists.iter().find(|l| l.list == *basis.list));
        let text = |hash: Hash| {
            let text = basis.texts.get(&hash).cloned();
            text.ok_or_else(|| Missing(format!("source text {hash}")))
        };
        let (sha256, words) = match words {
            Some(words) => (words.text_sha256, text(words.text_sha256)?),
            None => {
                let words =
                    list.words_in(&language)
                        .or(list.consent.values().next().map(String::as_str));
                let words = words.unwrap_or_default().to_owned();
                (Hash::of(words.as_bytes()), words)
            }
        };
        Ok(Notice {
            url: self.facts.sender.privacy_url.clone(),
            version: list.revision,
            language,
            text: words,
            sha256,
            shown_at: self.at(),
            at_signup: match said.and_then(|said| said.reported_sha256) {
                Some(sha256) => AtSignup::Reported {
                    sha256,
                    text: text(sha256)?,
                },
                None => AtSignup::NotReported,
            },
        })
    }

    /// Returns when the person agreed, as the form's backend reports it, else when that was first written down.
    fn at(&self) -> Timestamp {
        let named = |name| Timestamp::parse(&self.form(name)?).ok();
        let reported = named("at").or_else(|| named("first_at"));
        reported.unwrap_or(self.asked.leaf.time)
    }

    fn form(&self, name: &str) -> Option<String> {
        let form: Value = self.asked.says(Part::Form)?;
        form.get(name)?.as_str().map(str::to_owned)
    }

    fn control_label(&self) -> Option<String> {
        let locale = &self.wording.as_ref()?.locale;
        self.facts.list.label.get(locale).cloned()
    }

    fn collection(&self) -> Collection {
        let method = self.form("action").unwrap_or_else(|| "unknown".to_owned());
        let source = self.form("source");
        let is_page = |source: &String| {
            url::Url::parse(source).is_ok_and(|url| matches!(url.scheme(), "https" | "http"))
        };
        Collection {
            act: match method.as_str() {
                "checkbox" => "ticked a box that was empty",
                "button" => "pressed a button that says what it does",
                "form" => "sent a form that serves nothing else",
                "oral" => "said so",
                "paper" => "signed or wrote on paper",
                _ => "not known here: the facts behind the event are erased, or of another kind",
            },
            method,
            control_label: self.control_label(),
            at: self.at(),
            place: source.clone().filter(|source| !is_page(source)),
            source_url: source.filter(is_page),
            challenge: self.form("challenge"),
            recorder: self.facts.sender.id.clone(),
        }
    }
}

/// The context as a value, the same for every record.
fn context() -> Value {
    let file: Value = serde_json::from_str(CONTEXT).unwrap_or_default();
    file.get("@context").cloned().unwrap_or_default()
}

/// The same for the same subscriber and list, whenever the record is made (RFC 9562, version 8).
fn record_id(basis: &Basis<'_>) -> Uuid {
    let text = format!(
        "confirmd consent record v1\n{}\n{}",
        basis.subscriber, basis.list
    );
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Hash::of(text.as_bytes()).0[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

fn purpose(facts: &Facts, told: &Told<'_>) -> Purpose {
    let list = &facts.list;
    let basis = told.grant.and_then(|grant| grant.data("basis"));
    Purpose {
        id: list.id.clone(),
        text: list.title_in(&told.locale()).to_owned(),
        kind: match list.class {
            Class::Marketing => Some("dpv:DirectMarketing"),
            Class::Delivery => None,
        },
        legal_basis: match basis {
            Some("soft_opt_in") => "eu-gdpr:A6-1-f",
            _ => "eu-gdpr:A6-1-a",
        },
        frequency: list.frequency.clone(),
        channel: "email",
    }
}

fn controller(sender: &Sender) -> Party {
    Party {
        id: sender.id.clone(),
        name: sender.name.clone(),
        address: sender.address.clone(),
        contact: sender.contact.clone(),
        url: sender.privacy_url.clone(),
        role: "controller",
        kind: "dpv:DataController",
        note: None,
    }
}

/// The configuration does not name who runs the installation, so that its address must do.
fn processor(sender: &Sender, origin: &str) -> Party {
    Party {
        id: sender.id.clone(),
        name: format!("Operator of confirmd at {origin}"),
        address: origin.to_owned(),
        contact: sender.contact.clone(),
        url: origin.to_owned(),
        role: "processor",
        kind: "dpv:DataProcessor",
        note: Some(PROCESSOR),
    }
}

/// The country with which a postal address ends, else the union whose law the record speaks of.
fn jurisdiction(sender: &Sender) -> String {
    let last = sender.address.rsplit([',', ' ']).next().unwrap_or_default();
    let is_code = last.len() == 2 && last.bytes().all(|b| b.is_ascii_uppercase());
    if is_code { last } else { "EU" }.to_owned()
}

fn rights(sender: &Sender) -> Vec<Right> {
    const AT_PRIVACY: [&str; 7] = [
        "eu-gdpr:A7-3",
        "eu-gdpr:A15",
        "eu-gdpr:A16",
        "eu-gdpr:A17",
        "eu-gdpr:A18",
        "eu-gdpr:A20",
        "eu-gdpr:A21",
    ];
    let right = |right, url: &str| Right {
        right,
        url: url.to_owned(),
    };
    let mut rights = AT_PRIVACY
        .map(|name| right(name, &sender.privacy_url))
        .to_vec();
    rights.push(right("eu-gdpr:A77", &sender.authority.url));
    rights
}
