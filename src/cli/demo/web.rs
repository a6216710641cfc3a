//! The demo's page: a form, the mailbox, the trail. It works without JavaScript, and there is none.

use std::fmt::Display;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::backend::{Answer, Backend, Form};
use super::mailbox::{Mail, Mailbox, pieces};
use super::pages::{Pages, STYLE};
use super::setup::LANGUAGES;
use super::trail;
use crate::clock::random;
use crate::domain::consent::Hash;
use crate::domain::time::Timestamp;
use crate::store::Pool;
use crate::telemetry::logs::field;

/// Mails on the mailbox's page and in its JSON.
const MAILS: usize = 500;
/// Mails beside the form.
const LIVE_MAILS: usize = 8;
/// What a page of the demo may load: its style and its own frames.
const POLICY: &str = "default-src 'none'; style-src 'self'; frame-src 'self'; form-action 'self'; \
    frame-ancestors 'self'; base-uri 'none'";
/// What the HTML of a mail may do: be looked at, and lead away when it is clicked.
const MAIL_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'self'; \
    base-uri 'none'; sandbox allow-top-navigation-by-user-activation";

/// What the pages need.
pub struct Demo {
    /// Acme's backend.
    pub backend: Backend,
    /// The mailbox.
    pub mailbox: Arc<Mailbox>,
    /// The database of confirmd.
    pub pool: Pool,
    /// The templates.
    pub pages: Pages,
    /// Where the configuration lies, for who wants to try commands on it.
    pub config: String,
}

/// Builds the routes.
pub fn router(demo: Demo) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/thanks", get(thanks))
        .route("/signup", post(sign_up))
        .route("/mailbox", get(mailbox))
        .route("/mailbox.json", get(mailbox_json))
        .route("/mailbox/{id}", get(mail))
        .route("/mailbox/{id}/html", get(mail_html))
        .route("/trail", get(trail_page))
        .route("/live/mails", get(live_mails))
        .route("/live/trail", get(live_trail))
        .route("/style.css", get(style))
        .fallback(nothing)
        .layer(DefaultBodyLimit::max(16 * 1024))
        .layer(from_fn(guard))
        .with_state(Arc::new(demo))
}

type Shown = Result<Response, Failure>;

/// A page that cannot be shown; why stands in the log.
struct Failure(String);

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        tracing::error!(
            { field::ERROR } = self.0,
            "a page of the demo cannot be shown"
        );
        let text = "This page cannot be shown now; the terminal says why.";
        (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
    }
}

/// Sets the headers that every answer carries.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(POLICY));
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Demo {
    fn page(&self, name: &str, here: &str, mut content: Value) -> Shown {
        content["here"] = json!(here);
        Ok(Html(self.pages.render(name, content)?).into_response())
    }

    async fn form(&self, thanks: bool) -> Shown {
        let mut lists: Vec<Value> = Vec::new();
        for (locale, _) in LANGUAGES {
            for words in self.backend.lists(locale).await? {
                let entry = json!({ "locale": locale, "title": words.title, "text": words.text,
                    "text_sha256": words.text_sha256 });
                match lists.iter_mut().find(|list| list["id"] == words.list) {
                    Some(list) => list["words"]
                        .as_array_mut()
                        .into_iter()
                        .for_each(|all| all.push(entry.clone())),
                    None => lists.push(json!({ "id": words.list, "words": [entry] })),
                }
            }
        }
        let languages = LANGUAGES.map(|(tag, name)| json!({ "tag": tag, "name": name }));
        let content = json!({ "lists": lists, "languages": languages, "thanks": thanks,
            "idempotency_key": random_name() });
        self.page("home.html", "home", content)
    }

    async fn rows(&self, limit: usize) -> Result<Value, Failure> {
        let mails = self.mailbox.newest(limit).await?;
        let row = |mail: &Mail| json!({ "id": mail.id, "to": mail.to, "subject": mail.subject, "at": at(mail) });
        Ok(mails.iter().map(row).collect())
    }
}

async fn home(State(demo): State<Arc<Demo>>) -> Shown {
    demo.form(false).await
}

/// Where the link on confirmd's result page leads.
async fn thanks(State(demo): State<Arc<Demo>>) -> Shown {
    demo.form(true).await
}

async fn sign_up(State(demo): State<Arc<Demo>>, body: String) -> Shown {
    let form = form(&body);
    let answer = demo.backend.sign_up(&form).await?;
    let Answer { status, body } = answer;
    let content = json!({
        "accepted": status == 202,
        "status": status,
        "title": body["title"].as_str().unwrap_or("The answer"),
        "detail": body["detail"],
        "errors": body["errors"],
        "email": form.email,
        "one_list": form.lists.len() == 1,
        "idempotency_key": form.idempotency_key,
        "request": serde_json::to_string_pretty(&demo.backend.request(&form))?,
        "response": serde_json::to_string_pretty(&body)?,
    });
    let mut shown = demo.page("answer.html", "home", content)?;
    if let Ok(status) = StatusCode::from_u16(status) {
        *shown.status_mut() = if status == StatusCode::ACCEPTED {
            StatusCode::OK
        } else {
            status
        };
    }
    Ok(shown)
}

async fn mailbox(State(demo): State<Arc<Demo>>) -> Shown {
    let mails = demo.rows(MAILS).await?;
    demo.page("mailbox.html", "mailbox", json!({ "mails": mails }))
}

async fn live_mails(State(demo): State<Arc<Demo>>) -> Shown {
    let mails = demo.rows(LIVE_MAILS).await?;
    demo.page("live_mails.html", "", json!({ "mails": mails }))
}

async fn mailbox_json(State(demo): State<Arc<Demo>>) -> Shown {
    let mails = demo.mailbox.newest(MAILS).await?;
    let json = serde_json::to_string_pretty(&mails)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

async fn mail(State(demo): State<Arc<Demo>>, Path(id): Path<u64>) -> Shown {
    let Some(mail) = demo.mailbox.mail(id).await? else {
        return nothing(State(demo)).await;
    };
    let content = json!({ "at": at(&mail), "text": pieces(&mail.text),
        "mail": { "id": mail.id, "to": mail.to, "subject": mail.subject, "html": !mail.html.is_empty(),
            "headers": mail.headers, "raw_headers": mail.raw_headers, "links": mail.links } });
    demo.page("mail.html", "mailbox", content)
}

async fn mail_html(State(demo): State<Arc<Demo>>, Path(id): Path<u64>) -> Shown {
    let Some(mail) = demo.mailbox.mail(id).await? else {
        return nothing(State(demo)).await;
    };
    // Links leave the frame: no page of confirmd lets itself be framed.
    const BASE: &str = "<base target=\"_top\">";
    let html = match mail.html.split_once("<head>") {
        Some((before, after)) => format!("{before}<head>{BASE}{after}"),
        None => format!("<!doctype html>{BASE}{}", mail.html),
    };
    let policy = [(header::CONTENT_SECURITY_POLICY, MAIL_POLICY)];
    Ok((policy, Html(html)).into_response())
}

async fn trail_page(State(demo): State<Arc<Demo>>) -> Shown {
    let content = json!({ "config": demo.config });
    demo.page("trail.html", "trail", content)
}

async fn live_trail(State(demo): State<Arc<Demo>>) -> Shown {
    let trail = trail::read(&demo.pool).await?;
    demo.page("live_trail.html", "", serde_json::to_value(trail)?)
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

async fn nothing(State(demo): State<Arc<Demo>>) -> Shown {
    let content = json!({ "heading": "There is nothing here", "text": "The demo has no such page, or no such mail." });
    let mut shown = demo.page("message.html", "", content)?;
    *shown.status_mut() = StatusCode::NOT_FOUND;
    Ok(shown)
}

fn at(mail: &Mail) -> String {
    Timestamp::parse(&mail.date)
        .map(trail::clock)
        .unwrap_or_default()
}

/// Reads the form as a browser sends it. What goes into a request's head is checked; the rest is confirmd's to check.
fn form(body: &str) -> Form {
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    let value = |name: &str| {
        pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    let lists: Vec<String> = pairs
        .iter()
        .filter(|(key, _)| key == "list")
        .map(|(_, value)| value.clone())
        .collect();
    let locale = value("locale").unwrap_or_default();
    let words = match lists.as_slice() {
        [only] => value(&format!("words.{only}.{locale}")),
        _ => None,
    };
    let plain = |key: &String| key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    Form {
        email: value("email").unwrap_or_default(),
        text_sha256: words,
        idempotency_key: value("idempotency_key")
            .filter(plain)
            .unwrap_or_else(random_name),
        lists,
        locale,
    }
}

fn random_name() -> String {
    Hash(random()).to_string().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_list_reports_its_words_and_several_none() {
        let key = "0123456789abcdef0123456789abcdef";
        let body = format!(
            "email=a%40b.example&locale=nl&list=weekly&words.weekly.nl=77&idempotency_key={key}"
        );
        let read = form(&body);
        assert_eq!(read.email, "a@b.example");
        assert_eq!(
            (read.text_sha256.as_deref(), &*read.idempotency_key),
            (Some("77"), key)
        );
        assert_eq!(form(&format!("{body}&list=offers")).text_sha256, None);
        let split = form("idempotency_key=a%0d%0aHost:%20evil");
        assert!(split.idempotency_key.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
