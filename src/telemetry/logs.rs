//! Log lines on standard error, for people (`text`) or programs (`json`); times in UTC.

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

/// The names of fields, so that one thing has one name in all lines.
///
/// Used as `tracing::info!({ field::SIGNUP } = %id, "confirmed")`. None of them ever holds an address, a token or a link.
pub mod field {
    /// The id of a signup.
    pub const SIGNUP: &str = "signup";
    /// The id of a subscriber.
    pub const SUBSCRIBER: &str = "subscriber";
    /// The id of a mail.
    pub const MESSAGE: &str = "message_id";
    /// The kind of a mail.
    pub const KIND: &str = "kind";
    /// The name of a list.
    pub const LIST: &str = "list";
    /// The name of a sender.
    pub const SENDER: &str = "sender";
    /// How something ended.
    pub const OUTCOME: &str = "outcome";
    /// Why.
    pub const REASON: &str = "reason";
    /// The phase of an SMTP session.
    pub const PHASE: &str = "phase";
    /// The reply code of an SMTP server.
    pub const SMTP_CODE: &str = "smtp_code";
    /// The enhanced status code of an SMTP server.
    pub const SMTP_ENHANCED: &str = "smtp_enhanced";
    /// Our class of an SMTP failure.
    pub const CLASS: &str = "class";
    /// How many attempts were made.
    pub const ATTEMPTS: &str = "attempts";
    /// The pattern of a route, never a path.
    pub const ROUTE: &str = "route";
    /// The method of a request.
    pub const METHOD: &str = "method";
    /// The status of an answer.
    pub const STATUS: &str = "status";
    /// How long something took, in milliseconds.
    pub const ELAPSED_MS: &str = "elapsed_ms";
    /// How many.
    pub const COUNT: &str = "count";
    /// A relay, by its name in the configuration.
    pub const RELAY: &str = "relay";
    /// A place outside that gets checkpoints.
    pub const OUTLET: &str = "outlet";
    /// The name of a task of this process.
    pub const TASK: &str = "task";
    /// SQLSTATE, or SQLite's code.
    pub const SQLSTATE: &str = "sqlstate";
    /// The constraint that refused a row.
    pub const CONSTRAINT: &str = "constraint";
    /// An error of ours; never a server's reply or a database's detail.
    pub const ERROR: &str = "error";
}

/// The shape of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The target of the lines that hand checkpoints out: where standard error goes, each signed one is kept.
pub const CHECKPOINT: &str = "confirmd::checkpoint";

/// The text is not a filter of levels by target.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a filter.
    #[error("{0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// A word that would name a target which nobody has.
    #[error(
        "{0:?} is no level (off, error, warn, info, debug, trace), and nothing of confirmd is called so"
    )]
    Word(String),
    /// Logs were set up before.
    #[error("logs were set up before")]
    Twice(#[from] tracing::dispatcher::SetGlobalDefaultError),
}

/// Sends the process's log lines to standard error.
///
/// # Errors
/// When the filter is none, or logs were set up before.
pub fn init(format: Format, filter: &str) -> Result<(), Error> {
    let lines = subscriber(format, filter, std::io::stderr)?;
    tracing::subscriber::set_global_default(lines)?;
    Ok(())
}

/// Builds the subscriber of [`init`] for another writer.
///
/// # Errors
/// When the filter is none.
pub fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, Error>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    };
    Ok(Registry::default().with(lines).with(parse(filter)?))
}

/// Checks a filter without using it.
///
/// # Errors
/// When it is none.
pub fn check(filter: &str) -> Result<(), Error> {
    parse(filter).map(drop)
}

/// SQL statements and what HTTP and SMTP libraries say of single bytes appear only where the filter names them; checkpoints,
/// unless it does.
fn parse(filter: &str) -> Result<Targets, Error> {
    const BY_NAME: [(&str, &str); 3] = [
        ("sqlx", "sqlx=warn,sqlx::query=off,"),
        ("hyper", "hyper=warn,"),
        (CHECKPOINT, "confirmd::checkpoint=info,"),
    ];
    // A mistyped level is a target with all that it says.
    let words = filter.split(',').map(str::trim);
    for word in words.filter(|word| !word.is_empty() && !word.contains('=')) {
        let ours = ["confirmd", "sqlx", "hyper"];
        if word.parse::<LevelFilter>().is_err() && !ours.iter().any(|t| word.starts_with(t)) {
            return Err(Error::Word(word.to_owned()));
        }
    }
    let unnamed = BY_NAME
        .iter()
        .filter(|(target, _)| !filter.contains(target));
    let quiet: String = unnamed.map(|(_, levels)| *levels).collect();
    // Of two levels for one target the later holds.
    let all = format!("info,{quiet}{filter}");
    Ok(all.trim_end_matches(',').parse()?)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, filter: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(
                { field::LIST } = "weekly",
                { field::COUNT } = 2,
                "confirmed"
            );
            tracing::debug!("a detail");
            tracing::debug!(target: "sqlx::query", "select 1");
            tracing::warn!(target: "sqlx::query", "slow: select 2");
            tracing::warn!(target: "sqlx::pool", "no connection");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_have_named_fields_and_times_in_utc() {
        let text = written(Format::Text, "info");
        assert!(text.contains("confirmed list=\"weekly\" count=2"), "{text}");
        let time = text.split_whitespace().next().unwrap();
        assert!(
            time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(),
            "{time}"
        );
        let json = written(Format::Json, "info");
        let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&first["message"], &first["list"]),
            (&"confirmed".into(), &"weekly".into())
        );
    }

    #[test]
    fn statements_are_silent_unless_the_filter_names_them() {
        for filter in ["info", "debug", "trace"] {
            let text = written(Format::Text, filter);
            assert!(!text.contains("select"), "{filter}: {text}");
            assert!(text.contains("no connection"), "{filter}: {text}");
        }
        assert!(written(Format::Text, "info,sqlx::query=debug").contains("select 1"));
        assert!(check("info,confirmd=chatty").is_err());
        assert!(check("inof").is_err() && check("warn, confirmd::smtp").is_ok());
        assert!(written(Format::Text, "").contains("confirmed"));
    }
}
