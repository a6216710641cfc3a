//! The templates in force, and what is made of them once: the pages that say the same to everybody.
//!
//! A stranger's made-up link is answered from here, so that it costs no more than the check of its token.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::domain::locale::Locale;
use crate::http::seal;
use crate::template::{Page, Problem, ProblemPage, TemplateError, Templates};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// One set of templates, ready to answer.
pub struct Pages {
    templates: Arc<Templates>,
    policy: HeaderValue,
    problems: BTreeMap<Locale, Vec<Ready>>,
}

/// An answer that waits to be given.
struct Ready {
    headers: HeaderMap,
    html: Bytes,
}

impl Pages {
    /// Renders the page of every problem in every language.
    ///
    /// # Errors
    /// Never for templates that were loaded: loading tries the same.
    pub fn prepare(templates: Arc<Templates>) -> Result<Self, TemplateError> {
        let policy = format!(
            "default-src 'none'; style-src {}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            templates.style_src()
        );
        let mut pages = Self {
            policy: HeaderValue::try_from(policy).expect("base64 stands in a header"),
            problems: BTreeMap::new(),
            templates,
        };
        for locale in pages.templates.languages() {
            let ready = |problem| {
                let sender = None;
                let html = pages
                    .templates
                    .page(locale, &ProblemPage { sender, problem })?;
                let mut headers = pages.headers(locale);
                seal(&mut headers);
                let html = html.into();
                Ok(Ready { headers, html })
            };
            let ready: Result<_, TemplateError> = Problem::ALL.into_iter().map(ready).collect();
            pages.problems.insert(locale.clone(), ready?);
        }
        Ok(pages)
    }

    /// Answers with a page made for this request.
    ///
    /// # Errors
    /// When the content does what no sample did and a template cannot follow.
    pub fn render<P: Page>(
        &self,
        status: StatusCode,
        locale: &Locale,
        content: &P,
    ) -> Result<Response, TemplateError> {
        let html = self.templates.page(locale, content)?;
        let headers = self.headers(self.templates.language(locale));
        Ok(answer(status, headers, html.into()))
    }

    /// Answers with the page of a problem, with all that every answer carries.
    pub fn problem(&self, status: StatusCode, locale: &Locale, problem: Problem) -> Response {
        let language = self.templates.language(locale);
        let Ready { headers, html } = &self.problems[language][problem as usize];
        answer(status, headers.clone(), html.clone().into())
    }

    /// Tells whether pages are written in a language.
    pub fn speaks(&self, locale: &Locale) -> bool {
        self.templates.speaks(locale)
    }

    fn headers(&self, language: &Locale) -> HeaderMap {
        // Those that every answer carries come later.
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, HTML);
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        if let Ok(language) = HeaderValue::from_str(language.as_str()) {
            headers.insert(header::CONTENT_LANGUAGE, language);
        }
        headers
    }
}

fn answer(status: StatusCode, headers: HeaderMap, html: Body) -> Response {
    let mut response = Response::new(html);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}
