//! The template engine as confirmd sets it up: strict, bounded, without files or environment.

use std::sync::Arc;

use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use url::Url;

use super::TemplateError;
use super::catalog::Catalog;
use crate::domain::frequency::Frequency;
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;

/// What one rendering may cost; the page of a signup for fifty lists needs less than a tenth.
const FUEL: u64 = 200_000;

/// Builds the engine of one language over these files.
///
/// The caller adds no loader: a template reaches only the files given here.
pub(super) fn engine<'a>(
    language: &Locale,
    catalog: Arc<Catalog>,
    files: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Environment<'static>, TemplateError> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_fuel(Some(FUEL));
    env.set_syntax(
        minijinja::syntax::SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| TemplateError::engine("syntax", &error))?,
    );
    env.set_formatter(write_value);
    env.add_global("lang", language.as_str());

    let texts = catalog.clone();
    env.add_function("t", move |key: &str, values: Kwargs| {
        fill(&texts, key, &values)
    });
    let texts = catalog.clone();
    env.add_filter("moment", move |at: &str, zone: &str| {
        moment(&texts, "date.moment", at, zone)
    });
    let texts = catalog.clone();
    env.add_filter("instant", move |at: &str, zone: &str| {
        moment(&texts, "page.receipt.moment", at, zone)
    });
    let texts = catalog.clone();
    env.add_filter("span", move |seconds: u64| span(&texts, seconds));
    let texts = catalog.clone();
    env.add_filter("every", move |frequency: Serde<Frequency>| {
        let key = format!("every.{}", frequency.0.unit.as_str());
        counted(&texts, &key, u64::from(frequency.0.count))
    });
    let texts = catalog.clone();
    env.add_filter("listed", move |names: Vec<String>| listed(&texts, &names));
    env.add_filter("joined", move |names: Vec<String>| joined(&catalog, &names));
    env.add_filter("host", host);

    for (name, text) in files {
        env.add_template_owned(name.to_owned(), text.to_owned())
            .map_err(|error| TemplateError::engine(name, &error))?;
    }
    Ok(env)
}

/// Renders one file.
pub(super) fn render(
    env: &Environment<'_>,
    file: &str,
    context: Value,
) -> Result<String, TemplateError> {
    env.get_template(file)
        .and_then(|template| template.render(context))
        .map_err(|error| TemplateError::engine(file, innermost(&error)))
}

/// An error inside an include or a block is wrapped; the operator wants the place where it arose.
fn innermost(error: &Error) -> &Error {
    let mut found = error;
    while let Some(inner) = std::error::Error::source(found).and_then(|e| e.downcast_ref()) {
        found = inner;
    }
    found
}

/// Writes a value, in HTML with its five special characters escaped.
///
/// The engine's own escaping also escapes the slash, which bloats every link of a mail.
fn write_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) if *state.auto_escape() == AutoEscape::Html && !value.is_safe() => {
            for piece in text.split_inclusive(['&', '<', '>', '"', '\'']) {
                let mut chars = piece.chars();
                let escaped = match chars.next_back() {
                    Some('&') => "&amp;",
                    Some('<') => "&lt;",
                    Some('>') => "&gt;",
                    Some('"') => "&quot;",
                    Some('\'') => "&#39;",
                    _ => {
                        out.write_str(piece)?;
                        continue;
                    }
                };
                out.write_str(chars.as_str())?;
                out.write_str(escaped)?;
            }
            Ok(())
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn invalid(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

fn fill(catalog: &Catalog, key: &str, values: &Kwargs) -> Result<String, Error> {
    if let Some(name) = catalog.stranger(key, values.args()) {
        return Err(invalid(format!("text {key} has no placeholder {{{name}}}")));
    }
    let value = |slot: &str| {
        let value: Value = values.peek(slot).ok()?;
        (!value.is_none() && !value.is_undefined()).then(|| value.to_string())
    };
    catalog.text(key, value).map_err(invalid)
}

fn moment(catalog: &Catalog, key: &str, at: &str, zone: &str) -> Result<String, Error> {
    let at = Timestamp::parse(at).map_err(|error| invalid(error.to_string()))?;
    let at = at
        .to_jiff()
        .in_tz(zone)
        .map_err(|_| invalid("the sender's time zone is unknown"))?;
    let month = catalog
        .text(&format!("month.{}", at.month()), |_| None)
        .map_err(invalid)?;
    let value = |slot: &str| {
        Some(match slot {
            "day" => at.day().to_string(),
            "month" => month.clone(),
            "year" => at.year().to_string(),
            "time" => at.strftime("%H:%M").to_string(),
            "seconds" => at.strftime("%S").to_string(),
            "offset" => at.strftime("%:z").to_string(),
            "zone" => zone.to_owned(),
            _ => return None,
        })
    };
    catalog.text(key, value).map_err(invalid)
}

/// A span in whole days or in hours and minutes, to the minute.
fn span(catalog: &Catalog, seconds: u64) -> Result<String, Error> {
    let minutes = (seconds + 30) / 60;
    let told = |unit: &str, count| counted(catalog, &format!("span.{unit}"), count);
    match (minutes / 60, minutes % 60) {
        _ if minutes.is_multiple_of(1440) => told("day", minutes / 1440),
        (hours, 0) => told("hour", hours),
        (0, minutes) => told("minute", minutes),
        (hours, minutes) => joined(catalog, &[told("hour", hours)?, told("minute", minutes)?]),
    }
}

fn counted(catalog: &Catalog, key: &str, count: u64) -> Result<String, Error> {
    let form = if count == 1 { "one" } else { "other" };
    let number = |slot: &str| (slot == "n").then(|| count.to_string());
    catalog
        .text(&format!("{key}.{form}"), number)
        .map_err(invalid)
}

/// Names in a sentence, each in quotes: what a list is called may hold "and" itself.
fn listed(catalog: &Catalog, names: &[String]) -> Result<String, Error> {
    let quoted = |name: &String| {
        let text = |slot: &str| (slot == "text").then(|| name.clone());
        catalog.text("language.quoted", text).map_err(invalid)
    };
    let names: Vec<String> = names.iter().map(quoted).collect::<Result<_, _>>()?;
    joined(catalog, &names)
}

/// "A", "A and B", "A, B and C".
fn joined(catalog: &Catalog, names: &[String]) -> Result<String, Error> {
    let Some((last, first @ [_, ..])) = names.split_last() else {
        return Ok(names.concat());
    };
    let and = catalog.text("language.and", |_| None).map_err(invalid)?;
    Ok(format!("{} {and} {last}", first.join(", ")))
}

fn host(url: &str) -> Result<String, Error> {
    Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .ok_or_else(|| invalid("not a web address"))
}
