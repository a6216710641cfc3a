//! Where the database is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::kinds::{is_loopback, is_loopback_name, number, size, span, switch};
use super::read::Table;

/// `[database]`
#[derive(Clone, Debug)]
pub struct Database {
    /// Where it is.
    pub url: Url,
    /// Connections to PostgreSQL, or readers of SQLite.
    pub connections: u32,
    /// Where migrations connect, if not at `url`: the login that owns the tables. PostgreSQL only.
    pub migrate_url: Option<SecretString>,
    /// The least that must be free on the disk of a SQLite file for signups, in bytes.
    pub min_free: u64,
    /// The size of the file that is kept beside it for a full disk, in bytes.
    pub reserve: u64,
    /// How long PostgreSQL may take over one statement, waiting for locks included. PostgreSQL only.
    pub statement_timeout: Duration,
    /// Whether `url` leads through a pooler in transaction mode. PostgreSQL only.
    pub pooler: bool,
}

/// One of the two databases.
#[derive(Clone, Debug)]
pub enum Url {
    /// A file beside the process.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A server; the whole URL, which may hold a password.
    Postgres {
        /// As written.
        url: SecretString,
    },
}

impl Database {
    pub(super) fn read(mut table: Table, env: &BTreeMap<String, String>) -> Option<Self> {
        let insecure = table.get("allow_insecure", switch);
        let written = table.has("url");
        let url = table.secret("url");
        if url.is_none() && !written {
            let remedy = "write it as \"sqlite:data/confirmd.db\" or \"postgres://user@host/db\"";
            table.fault("url", "is missing", remedy);
        }
        let connections = table.get("connections", number(1..=1000));
        let migrate_url = table.secret("migrate_url");
        let min_free = table.get("min_free", size);
        let reserve = table.get("reserve", size);
        let statement_timeout = table.get("statement_timeout", span("1 s", "10 minutes"));
        let check = |key: &str, url: &SecretString| {
            let parsed = parse(url, env, insecure == Some(true));
            parsed
                .map_err(|(problem, remedy)| table.fault(key, problem, remedy))
                .ok()
        };
        let url = url.and_then(|url| check("url", &url));
        let owner = migrate_url
            .as_ref()
            .and_then(|url| check("migrate_url", url));
        let both_postgres = |(url, owner): (&Url, &Url)| {
            matches!((url, owner), (Url::Postgres { .. }, Url::Postgres { .. }))
        };
        if url
            .as_ref()
            .zip(owner.as_ref())
            .is_some_and(|both| !both_postgres(both))
        {
            let remedy = "leave the key out with SQLite";
            table.fault("migrate_url", "is for PostgreSQL only", remedy);
        }
        let pooler = table.get("pooler", switch);
        if pooler == Some(true)
            && let Some(url) = &url
            && let Some((key, problem, remedy)) = past_pooler(url, migrate_url.as_ref())
        {
            table.fault(key, problem, remedy);
        }
        table.finish();
        Some(Self {
            url: url?,
            connections: connections?,
            migrate_url,
            min_free: min_free?,
            reserve: reserve?,
            statement_timeout: statement_timeout?,
            pooler: pooler?,
        })
    }
}

/// Says what is wrong with a pooler: migrations hold a lock of their session, which a pooler does not keep.
fn past_pooler(
    url: &Url,
    migrate_url: Option<&SecretString>,
) -> Option<(&'static str, &'static str, &'static str)> {
    let Url::Postgres { url } = url else {
        return Some((
            "pooler",
            "is for PostgreSQL only",
            "leave the key out with SQLite",
        ));
    };
    let remedy = "write the URL of PostgreSQL itself, past the pooler: migrations need a session";
    match migrate_url {
        None => Some((
            "migrate_url",
            "is missing, and database.pooler is true",
            remedy,
        )),
        Some(owner) if owner.expose_secret() == url.expose_secret() => Some((
            "migrate_url",
            "is database.url, which leads through a pooler",
            remedy,
        )),
        Some(_) => None,
    }
}

/// Parses a database URL; what it says never repeats the URL, which may hold a password.
fn parse(
    url: &SecretString,
    env: &BTreeMap<String, String>,
    insecure: bool,
) -> Result<Url, (&'static str, &'static str)> {
    const FORMS: &str = "write it as \"sqlite:PATH\" or \"postgres://user@host/db\"";
    let text = url.expose_secret();
    if let Some(path) = text.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains(['?', ':']) {
            let problem = "names no file: there are no parameters, and no database in memory";
            return Err((problem, "write it as \"sqlite:data/confirmd.db\""));
        }
        return Ok(Url::Sqlite { path: path.into() });
    }
    let parsed = url::Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "postgres" | "postgresql"))
        .ok_or(("is no database URL that is known here", FORMS))?;
    let verified = last(&parsed, &["sslmode", "ssl-mode"]).as_deref() == Some("verify-full");
    if !is_here(&parsed, env) && !verified && !insecure {
        return Err((
            "is a PostgreSQL on another host without sslmode=verify-full",
            "add ?sslmode=verify-full, or write database.allow_insecure = true",
        ));
    }
    Ok(Url::Postgres { url: url.clone() })
}

/// Tells whether every host that the URL can mean is this machine: its own, those of its parameters, and without
/// any, those of libpq's variables.
fn is_here(url: &url::Url, env: &BTreeMap<String, String>) -> bool {
    let here = |host: &str| host.starts_with('/') || is_loopback_name(host);
    let mut named = false;
    for (_, host) in url
        .query_pairs()
        .filter(|(key, _)| matches!(&**key, "host" | "hostaddr"))
    {
        named = true;
        if !here(&host) {
            return false;
        }
    }
    match url.host() {
        // A percent-encoded path of a socket.
        Some(url::Host::Domain(socket)) if socket.to_ascii_lowercase().starts_with("%2f") => true,
        // Schemes that the URL standard does not know keep IP addresses as names.
        Some(url::Host::Domain(name)) => is_loopback_name(name),
        Some(host) => is_loopback(&host),
        None if named => true,
        None => ["PGHOSTADDR", "PGHOST"]
            .iter()
            .filter_map(|name| env.get(*name))
            .all(|host| here(host)),
    }
}

fn last(url: &url::Url, names: &[&str]) -> Option<String> {
    url.query_pairs()
        .filter(|(key, _)| names.contains(&&**key))
        .last()
        .map(|(_, value)| value.into_owned())
}
