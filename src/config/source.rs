//! Where settings come from: defaults, file, environment.

use std::collections::BTreeMap;
use std::path::Path;

use config::{Environment, File, FileFormat, Value};

use super::{ConfigError, DEFAULTS};

const PREFIX: &str = "CONFIRMD_";
/// Names the file; it is no setting itself.
pub(super) const FILE: &str = "CONFIRMD_CONFIG";
/// What the config crate calls the origin of a variable.
pub(super) const ENVIRONMENT: &str = "the environment";

/// Lays file and environment over the defaults.
pub(super) fn merge(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<Value, ConfigError> {
    let mut sources =
        config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    if let Some(path) = path {
        let text = std::fs::read_to_string(path).map_err(|err| {
            let remedy = "give the path of a readable file with --config or CONFIRMD_CONFIG";
            ConfigError::one(path.display(), format!("cannot be read: {err}"), remedy)
        })?;
        syntax(path, &text)?;
        sources = sources.add_source(File::from(path).format(FileFormat::Toml));
    }
    let mut variables = BTreeMap::new();
    for (name, value) in env {
        let upper = name.to_ascii_uppercase();
        match upper.strip_prefix(PREFIX).filter(|_| upper != FILE) {
            Some(rest) if rest.contains("__") => {
                drop(variables.insert(name.clone(), value.clone()))
            }
            Some(rest) => almost(rest, value).map_or(Ok(()), |meant| {
                let remedy = format!("did you mean {meant}?");
                Err(ConfigError::one(name, "is no setting".to_owned(), &remedy))
            })?,
            None => {}
        }
    }
    let variables = Environment::with_prefix("CONFIRMD")
        .prefix_separator("_")
        .separator("__")
        .source(Some(variables.into_iter().collect()));
    let merged = sources.add_source(variables).build().map_err(|err| {
        ConfigError::one("configuration", err.to_string(), "see config/default.toml")
    })?;
    Ok(merged.cache)
}

/// Refuses a file that is no TOML with its line, but without the line's text, which may hold a secret.
fn syntax(path: &Path, text: &str) -> Result<(), ConfigError> {
    let Err(err) = toml::from_str::<toml::Table>(text) else {
        return Ok(());
    };
    let before = err.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    Err(ConfigError::one(
        format_args!("{}:{line}", path.display()),
        format!("is no TOML: {}", err.message()),
        "correct this line",
    ))
}

/// Returns the setting that a variable without `__` was probably meant to be.
///
/// Others are let be: Kubernetes sets `CONFIRMD_SERVICE_HOST`, or `CONFIRMD_SMTP_PORT = "tcp://10.0.0.1:25"`, beside
/// services of such names.
fn almost(rest: &str, value: &str) -> Option<String> {
    let (section, key) = rest.split_once('_').filter(|_| !value.contains("://"))?;
    let (header, entry) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
    let begins = |start: &str| {
        let mut lines = DEFAULTS.lines().map(|line| line.trim_start_matches('#'));
        lines.any(|line| line.starts_with(start))
    };
    let named = begins(&format!("[{header}.")) && !begins(&format!("[{header}]"));
    let known = begins(&format!("[{header}]")) && begins(&format!("{entry} = "));
    (named || known).then(|| format!("{PREFIX}{section}__{key}"))
}

/// Returns the variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}
