//! The templates in force, and what is made of them once: the pages that say the same to everybody.
//!
//! A stranger's made-up link is answered from here, so that it costs no more than the check of its token.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::domain::locale::Locale;
use crate::template::{Page, Problem, ProblemPage, TemplateError, Templates};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// One set of templates, ready to answer.
pub struct Pages {
    templates: Arc<Templates>,
    policy: HeaderValue,
    problems: BTreeMap<Locale, Vec<Bytes>>,
}

impl Pages {
    /// Renders the page of every problem in every language.
    ///
    /// # Errors
    /// Never for templates that were loaded: loading tries the same.
    pub fn prepare(templates: Arc<Templates>) -> Result<Self, TemplateError> {
        let in_language = |locale: &Locale| {
            let render = |problem| {
                let sender = None;
                let html = templates.page(locale, &ProblemPage { sender, problem });
                html.map(Bytes::from)
            };
            let pages: Result<_, _> = Problem::ALL.into_iter().map(render).collect();
            Ok((locale.clone(), pages?))
        };
        let problems = templates.languages().map(in_language);
        let problems = problems.collect::<Result<_, _>>()?;
        let policy = format!(
            "default-src 'none'; style-src '{}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            templates.style_hash()
        );
        Ok(Self {
            policy: HeaderValue::try_from(policy).expect("base64 stands in a header"),
            problems,
            templates,
        })
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
        Ok(self.answer(status, self.templates.language(locale), html.into()))
    }

    /// Answers with the page of a problem.
    pub fn problem(&self, status: StatusCode, locale: &Locale, problem: Problem) -> Response {
        let language = self.templates.language(locale);
        let html = &self.problems[language][problem as usize];
        self.answer(status, language, html.clone().into())
    }

    fn answer(&self, status: StatusCode, language: &Locale, html: Body) -> Response {
        let mut response = Response::new(html);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        // Those that every answer carries come later.
        headers.reserve(8);
        headers.insert(header::CONTENT_TYPE, HTML);
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        if let Ok(language) = HeaderValue::from_str(language.as_str()) {
            headers.insert(header::CONTENT_LANGUAGE, language);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
