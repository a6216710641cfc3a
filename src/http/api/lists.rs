//! `GET /v1/lists`: the lists of a sender, with the words that a form must show.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::authorize;
use crate::domain::consent::Hash;
use crate::domain::locale::Locale;
use crate::flow::api_key::Scope;
use crate::http::App;
use crate::http::body::pairs;
use crate::http::problem::{Fault, Problem};

/// Returns title, words and their SHA-256 of each open list, in the language asked for or in the list's own.
///
/// # Errors
/// 401, 403, and 422 for a locale that is none.
pub async fn index(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let key = authorize(&app, &headers, Scope::Signup).await?;
    let query = pairs(query.unwrap_or_default().as_bytes());
    let asked = query.iter().find(|(name, _)| name == "locale");
    let asked: Option<Locale> = match asked.map(|(_, value)| value.parse()) {
        Some(Ok(locale)) => Some(locale),
        Some(Err(error)) => {
            return Err(Problem::invalid(vec![Fault {
                detail: format!("locale in the query is {error}"),
                pointer: "#".to_owned(),
            }]));
        }
        None => None,
    };
    let in_force = app.flows.in_force();
    let lists = in_force.catalog.lists();
    let lists: Vec<Value> = lists
        .filter(|entry| entry.facts.list.sender == key.sender && !entry.closed)
        .filter_map(|entry| {
            let list = &entry.facts.list;
            let locale = in_force.catalog.locale(&[entry], asked.as_ref())?;
            let words = list.words_in(&locale)?;
            Some(json!({
                "list": list.id,
                "title": list.title_in(&locale),
                "locale": locale,
                "text": words,
                "text_sha256": Hash::of(words.as_bytes()),
                "frequency": list.frequency,
                "revision": list.revision,
                "sender": { "name": entry.facts.sender.name, "privacy_url": entry.facts.sender.privacy_url },
            }))
        })
        .collect();
    Ok(Json(json!({ "lists": lists })))
}
