//! HTTP: every route that there is, and what all of them share.
//!
//! | route | for |
//! |---|---|
//! | `/v1/...` | signup backends, with an API key |
//! | `/c/ /d/ /u/` | people with a link, mailbox providers |
//! | `/r/` | people who want to see what they agreed to |
//! | `/.well-known/confirmd` | whoever checks the trail |
//! | `/livez /readyz /metrics` | operators, on a listener of their own ([`ops`]) |

mod api;
mod body;
mod due;
pub mod listen;
mod network;
pub mod ops;
mod page;
mod problem;
mod well_known;
mod write_timeout;

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ipnet::IpNet;
use tokio::time::{Instant, timeout_at};
use tower::{Service, ServiceExt, service_fn};

pub use self::page::Pages;
pub use self::page::record::render as render_record;

use self::due::Due;
use self::problem::Problem;
use crate::domain::list::Sender;
use crate::flow::api_key::Known;
use crate::flow::gate::Gate;
use crate::flow::space::Need;
use crate::flow::{Flows, confirm, decline, signup, unsubscribe};
use crate::telemetry::logs::field;
use crate::token::Purpose;

/// What handlers need.
pub struct App {
    flows: Arc<Flows>,
    signups: Gate<signup::Request, signup::Outcome>,
    confirms: Gate<confirm::Press, confirm::Outcome>,
    declines: Gate<decline::Press, decline::Outcome>,
    unsubscribes: Gate<unsubscribe::Press, unsubscribe::Outcome>,
    keys: Known,
    pages: RwLock<Arc<Pages>>,
    public_url: String,
    trusted_proxies: Vec<IpNet>,
}

impl App {
    /// Opens the gates before the hot flows; at most `waiting` requests wait at each.
    ///
    /// `public_url` is the origin of links of senders that have none of their own; what `trusted_proxies` say of where
    /// a request came from is believed.
    pub fn new(
        flows: Arc<Flows>,
        pages: Pages,
        public_url: &str,
        trusted_proxies: Vec<IpNet>,
        waiting: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            signups: Gate::open(flows.clone(), waiting, Need::CanWait, signup::sign_up),
            confirms: Gate::open(flows.clone(), waiting, Need::CannotWait, confirm::confirm),
            declines: Gate::open(flows.clone(), waiting, Need::CannotWait, decline::decline),
            unsubscribes: Gate::open(
                flows.clone(),
                waiting,
                Need::CannotWait,
                unsubscribe::unsubscribe,
            ),
            keys: Known::default(),
            pages: RwLock::new(Arc::new(pages)),
            public_url: public_url.trim_end_matches('/').to_owned(),
            trusted_proxies,
            flows,
        })
    }

    /// Puts the pages of other templates in force.
    pub fn set_pages(&self, pages: Pages) {
        *self.pages.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pages);
    }

    fn pages(&self) -> Arc<Pages> {
        self.pages
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the origin of a sender's links.
    fn origin<'a>(&'a self, sender: &'a Sender) -> &'a str {
        let own = sender.public_url.as_deref();
        own.map_or(&self.public_url, |own| own.trim_end_matches('/'))
    }
}

/// Builds the public service: the routes, and before them the door that turns away whoever brings no link of ours.
pub fn service(
    app: Arc<App>,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone {
    let routes = routes(app.clone());
    service_fn(move |mut request: Request| {
        let began = Instant::now();
        let answer = match page::link::check(&app, &mut request) {
            Some((route, refused)) => {
                count(&app, route.into(), request.method(), began, &refused);
                Ok(refused)
            }
            None => Err(routes.clone().oneshot(request)),
        };
        async move {
            match answer {
                Ok(refused) => Ok(refused),
                Err(answer) => answer.await,
            }
        }
    })
}

fn routes(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/v1/signups", post(api::signups::create))
        .route("/v1/lists", get(api::lists::index))
        .route("/.well-known/confirmd", get(well_known::show))
        .route(
            "/v1/subscribers/{id}/consent-record",
            get(api::record::index),
        )
        .method_not_allowed_fallback(async || Problem::method_not_allowed());
    let link = page::link::route;
    let pages = Router::new()
        .route(
            link(Purpose::Confirm),
            get(page::confirm::show).post(page::confirm::press),
        )
        .route("/c/{token}/again", post(page::confirm::again))
        .route(
            link(Purpose::Decline),
            get(page::decline::show).post(page::decline::press),
        )
        .route(
            link(Purpose::Unsubscribe),
            get(page::unsubscribe::show).post(page::unsubscribe::press),
        )
        .route(link(Purpose::Receipt), get(page::receipt::show))
        .method_not_allowed_fallback(page::method_not_allowed);
    Router::new()
        .merge(api)
        .merge(pages)
        .fallback(not_found)
        .layer(from_fn_with_state(app.clone(), measure))
        .with_state(app)
}

async fn not_found(State(app): State<Arc<App>>, request: Request) -> Response {
    match request.uri().path().starts_with("/v1/") {
        true => Problem::not_found().into_response(),
        false => page::not_found(&app, request.uri(), request.headers()),
    }
}

async fn measure(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let due = request.extensions().get::<Due>().cloned();
    let accepted = request.headers().get(header::ACCEPT_LANGUAGE).cloned();
    let answer = next.run(request);
    let answered = match due {
        Some(due) => timeout_at(due.at, answer).await.map_err(|_| due.refusal()),
        None => Ok(answer.await),
    };
    let route = route.map_or(Cow::Borrowed("unmatched"), |route| {
        Cow::Owned(route.as_str().to_owned())
    });
    let mut response = answered.unwrap_or_else(|status| {
        let language = accepted.map(|value| (header::ACCEPT_LANGUAGE, value));
        late(&app, &route, status, &HeaderMap::from_iter(language))
    });
    count(&app, route, &method, began, &response);
    seal(response.headers_mut());
    response
}

/// Says to a person or a program that there is no answer in time.
fn late(app: &App, route: &str, status: StatusCode, headers: &HeaderMap) -> Response {
    if status.is_server_error() {
        tracing::warn!({ field::ROUTE } = route, "no answer in time");
    }
    let mut response = match Purpose::of_path(route) {
        Some(_) => page::late(app, status, headers),
        None => Problem::late(status).into_response(),
    };
    // What else of a body comes is not for the next request.
    if status == StatusCode::REQUEST_TIMEOUT {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// Counts and times an answer by its route, never by its path.
fn count(
    app: &App,
    route: Cow<'static, str>,
    method: &Method,
    began: Instant,
    response: &Response,
) {
    let metrics = &app.flows.metrics;
    metrics.request(route, method, response.status(), began.elapsed());
}

/// Sets the headers that every answer carries.
fn seal(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
