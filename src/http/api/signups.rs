//! `POST /v1/signups`: one call that cannot lose the address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::authorize;
use super::object::{Object, check, escape};
use super::strict::Strict;
use crate::domain::address::Address;
use crate::domain::consent::{Action, Consent, Hash, Network, USER_AGENT};
use crate::domain::delivery::About;
use crate::domain::id::SignupId;
use crate::domain::list::{Entry, ListId, SenderId};
use crate::domain::locale::Locale;
use crate::domain::pepper::Keyed;
use crate::domain::time::Timestamp;
use crate::flow::api_key::ApiKey;
use crate::flow::api_key::Scope;
use crate::flow::signup::{self, Outcome, Request};
use crate::flow::{Flows, InForce};
use crate::http::App;
use crate::http::body::{JSON, Unread, whole};
use crate::http::problem::Problem;

/// The most lists that one signup names.
const LISTS: usize = 20;
/// How old a consent may be that is only now reported.
const OLDEST_CONSENT: Duration = Duration::from_secs(14 * 24 * 3600);
/// How far a backend's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Accepts a signup: 202 with its id once it is on stable storage, whatever is known of the address.
///
/// # Errors
/// 400, 401, 403, 413, 415, 422 and 503, as problems.
pub async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let key = authorize(&app, &headers, Scope::Signup).await?;
    if !is_json(&headers) {
        return Err(Problem::unsupported_media_type());
    }
    let body = whole(body, JSON).await.map_err(|unread| match unread {
        Unread::TooLarge => Problem::too_large(JSON),
        Unread::Incomplete => Problem::incomplete(),
    })?;
    let idempotency = idempotency(&app.flows, &key, &headers, &body)?;
    let Strict(value) =
        serde_json::from_slice(&body).map_err(|error| Problem::malformed(&error))?;
    let mut request = match parse(&app.flows, &key.sender, value) {
        Ok(request) => request,
        // It may have been accepted when it came first: a consent grows old, and lists are closed.
        Err(problem) => {
            let first = match idempotency {
                Some(asked) => signup::repeated(&app.flows, asked).await?,
                None => None,
            };
            return first.map(accepted).ok_or(problem);
        }
    };
    request.idempotency = idempotency;
    match app.signups.pass(request).await? {
        Outcome::Accepted(id) => Ok(accepted(id)),
        Outcome::KeyReused => Err(Problem::idempotency_key_reused()),
    }
}

fn accepted(id: SignupId) -> Response {
    (StatusCode::ACCEPTED, Json(json!({ "id": id }))).into_response()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Hashes the Idempotency-Key with the API key, so that two backends cannot meet, and fingerprints the body.
fn idempotency(
    flows: &Flows,
    key: &ApiKey,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<(Keyed, Keyed)>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.contains_key("idempotency-key") {
            true => Err(Problem::bad_idempotency_key()),
            false => Ok(None),
        };
    };
    let value = value.to_str().map_err(|_| Problem::bad_idempotency_key())?;
    let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let name = quoted.unwrap_or(value);
    let visible = name
        .bytes()
        .all(|b| (0x21..=0x7e).contains(&b) && b != b'"');
    if !visible || !(1..=255).contains(&name.len()) {
        return Err(Problem::bad_idempotency_key());
    }
    let pepper = &flows.keys().pepper;
    let request = [key.id.0.as_bytes(), b"POST /v1/signups", name.as_bytes()];
    Ok(Some((
        pepper.fingerprint(&request),
        pepper.fingerprint(&[body]),
    )))
}

fn parse(flows: &Flows, sender: &SenderId, value: Value) -> Result<Request, Problem> {
    let mut faults = Vec::new();
    let in_force = flows.in_force();
    let now = flows.clock.now();
    let request = body(
        flows,
        &in_force,
        sender,
        now,
        Object::root(value, &mut faults),
    );
    match request {
        Some(request) if faults.is_empty() => Ok(request),
        _ => Err(Problem::invalid(faults)),
    }
}

fn body(
    flows: &Flows,
    in_force: &InForce,
    sender: &SenderId,
    now: Timestamp,
    mut object: Object<'_>,
) -> Option<Request> {
    let email = object.read("email", JSON, Address::parse);
    let email = object.require("email", email, "is missing: the address that signed up");
    let entries = lists(in_force, sender, &mut object);
    let entries = object.require("lists", entries, "is missing: the lists to join");
    let entries = entries.unwrap_or_default();
    let asked = object.read("locale", 35, str::parse::<Locale>);
    let locale = in_force.catalog.locale(&entries, asked.as_ref());
    if locale.is_none() && !entries.is_empty() {
        object.fault(
            "lists",
            "have no language in common; sign up for them one by one",
        );
    }
    let consent = object.object("consent", |consent| {
        read_consent(flows, in_force, &entries, now, consent)
    });
    let consent = object.require("consent", consent, "is missing: how the person agreed");
    let (consent, network) = consent.unzip();
    let reference = object.text("ref", 64);
    let attributes = attributes(&entries, &mut object);
    let redirect = object.text("redirect", 2000);
    if let Some(redirect) = &redirect
        && !entries
            .iter()
            .any(|entry| entry.facts.list.redirects.contains(redirect))
    {
        object.fault("redirect", "is not one of the list's redirects");
    }
    object.finish();
    Some(Request {
        sender: sender.clone(),
        email: email?,
        lists: entries
            .iter()
            .map(|entry| About {
                list: entry.facts.list.id.clone(),
                facts: entry.hash,
            })
            .collect(),
        locale: locale?,
        consent: consent?,
        network: network?,
        reference,
        attributes,
        redirect,
        idempotency: None,
        again_of: None,
    })
}

/// Another sender's list is as unknown as one that never was.
fn lists<'a>(
    in_force: &'a InForce,
    sender: &SenderId,
    object: &mut Object<'_>,
) -> Option<Vec<&'a Entry>> {
    let names = match object.take("lists")? {
        Value::Array(names) if (1..=LISTS).contains(&names.len()) => names,
        _ => {
            object.fault("lists", format!("must be an array of 1 to {LISTS} names"));
            return None;
        }
    };
    let (mut seen, mut entries) = (BTreeSet::new(), Vec::new());
    for (i, name) in names.iter().enumerate() {
        let at = format!("lists/{i}");
        let id = name.as_str().and_then(|name| name.parse::<ListId>().ok());
        let entry = id
            .as_ref()
            .and_then(|id| in_force.catalog.list(id))
            .filter(|entry| entry.facts.list.sender == *sender);
        match (entry, id) {
            (Some(entry), _) if entry.closed => object.fault_at(&at, "is closed"),
            (Some(entry), Some(id)) => {
                if seen.insert(id) {
                    entries.push(entry);
                }
            }
            _ => object.fault_at(&at, "is not a list of this sender"),
        }
    }
    Some(entries)
}

fn read_consent(
    flows: &Flows,
    in_force: &InForce,
    entries: &[&Entry],
    now: Timestamp,
    object: &mut Object<'_>,
) -> Option<(Consent, Network)> {
    const ACTIONS: &str = "must be one of checkbox, button, form, oral, paper";
    let action = object.read("action", 32, |name| {
        serde_json::from_value::<Action>(Value::from(name)).map_err(|_| ACTIONS)
    });
    let missing = "is missing: checkbox, button, form, oral or paper";
    let action = object.require("action", action, missing);
    let source = object.text("source", 2000).filter(|s| !s.is_empty());
    let missing = "is missing: the address of the page, or the place, where it happened";
    let source = object.require("source", source, missing);

    let text = object.text("text", 10_000);
    let named = object.read("text_sha256", 64, str::parse::<Hash>);
    if text.is_some() && named.is_some() {
        object.fault("text", "and text_sha256 say the same; send one of them");
    }
    let (member, hash) = match &text {
        Some(text) => ("text", Some(Hash::of(text.as_bytes()))),
        None => ("text_sha256", named),
    };
    let kept = |hash: Hash| {
        entries
            .iter()
            .any(|e| in_force.words.contains(&(e.facts.list.id.clone(), hash)))
    };
    if hash.is_some_and(|hash| !entries.is_empty() && !kept(hash)) {
        object.fault(
            member,
            "is no wording of this list; GET /v1/lists gives those in force",
        );
    }

    let at = object.read("at", 64, Timestamp::parse);
    if at.is_some_and(|at| at > now + CLOCK_SKEW) {
        object.fault("at", "lies in the future");
    }
    if at.is_some_and(|at| at < now - OLDEST_CONSENT) {
        object.fault("at", "is older than 14 days; ask the person again");
    }
    let ip = object.read("ip", 64, |ip| {
        ip.parse::<IpAddr>().map_err(|_| "is not an IP address")
    });
    let user_agent = object.text("user_agent", USER_AGENT);
    let challenge = object.text("challenge", 200);
    let consent = Consent {
        first_at: None,
        action: action?,
        source: source?,
        text_sha256: hash,
        at,
        challenge,
    };
    let network = Network {
        ip: ip.and_then(|ip| flows.settings.keep_ip.ip(ip)),
        user_agent: user_agent.and_then(|a| flows.settings.keep_user_agent.user_agent(&a)),
    };
    Some((consent, network))
}

fn attributes(entries: &[&Entry], object: &mut Object<'_>) -> Option<Value> {
    let members = match object.take("attributes")? {
        Value::Object(members) => members,
        _ => {
            object.fault("attributes", "must be an object of strings");
            return None;
        }
    };
    for (name, value) in &members {
        let allowed = entries
            .iter()
            .any(|entry| entry.facts.list.attributes.contains(name));
        let fault = match value.as_str() {
            _ if !allowed => Some("is not an attribute of these lists".to_owned()),
            Some(text) => check(text, 200).err(),
            None => Some("must be a string".to_owned()),
        };
        if let Some(fault) = fault {
            object.fault_at(&format!("attributes/{}", escape(name)), fault);
        }
    }
    if members.len() > 8 {
        object.fault("attributes", "holds more than 8");
    }
    Some(Value::Object(members))
}
