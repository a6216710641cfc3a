//! The consent record as a page: what a court reads, without a script, and what a printer prints.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::page;
use crate::domain::event::EventKind;
use crate::domain::evidence::Part;
use crate::domain::frequency::Frequency;
use crate::domain::list::Facts;
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;
use crate::flow::record::description::{AtSignup, Step};
use crate::flow::record::document::{Inclusion, Proven, Record, Records};
use crate::flow::record::mail::{Shown, mails};
use crate::flow::record::opened::Opened;
use crate::http::App;
use crate::template::{
    ErasedFace, EventFace, HOWS, HeaderFace, MailFace, RecordFace, RecordPage, SenderFace,
    StepFace, Templates, event_key,
};

/// Answers with the page.
pub fn show(app: &App, records: &Records, locale: Option<&Locale>, now: Timestamp) -> Response {
    match content(records, now) {
        Ok(content) => page(app, StatusCode::OK, &language(records, locale), &content),
        Err(error) => {
            tracing::error!(error = %error, "a consent record cannot be shown");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Renders the page for the command line.
///
/// # Errors
/// When a mail of the record cannot be made again, or a template cannot be rendered.
pub fn render(
    templates: &Templates,
    records: &Records,
    locale: Option<&Locale>,
    now: Timestamp,
) -> Result<String, String> {
    let rendered = templates.page(&language(records, locale), &content(records, now)?);
    rendered.map_err(|error| error.to_string())
}

/// The language asked for, else that in which the person agreed.
fn language(records: &Records, asked: Option<&Locale>) -> Locale {
    let own = records.records.first();
    let own = own.map(|record| &record.description.notice.language);
    asked.or(own).cloned().unwrap_or_else(Locale::english)
}

fn content(records: &Records, now: Timestamp) -> Result<RecordPage, String> {
    let first = records.records.first();
    let sender = first.map(|record| facts(record).map(|facts| SenderFace::from(&facts.sender)));
    let records = records.records.iter().map(face);
    Ok(RecordPage {
        sender: sender.transpose()?,
        generated_at: now,
        records: records.collect::<Result<_, _>>()?,
    })
}

fn facts(record: &Record) -> Result<Facts, String> {
    let text = record.sources.facts.get(&record.stated.in_force);
    let text = text.ok_or("the facts in force are missing")?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn face(record: &Record) -> Result<RecordFace, String> {
    let about = &record.description;
    let purpose = about.purposes.first().ok_or("a record has no purpose")?;
    let frequency = purpose.frequency.as_deref().and_then(Frequency::parse);
    let last = about.events.last().ok_or("a record has no event")?;
    let collection = &about.collection;
    let events = record.evidence.iter().map(event);
    Ok(RecordFace {
        title: purpose.text.clone(),
        list: purpose.id.to_string(),
        id: about.record_id.to_string(),
        subscriber: about.subject.id.to_string(),
        email: about.subject.email.clone(),
        state: state(about.status),
        since: last.time,
        basis: match purpose.legal_basis {
            "eu-gdpr:A6-1-f" => "interest",
            _ => "consent",
        },
        frequency,
        words: about.notice.text.clone(),
        lang: about.notice.language.clone(),
        language: language_key(&about.notice.language),
        sha256: about.notice.sha256,
        version: about.notice.version,
        reported: match &about.notice.at_signup {
            AtSignup::Reported { text, .. } => Some(text.clone()),
            AtSignup::NotReported => None,
        },
        privacy_url: about.notice.url.clone(),
        act: act(&collection.method),
        at: collection.at,
        source: collection.source_url.clone().or(collection.place.clone()),
        challenge: collection.challenge.clone(),
        steps: about.events.iter().map(step).collect(),
        mails: mails(record)?.into_iter().map(mail).collect(),
        events: events.collect::<Result<_, _>>()?,
        checkpoint: record.checkpoint.as_ref().map(|kept| kept.note.clone()),
        stamped: record
            .checkpoint
            .as_ref()
            .is_some_and(|kept| kept.stamp.is_some()),
        confirmd: record.stated.confirmd.clone(),
    })
}

fn state(state: &str) -> &'static str {
    match state {
        "dpv:ConsentRequested" => "requested",
        "dpv:ConsentGiven" => "given",
        "dpv:RenewedConsentGiven" => "renewed",
        "dpv:ConsentRefused" => "refused",
        "dpv:ConsentExpired" => "expired",
        "dpv:ConsentWithdrawn" => "withdrawn",
        "dpv:ConsentRevoked" => "revoked",
        "dpv:ConsentInvalidated" => "invalidated",
        _ => "unknown",
    }
}

fn language_key(language: &Locale) -> &'static str {
    match language.base().as_str() {
        "en" => "en",
        "nl" => "nl",
        _ => "other",
    }
}

fn act(method: &str) -> &'static str {
    let known = ["checkbox", "button", "form", "oral", "paper"];
    let found = known.into_iter().find(|known| *known == method);
    found.unwrap_or("unknown")
}

fn step(step: &Step) -> StepFace {
    StepFace {
        time: step.time,
        state: state(step.state),
        method: match step.method.as_str() {
            "signup" => "signup",
            "POST button" => "button",
            "one-click" => "one_click",
            "mailto" => "mailto",
            "link expired" => "link_ended",
            method if method.starts_with("GET") => "link",
            _ => "other",
        },
    }
}

fn mail(shown: Shown) -> MailFace {
    let headers = shown.headers.into_iter();
    MailFace {
        subject: shown.subject,
        at: shown.at,
        headers: headers
            .map(|(name, value)| HeaderFace { name, value })
            .collect(),
        text: shown.text,
        sha256: shown.sha256,
        masked_sha256: shown.masked_sha256,
        answer: shown.answer.and_then(|answer| {
            let code = answer.code?.to_string();
            let enhanced = answer.enhanced.unwrap_or_default();
            Some(format!("{code} {enhanced}").trim_end().to_owned())
        }),
    }
}

fn event(proven: &Proven) -> Result<EventFace, String> {
    let event = Opened::read(proven)?;
    let network: Option<serde_json::Value> = event.says(Part::Network);
    let network = network.map(|network| {
        let said = |name: &str| network.get(name)?.as_str().map(str::to_owned);
        let said = [said("ip"), said("user_agent")];
        said.into_iter().flatten().collect::<Vec<_>>().join(", ")
    });
    let how = match event.leaf.kind {
        kind if kind.is_confirm() => "by",
        EventKind::SubscriberExported => "what",
        _ if event.data("kind").is_some() => "kind",
        _ => "how",
    };
    let erased = proven.erased.iter();
    Ok(EventFace {
        seq: event.seq,
        time: event.leaf.time,
        kind: event_key(event.leaf.kind),
        how: event.data(how).map(how_key),
        hash: event.hash(),
        proven: matches!(proven.proof, Inclusion::Proof { .. }),
        network,
        erased: erased
            .map(|erased| ErasedFace {
                part: erased.part.as_str(),
                reason: match erased.reason.as_str() {
                    "retention" => "retention",
                    _ => "request",
                },
            })
            .collect(),
    })
}

fn how_key(how: &str) -> &'static str {
    let found = HOWS.into_iter().find(|known| *known == how);
    found.unwrap_or("other")
}
