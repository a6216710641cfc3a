//! `GET /v1/subscribers/{id}/consent-record`: the proof, as a file or as a page.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::authorize;
use crate::domain::id::SubscriberId;
use crate::domain::list::ListId;
use crate::domain::locale::Locale;
use crate::flow::api_key::Scope;
use crate::flow::record::{Installation, Wanted, record};
use crate::http::App;
use crate::http::body::pairs;
use crate::http::page::record::show;
use crate::http::problem::{Fault, Problem};
use crate::telemetry::logs::field;

/// Returns the consent records of a subscriber, of all lists or of `list`; where HTML is preferred as a page, in
/// `locale` or in the language of the consent.
///
/// # Errors
/// 401, 403, 404 for a subscriber or list that this sender does not know, and 422 for a locale that is none.
pub async fn index(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = authorize(&app, &headers, Scope::Read).await?;
    let subscriber: SubscriberId = id.parse().map_err(|_| Problem::not_found())?;
    let query = pairs(query.unwrap_or_default().as_bytes());
    let asked = |name: &str| {
        let found = query.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    let list: Option<ListId> = asked("list")
        .map(str::parse)
        .transpose()
        .map_err(|_| Problem::not_found())?;
    let locale: Option<Locale> = asked("locale")
        .map(str::parse)
        .transpose()
        .map_err(|error| {
            Problem::invalid(vec![Fault {
                detail: format!("locale in the query is {error}"),
                pointer: "#".to_owned(),
            }])
        })?;
    let wanted = Wanted {
        sender: &key.sender,
        subscriber,
        list: list.as_ref(),
    };
    let now = app.flows.clock.now();
    let installation = installation(&app);
    let records = record(&app.flows.pool, &wanted, &installation, now).await?;
    let records = records.ok_or_else(Problem::not_found)?;
    tracing::info!(
        { field::SENDER } = key.sender.as_str(),
        { field::SUBSCRIBER } = %subscriber,
        key = %key.id,
        "consent record handed out"
    );
    let mut response = match prefers_html(&headers) {
        true => show(&app, &records, locale.as_ref(), now),
        false => Json(records).into_response(),
    };
    let vary = HeaderValue::from_static("Accept");
    response.headers_mut().insert(header::VARY, vary);
    Ok(response)
}

fn installation(app: &App) -> Installation {
    Installation {
        public_url: app.public_url.clone(),
        trail: app.flows.settings.origin.clone(),
        keys: app.flows.keys(),
    }
}

/// Tells whether the caller asks for HTML and not as much for JSON (RFC 9110, section 12.5.1).
fn prefers_html(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter();
    let accepts: Vec<&str> = accepts.filter_map(|value| value.to_str().ok()).collect();
    let weight = |wanted: &str| {
        let ranges = accepts.iter().flat_map(|value| value.split(','));
        let weights = ranges.filter_map(|range| {
            let mut words = range.split(';').map(str::trim);
            let kind = words
                .next()
                .filter(|kind| kind.eq_ignore_ascii_case(wanted));
            let quality = words.find_map(|word| word.strip_prefix("q="));
            kind.map(|_| quality.and_then(|q| q.parse().ok()).unwrap_or(1.0))
        });
        weights.fold(0.0, f32::max)
    };
    weight("text/html") > weight("application/json")
}
