//! What the demo keeps in its folder: configuration, API key, database, keys, mails.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::clock::Clock;
use crate::config::Config;
use crate::domain::consent::Hash;
use crate::domain::list::SenderId;
use crate::flow::api_key::{Scope, create};
use crate::store::Pool;

/// The sender whose lists the demo has.
pub const SENDER: &str = "acme";
/// The languages of its lists: tag, and name in itself.
pub const LANGUAGES: [(&str, &str); 2] = [("en", "English"), ("nl", "Nederlands")];
/// The time zone in which its mails, pages and trail tell the time.
pub const TIME_ZONE: &str = "Europe/Amsterdam";

/// The folder of the demo.
pub struct Folder {
    path: PathBuf,
}

/// Where the parts of the demo listen.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// The demo's page.
    pub page: SocketAddr,
    /// confirmd.
    pub http: SocketAddr,
    /// confirmd's listener for its operator.
    pub ops: SocketAddr,
    /// The mailbox's SMTP.
    pub smtp: SocketAddr,
}

impl Folder {
    /// Makes the folder, readable by its owner alone, or goes on with one that is there.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.and_then(|()| path.canonicalize())
            .map(|path| Self { path })
            .with_context(|| {
                let path = path.display();
                format!("the folder {path} cannot be used; choose another with --dir")
            })
    }

    /// Returns the folder of the mails.
    pub fn mails(&self) -> PathBuf {
        self.path.join("mails")
    }

    /// Returns the file of the configuration.
    pub fn config_file(&self) -> PathBuf {
        self.path.join("confirmd.toml")
    }

    /// Writes a configuration beside the one that is there, and loads it: another demo may be running on the folder.
    ///
    /// The environment has no say here but in the log: a real installation's variables must not reach the demo.
    pub fn config(&self, places: Places) -> anyhow::Result<Config> {
        let file = self.new_config_file();
        let text = text(&self.path, places)?;
        std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        let of_logs = ["CONFIRMD_LOG__FILTER", "CONFIRMD_LOG__FORMAT"];
        let env = of_logs
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        Ok(Config::load(Some(&file), env)?)
    }

    /// Puts that configuration in its place, so that commands can be tried on the demo with `--config`.
    pub fn keep_config(&self) -> anyhow::Result<()> {
        let file = self.config_file();
        let kept = std::fs::rename(self.new_config_file(), &file);
        kept.with_context(|| file.display().to_string())
    }

    fn new_config_file(&self) -> PathBuf {
        self.path.join("confirmd.toml.new")
    }

    /// Returns the API key of the demo's backend; makes it where there is none that opens anything.
    pub async fn api_key(&self, pool: &Pool) -> anyhow::Result<String> {
        let file = self.path.join("api-key");
        if let Ok(kept) = std::fs::read_to_string(&file) {
            let kept = kept.trim().to_owned();
            let known = pool
                .read()
                .await?
                .api_key(Hash::of(kept.as_bytes()))
                .await?;
            if known.is_some_and(|key| key.revoked_at.is_none()) {
                return Ok(kept);
            }
        }
        let sender: SenderId = SENDER.parse().context("the demo's sender")?;
        let (_, secret) = create(pool, Clock::System.now(), &sender, &Scope::ALL).await?;
        write_secret(&file, &secret).with_context(|| file.display().to_string())?;
        Ok(secret)
    }
}

fn write_secret(file: &Path, secret: &str) -> io::Result<()> {
    let part = file.with_extension("part");
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut open: File = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)?;
    writeln!(open, "{secret}")?;
    open.sync_all()?;
    std::fs::rename(&part, file)
}

/// The configuration as a file: the smallest useful one, and what makes a demo of it.
fn text(folder: &Path, places: Places) -> anyhow::Result<String> {
    let path = |name: &str| {
        let path = folder.join(name);
        let path = path.to_str().map(str::to_owned);
        path.context("the path of the folder is not UTF-8; choose another with --dir")
    };
    let database = toml(&format!("sqlite:{}", path("confirmd.db")?));
    let keys = toml(&path("keys")?);
    let Places {
        page,
        http,
        ops,
        smtp,
    } = places;
    let (smtp_host, smtp_port) = (smtp.ip(), smtp.port());
    Ok(format!(
        r#"# The configuration of `confirmd demo`, written anew at each start. What is left out has the default of
# config/default.toml. Other commands can be tried on it: confirmd --config THIS_FILE events tail --follow

[server]
listen = "{http}"
public_url = "http://{http}"
drain = "5 s"
[ops]
listen = "{ops}"
[database]
url = {database}
min_free = "0 B"
reserve = "0 B"
[smtp]
host = "{smtp_host}"
port = {smtp_port}
tls = "none"
[keys]
dir = {keys}
[trail]
# One trail, whichever port it is started on.
origin = "127.0.0.1-8026/confirmd"
[log]
filter = "warn,confirmd::checkpoint=warn"
[limits]
# A demo is tried again and again. The defaults are 10 minutes, and 3, 6 and 10 mails.
per_list = "30 s"
per_sender_day = 200
per_sender_month = 400
per_installation_day = 400

[senders.{SENDER}]
name = "Acme B.V."
address = "Keizersgracht 1, 1015 CN Amsterdam, NL"
contact = "privacy@acme.example"
privacy_url = "https://acme.example/privacy"
authority = {{ name = "Autoriteit Persoonsgegevens", url = "https://autoriteitpersoonsgegevens.nl" }}
from = "Acme <confirm@acme.example>"
imprint = ["KvK 12345678"]
time_zone = "{TIME_ZONE}"

[lists.weekly]
sender = "{SENDER}"
title = {{ en = "Weekly news", nl = "Weekbericht" }}
consent = {{ en = "Yes, mail me the weekly news of Acme B.V.", nl = "Ja, mail mij het weekbericht van Acme B.V." }}
frequency = "P7D"
origins = ["http://{page}"]
redirects = ["http://{page}/thanks"]
signup_url = "http://{page}/"

[lists.offers]
sender = "{SENDER}"
title = {{ en = "Offers", nl = "Aanbiedingen" }}
consent = {{ en = "Yes, mail me offers of Acme B.V. when there are some, once a month at most.", nl = "Ja, mail mij aanbiedingen van Acme B.V. als die er zijn, hooguit eens per maand." }}
frequency = "P1M"
origins = ["http://{page}"]
redirects = ["http://{page}/thanks"]
signup_url = "http://{page}/"
"#
    ))
}

/// Writes a basic string of TOML, whose escapes include all of JSON's.
fn toml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_has_a_configuration_that_loads_wherever_its_folder_is() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder::open(&folder.path().join("de \"mo\"")).unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let places = Places {
            page: at(8025),
            http: at(8026),
            ops: at(8027),
            smtp: at(8028),
        };
        let config = folder.config(places).unwrap();
        assert_eq!(config.lists.len(), 2);
        assert_eq!(config.server.public_url, "http://127.0.0.1:8026");
        assert!(config.keys.dir.ends_with("de \"mo\"/keys"));
    }
}
