//! `/r/{token}`: what a person agreed to, for their own eyes. There is nothing to press.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::unsubscribe::gone;
use super::{Link, face, failed, link, page};
use crate::domain::consent::Hash;
use crate::domain::frequency::Frequency;
use crate::domain::id::SignupId;
use crate::flow::receipt::{self, Agreed, Receipt, Reported};
use crate::http::App;
use crate::template::{
    AgreedList, ListFace, NoReceiptPage, NotAgreedList, OtherWords, ReceiptMail, ReceiptPage,
};
use crate::token::Purpose;

/// Shows what one signup agreed to. Changes nothing.
pub async fn show(
    State(app): State<Arc<App>>,
    Link { claims, .. }: Link,
    headers: HeaderMap,
) -> Response {
    match receipt::receipt(&app.flows, SignupId(claims.subject)).await {
        Ok(Some(receipt)) => as_recorded(&app, receipt),
        Ok(None) => gone(&app, StatusCode::NOT_FOUND, &headers),
        Err(error) => failed(&app, &error, &headers),
    }
}

fn as_recorded(app: &App, receipt: Receipt) -> Response {
    let locale = &receipt.locale;
    let sender = face(&receipt.sender);
    let other = receipt.other.into_iter();
    let mut other: Vec<_> = other
        .map(|(title, why)| NotAgreedList { title, why })
        .collect();
    if receipt.agreed.is_empty()
        && let Some(why) = other.iter().map(|list| list.why).min()
    {
        let titles = other.iter().filter(|list| list.why == why);
        let content = NoReceiptPage {
            sender,
            why,
            titles: titles.map(|list| list.title.clone()).collect(),
            asked_at: receipt.asked_at,
            other: {
                other.retain(|list| list.why != why);
                other
            },
        };
        return page(app, StatusCode::OK, locale, &content);
    }
    let agreed = receipt.agreed.into_iter();
    let content = ReceiptPage {
        sender,
        asked_by: face(&receipt.asked_by),
        id: receipt.signup.to_string(),
        asked_at: receipt.asked_at,
        received_at: receipt.received_at,
        again_at: receipt.again_at,
        action: receipt.action,
        source: receipt.source,
        mailed: receipt.mailed.map(|mail| ReceiptMail {
            at: mail.at,
            taken: mail.taken,
        }),
        agreed: agreed
            .map(|agreed| AgreedList {
                list: ListFace {
                    id: agreed.facts.list.id.to_string(),
                    title: agreed.facts.list.title_in(locale).to_owned(),
                    words: agreed.words.clone(),
                    lang: locale.clone(),
                    frequency: frequency(&agreed),
                },
                sha256: Hash::of(agreed.words.as_bytes()),
                reported: agreed.reported != Reported::No,
                purpose: agreed.facts.list.class,
                confirmed_at: agreed.confirmed_at,
                by: agreed.by,
                ended: agreed.ended,
                subscribed_since: agreed.subscribed_since,
                eligible: agreed.eligible,
                restricted_at: agreed.restricted_at,
                closed: agreed.closed,
                unsubscribe_url: unsubscribe_url(app, &agreed),
                other_words: match agreed.reported {
                    Reported::No | Reported::Same => None,
                    Reported::Other {
                        words,
                        locale,
                        hash,
                    } => Some(OtherWords {
                        words,
                        lang: locale,
                        sha256: hash,
                    }),
                },
            })
            .collect(),
        other,
    };
    page(app, StatusCode::OK, locale, &content)
}

fn frequency(agreed: &Agreed) -> Option<Frequency> {
    let frequency = agreed.facts.list.frequency.as_deref();
    frequency.and_then(Frequency::parse)
}

/// The way out, wherever there is something to leave.
fn unsubscribe_url(app: &App, agreed: &Agreed) -> Option<String> {
    let subscription = agreed
        .subscription
        .filter(|_| agreed.subscribed_since.is_some())?;
    let sender = &agreed.facts.sender;
    Some(link(app, sender, Purpose::Unsubscribe, subscription.0))
}
