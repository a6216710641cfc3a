//! `/c/{token}`: what is asked, and the yes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;

use super::{Link, decline, failed, is_one_click, link, page};
use crate::domain::consent::Network;
use crate::domain::frequency::Frequency;
use crate::domain::id::SignupId;
use crate::domain::list::{ConfirmBy, ListId, vouched_site};
use crate::domain::signup::{Confirm, ListState};
use crate::domain::time::Timestamp;
use crate::flow::again as ask_again;
use crate::flow::confirm::{Choice, Press};
use crate::flow::view::{self, ListView, SignupView};
use crate::http::App;
use crate::http::body::{lenient, pairs};
use crate::http::network::From;
use crate::template::{
    ConfirmPage, Confirmed, ConfirmedList, ConfirmedPage, Declined, Ended, EndedPage, ListFace,
    OtherList, OtherState,
};
use crate::token::{Claims, Purpose};

/// Shows the signup as it stands. Changes nothing, unless the only list of its mail lets the link itself confirm.
pub async fn show(
    State(app): State<Arc<App>>,
    Link { claims, token }: Link,
    From(network): From,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let id = SignupId(claims.subject);
    let view = match view::signup(&app.flows, id).await {
        Ok(Some(view)) => view,
        Ok(None) => return unknown(&app, &headers),
        Err(error) => return failed(&app, &error, &headers),
    };
    if method == Method::GET {
        match view::confirmed_by_link(&app.flows, &view).await {
            Ok(None) => {}
            Ok(Some(list)) => {
                let (choice, by) = (Choice::Lists([list].into()), ConfirmBy::Link);
                return confirm(&app, &token, (claims, network), choice, by, &headers).await;
            }
            Err(error) => return failed(&app, &error, &headers),
        }
    }
    as_it_stands(&app, &token, &view, &[])
}

/// Takes the yes: `list=<id>`, repeatable, or `list=all`; with one list an empty form means it.
pub async fn press(
    State(app): State<Arc<App>>,
    Link { claims, token }: Link,
    From(network): From,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let id = SignupId(claims.subject);
    let form = lenient(body).await;
    // A mail program that presses "unsubscribe" on this link must not subscribe anybody; what was cut off could be that.
    let choice = match form.whole && !is_one_click(&form.bytes) {
        true => choice(&form.bytes),
        false => None,
    };
    match choice {
        Some(choice) => {
            let by = ConfirmBy::Button;
            confirm(&app, &token, (claims, network), choice, by, &headers).await
        }
        None => match view::signup(&app.flows, id).await {
            Ok(Some(view)) => as_it_stands(&app, &token, &view, &[]),
            Ok(None) => unknown(&app, &headers),
            Err(error) => failed(&app, &error, &headers),
        },
    }
}

/// Asks for a new mail where the link has expired.
pub async fn again(
    State(app): State<Arc<App>>,
    Link { claims, token }: Link,
    headers: HeaderMap,
) -> Response {
    match ask_again::again(&app.flows, SignupId(claims.subject)).await {
        Ok(ask_again::Outcome::OnItsWay(view)) => ended(&app, StatusCode::OK, &view, Ended::Mailed),
        Ok(ask_again::Outcome::NotNow(view, mailed_at)) => {
            let reason =
                mailed_at.map_or(Ended::NotNow, |at| Ended::MailedBefore { mailed_at: at });
            ended(&app, StatusCode::OK, &view, reason)
        }
        // The link proves the mailbox: its owner may lift the hold here.
        Ok(ask_again::Outcome::Held(view)) => {
            let action = Some(decline_url(&app, &view));
            decline::result(&app, action, &view, Declined::Held, &[], &[])
        }
        Ok(ask_again::Outcome::NotPossible(view)) => as_it_stands(&app, &token, &view, &[]),
        Ok(ask_again::Outcome::Unknown) => unknown(&app, &headers),
        Err(error) => failed(&app, &error, &headers),
    }
}

/// Reads which lists a form means; none where it is no form of ours.
fn choice(body: &[u8]) -> Option<Choice> {
    if body.is_empty() {
        return Some(Choice::Only);
    }
    let names: Vec<String> = pairs(body)
        .into_iter()
        .filter(|(name, _)| name == "list")
        .map(|(_, value)| value)
        .collect();
    if names.is_empty() {
        return None;
    }
    if names.iter().any(|name| name == "all") {
        return Some(Choice::All);
    }
    let lists = names.iter().flat_map(|name| name.parse::<ListId>());
    Some(Choice::Lists(lists.collect()))
}

async fn confirm(
    app: &Arc<App>,
    token: &str,
    (claims, network): (Claims, Network),
    choice: Choice,
    by: ConfirmBy,
    headers: &HeaderMap,
) -> Response {
    let press = Press {
        signup: SignupId(claims.subject),
        choice,
        by,
        key: claims.key,
        network,
    };
    let outcome = match app.confirms.pass(press).await {
        Ok(outcome) => outcome,
        Err(error) => return failed(app, &error, headers),
    };
    // A press without effect shows what opening the link shows.
    let view = match outcome.confirmed.is_empty() {
        true => view::signup(&app.flows, SignupId(claims.subject)).await,
        false => Ok(outcome.view),
    };
    match view {
        Ok(Some(view)) => as_it_stands(app, token, &view, &outcome.confirmed),
        Ok(None) => unknown(app, headers),
        Err(error) => failed(app, &error, headers),
    }
}

/// Shows what a signup asks, or says why it asks nothing any more; `pressed` are the lists just confirmed.
fn as_it_stands(app: &App, token: &str, view: &SignupView, pressed: &[ListId]) -> Response {
    let locale = &view.signup.locale;
    let Some(first) = view.lists.first() else {
        return ended(app, StatusCode::NOT_FOUND, view, Ended::Unknown);
    };
    let sender = super::face(&first.facts.sender);
    let action = format!("{}{token}", Purpose::Confirm.path());
    let is_open = |list: &&ListView| list.confirm == Confirm::Yes && !list.closed;
    // Who subscribed through another signup is told so, whatever became of this one; who may not be mailed, never.
    let is_confirmed = |list: &&ListView| list.eligible && !is_open(list);
    let open: Vec<ListFace> = view
        .lists
        .iter()
        .filter(is_open)
        .filter_map(|list| ListFace::new(&list.facts.list, locale))
        .collect();
    let rest = |list: &&ListView| !is_open(list) && !is_confirmed(list);
    let other = view.lists.iter().filter(rest).map(|list| other(view, list));

    let any_confirmed = view.lists.iter().any(|l| is_confirmed(&l));
    if any_confirmed && (open.is_empty() || !pressed.is_empty()) {
        let when = match pressed.is_empty() {
            true => Confirmed::Before,
            false => Confirmed::Now,
        };
        let lists = view.lists.iter().filter(is_confirmed);
        let mut rest = view.lists.iter().filter(rest);
        let expired = rest.any(|list| list.confirm == Confirm::Expired && !list.closed);
        let content = ConfirmedPage {
            sender,
            when,
            lists: lists.map(|list| confirmed(app, view, list, when)).collect(),
            open,
            other: other.collect(),
            again_action: expired.then(|| format!("{action}/again")),
            confirm_action: action,
            redirect_url: view.signup.redirect.clone(),
            receipt_url: receipt_url(app, view),
        };
        return page(app, StatusCode::OK, locale, &content);
    }
    if let (false, Some(expires)) = (open.is_empty(), view.signup.expires_at) {
        let confirmed = view
            .lists
            .iter()
            .filter(is_confirmed)
            .map(|list| OtherList {
                title: list.facts.list.title_in(locale).to_owned(),
                state: OtherState::Confirmed,
            });
        let content = ConfirmPage {
            sender,
            open,
            other: confirmed.chain(other).collect(),
            asked_at: ask_again::asked_at(&view.signup),
            site: vouched_site(
                &view.signup.consent.source,
                view.offered().map(|l| &l.facts.list),
            ),
            expires,
            confirm_action: action,
            decline_url: decline_url(app, view),
        };
        return page(app, StatusCode::OK, locale, &content);
    }
    let (status, why, reason) = why_ended(view);
    let (those, rest) = view
        .lists
        .iter()
        .partition::<Vec<_>, _>(|list| state(list) == why);
    let titles = those.iter().map(|list| list.facts.list.title_in(locale));
    let content = EndedPage {
        sender: Some(sender),
        reason,
        titles: titles.map(str::to_owned).collect(),
        other: rest
            .into_iter()
            .map(|list| self::other(view, list))
            .collect(),
        again_action: (why == OtherState::Expired).then(|| format!("{action}/again")),
        signup_url: view.signup_url(),
    };
    page(app, status, locale, &content)
}

fn other(view: &SignupView, list: &ListView) -> OtherList {
    OtherList {
        title: list.facts.list.title_in(&view.signup.locale).to_owned(),
        state: state(list),
    }
}

fn state(list: &ListView) -> OtherState {
    match list.confirm {
        _ if list.closed => OtherState::Closed,
        Confirm::Declined => OtherState::Declined,
        Confirm::Expired => OtherState::Expired,
        Confirm::NotOffered => OtherState::NotOffered,
        Confirm::Again | Confirm::Already => OtherState::Over,
        _ => OtherState::Ended,
    }
}

fn confirmed(app: &App, view: &SignupView, list: &ListView, when: Confirmed) -> ConfirmedList {
    let facts = &list.facts;
    let subscription = list.subscription.as_ref();
    let unsubscribe_url = subscription
        .map(|subscription| link(app, &facts.sender, Purpose::Unsubscribe, subscription.id.0));
    ConfirmedList {
        title: facts.list.title_in(&view.signup.locale).to_owned(),
        frequency: facts.list.frequency.as_deref().and_then(Frequency::parse),
        since: subscription
            .filter(|_| when == Confirmed::Before)
            .map(|subscription| subscription.since),
        unsubscribe_url: unsubscribe_url.unwrap_or_default(),
    }
}

/// The receipt of this signup, or, where it confirmed nothing, of the one by which the person is subscribed.
fn receipt_url(app: &App, view: &SignupView) -> Option<String> {
    let here = |list: &&ListView| list.row.state == ListState::Confirmed;
    let first = view.lists.iter().find(here);
    let (signup, list) = match first {
        Some(list) => (view.signup.id, list),
        None => view.lists.iter().find_map(|list| {
            let subscription = list
                .subscription
                .as_ref()
                .filter(|_| list.is_subscribed())?;
            Some((subscription.signup?, list))
        })?,
    };
    Some(link(app, &list.facts.sender, Purpose::Receipt, signup.0))
}

fn decline_url(app: &App, view: &SignupView) -> String {
    let links = &app.flows.keys().links;
    let token = links.sign(links.signing(), Purpose::Decline, view.signup.id.0, None);
    format!("{}{}", Purpose::Decline.path(), token.unwrap_or_default())
}

/// The reason that tells the person most, of the lists that ended so.
fn why_ended(view: &SignupView) -> (StatusCode, OtherState, Ended) {
    use OtherState::{Closed, Declined, Ended as Left, Expired, NotOffered, Over};
    let is_some = |why: &OtherState| view.lists.iter().any(|list| state(list) == *why);
    let most = [Expired, Declined, Left, NotOffered, Over]
        .into_iter()
        .find(is_some);
    let expired_at = view.signup.expires_at.unwrap_or(Timestamp::from_micros(0));
    match most.unwrap_or(Closed) {
        Expired => (StatusCode::GONE, Expired, Ended::Expired { expired_at }),
        Declined => (StatusCode::OK, Declined, Ended::Declined),
        Left => (StatusCode::OK, Left, Ended::Ineffective),
        NotOffered => (StatusCode::OK, NotOffered, Ended::NotOffered),
        Over => (StatusCode::OK, Over, Ended::Over),
        _ => (StatusCode::OK, Closed, Ended::Closed),
    }
}

/// Says something of a signup as a whole.
fn ended(app: &App, status: StatusCode, view: &SignupView, reason: Ended) -> Response {
    let first = view.lists.first().map(|list| &list.facts);
    let content = EndedPage {
        sender: first.map(|facts| super::face(&facts.sender)),
        reason,
        titles: Vec::new(),
        other: Vec::new(),
        again_action: None,
        signup_url: view.signup_url(),
    };
    page(app, status, &view.signup.locale, &content)
}

/// The signature is right, but the signup is gone.
fn unknown(app: &App, headers: &HeaderMap) -> Response {
    let content = EndedPage {
        sender: None,
        reason: Ended::Unknown,
        titles: Vec::new(),
        other: Vec::new(),
        again_action: None,
        signup_url: None,
    };
    page(
        app,
        StatusCode::NOT_FOUND,
        &super::asked_locale(app, headers),
        &content,
    )
}
