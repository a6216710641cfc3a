//! The demo's own pages, rendered; they are not among the templates that an operator may replace.

use minijinja::value::{Serde, Value as Context};
use minijinja::{Environment, Error};
use serde_json::Value;

/// The style of every page.
pub const STYLE: &str = include_str!("pages/style.css");

const FILES: [(&str, &str); 11] = [
    ("layout.html", include_str!("pages/layout.html")),
    ("frame.html", include_str!("pages/frame.html")),
    ("home.html", include_str!("pages/home.html")),
    ("answer.html", include_str!("pages/answer.html")),
    ("message.html", include_str!("pages/message.html")),
    ("mails.html", include_str!("pages/mails.html")),
    ("live_mails.html", include_str!("pages/live_mails.html")),
    ("mailbox.html", include_str!("pages/mailbox.html")),
    ("mail.html", include_str!("pages/mail.html")),
    ("trail.html", include_str!("pages/trail.html")),
    ("live_trail.html", include_str!("pages/live_trail.html")),
];

/// The engine with every page; what it renders into `.html` is escaped.
pub struct Pages(Environment<'static>);

impl Pages {
    /// Parses every page.
    ///
    /// # Errors
    /// When one is no template, which the tests would have seen.
    pub fn new() -> Result<Self, Error> {
        let mut environment = Environment::new();
        for (name, text) in FILES {
            environment.add_template(name, text)?;
        }
        Ok(Self(environment))
    }

    /// Renders a page.
    ///
    /// # Errors
    /// When the content lacks something.
    pub fn render(&self, name: &str, content: Value) -> Result<String, Error> {
        let page = self.0.get_template(name)?;
        page.render(Context::from(Serde(content)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_page_parses_and_escapes() {
        let pages = Pages::new().unwrap();
        let content = json!({ "heading": "<b>", "text": "\"" });
        let page = pages.render("message.html", content).unwrap();
        assert!(page.contains("<h1>&lt;b&gt;</h1>"), "{page}");
    }
}
