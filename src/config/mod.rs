//! Settings: `config/default.toml` as types, checked as a whole before anything starts.

mod catalog;
mod database;
mod kinds;
mod mail;
mod read;
mod service;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::Value;

pub use database::{Database, Url as DatabaseUrl};
pub use mail::{Delivery, MAIN, Smtp, Timeouts, Tls};
pub use service::{
    Evidence, Idempotency, Keys, Limits, Log, LogFormat, Ops, Roles, Server, Templates, Trail,
};

use crate::domain::list::{Catalog, List, Sender, SenderId};
use read::{Notes, Table};

/// The built-in defaults, which are also the documentation of every key.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Everything that can be set, checked. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[ops]`
    pub ops: Ops,
    /// `[database]`
    pub database: Database,
    /// `[smtp]`
    pub smtp: Smtp,
    /// `[relays.*]`, by name
    pub relays: BTreeMap<String, Smtp>,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[keys]`
    pub keys: Keys,
    /// `[limits]`
    pub limits: Limits,
    /// `[evidence]`
    pub evidence: Evidence,
    /// `[trail]`
    pub trail: Trail,
    /// `[log]`
    pub log: Log,
    /// `[templates]`
    pub templates: Templates,
    /// `[roles]`
    pub roles: Roles,
    /// `[idempotency]`
    pub idempotency: Idempotency,
    /// `[senders.*]`, by name
    pub senders: Vec<Sender>,
    /// The relays that take the mails of those senders that say so, in their order.
    pub routes: BTreeMap<SenderId, Vec<String>>,
    /// `[lists.*]`, by name
    pub lists: Vec<List>,
}

impl Config {
    /// Loads defaults, the file (given, or named by `CONFIRMD_CONFIG`) and the environment, the later winning.
    ///
    /// # Errors
    /// When the file cannot be read, or any setting cannot be used: all such settings together.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let env: BTreeMap<String, String> = env.collect();
        let named = env.get(source::FILE).filter(|name| !name.is_empty());
        let path = path.map(PathBuf::from).or(named.map(PathBuf::from));
        let root = source::merge(path.as_deref(), &env)?;
        let notes = Notes {
            file: path
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            credentials: env.get("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            ..Notes::default()
        };
        let config = read(&notes, root, &env);
        let problems = notes.problems.into_inner();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigError { problems }),
        }
    }

    /// Returns the configured senders and lists; closed lists are added from the store.
    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.senders.clone(), self.lists.clone())
    }
}

/// Reads every section before the first failure counts, so that all problems are told at once.
fn read(notes: &Notes, root: Value, env: &BTreeMap<String, String>) -> Option<Config> {
    let mut root = Table::open(notes, "", Some(root));
    let server = Server::read(root.table("server"));
    let ops = Ops::read(root.table("ops"), server.as_ref());
    let database = Database::read(root.table("database"), env);
    let smtp = Smtp::read(root.table("smtp"), server.as_ref());
    let relays = mail::relays(&mut root, smtp.as_ref());
    let delivery = Delivery::read(root.table("delivery"));
    let keys = Keys::read(root.table("keys"));
    let limits = Limits::read(root.table("limits"));
    let evidence = Evidence::read(root.table("evidence"));
    let trail = Trail::read(root.table("trail"), keys.as_ref());
    let log = Log::read(root.table("log"));
    let templates = Templates::read(root.table("templates"));
    let roles = Roles::read(root.table("roles"));
    let idempotency = Idempotency::read(root.table("idempotency"));
    let mut senders_table = root.table("senders");
    let known = senders_table.names();
    let (senders, routes) = catalog::senders(&mut senders_table, &relays);
    let lists = catalog::lists(&mut root.table("lists"), &known);
    root.finish();
    Some(Config {
        server: server?,
        ops: ops?,
        database: database?,
        smtp: smtp?,
        relays,
        delivery: delivery?,
        keys: keys?,
        limits: limits?,
        evidence: evidence?,
        trail: trail?,
        log: log?,
        templates: templates?,
        roles: roles?,
        idempotency: idempotency?,
        senders,
        routes,
        lists,
    })
}

/// Everything that is wrong with the configuration, one problem a line.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// The problems, at least one.
    pub problems: Vec<Problem>,
}

/// One setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The full path of the key, as in `lists.weekly.sender`.
    pub key: String,
    /// What is wrong, and where it was written.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl ConfigError {
    pub(super) fn one(key: impl fmt::Display, problem: String, remedy: &str) -> Self {
        let problem = Problem {
            key: key.to_string(),
            problem,
            remedy: remedy.to_owned(),
        };
        Self {
            problems: vec![problem],
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            write!(f, "{end}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.key, self.problem, self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use config::{File, FileFormat};

    use super::*;

    /// Every key of the default file that has a comment of its own on its line, and every section of it.
    fn documented() -> BTreeSet<String> {
        let mut section = String::new();
        let mut found = BTreeSet::new();
        for line in DEFAULTS.lines().filter(|line| !line.starts_with("# ")) {
            let line = line.strip_prefix('#').unwrap_or(line);
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.split(']').next())
            {
                section = name.to_owned();
                found.insert(section.clone());
                found.extend(section.split_once('.').map(|(table, _)| table.to_owned()));
            } else if let Some((key, rest)) = line.split_once(" = ") {
                let comment = rest.rsplit_once("# ").map_or("", |(_, comment)| comment);
                assert!(comment.len() > 9, "{section}.{key} has no comment");
                found.insert(format!("{section}.{key}"));
            }
        }
        found
    }

    #[test]
    fn the_default_file_documents_every_key_that_is_read() {
        let sections = "\n[senders.acme.authority]\n[lists.weekly]\n[relays.backup]\n";
        let file = File::from_str(&format!("{DEFAULTS}{sections}"), FileFormat::Toml);
        let merged = config::Config::builder().add_source(file).build().unwrap();
        let notes = Notes::default();
        read(&notes, merged.cache, &BTreeMap::new());
        let asked = notes.asked.into_inner();
        assert!(asked.len() > 80, "{asked:?}");
        let documented = documented();
        let inside = |key: &str| key.starts_with("senders.acme.authority.");
        let missing: Vec<_> = asked
            .iter()
            .filter(|key| !inside(key) && !documented.contains(*key))
            .collect();
        assert!(
            missing.is_empty(),
            "not in config/default.toml: {missing:?}"
        );
        let unread: Vec<_> = documented.difference(&asked).collect();
        assert!(unread.is_empty(), "not read: {unread:?}");
    }
}
