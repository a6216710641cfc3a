//! Settings from the outside: what loads, and what each mistake is told.

use std::path::Path;
use std::time::Duration;

use confirmd::config::{Config, ConfigError, DEFAULTS, DatabaseUrl, Tls};
use confirmd::domain::list::{ListId, SenderId};
use secrecy::ExposeSecret;

/// The smallest useful file, as the product's description prints it.
const SMALLEST: &str = r#"
[server]
listen = "127.0.0.1:8080"
public_url = "https://lists.acme.example"
[ops]
listen = "127.0.0.1:9191"
[database]
url = "sqlite:data/confirmd.db"        # or postgres://user@host/db
[smtp]
host = "127.0.0.1"
port = 25
tls = "none"                           # none (loopback only) | starttls | implicit
[keys]
dir = "data/keys"
[senders.acme]
name = "Acme B.V."
address = "Keizersgracht 1, 1015 CN Amsterdam, NL"
contact = "privacy@acme.example"
privacy_url = "https://acme.example/privacy"
authority = { name = "Autoriteit Persoonsgegevens", url = "https://autoriteitpersoonsgegevens.nl" }
from = "Acme <confirm@acme.example>"
[lists.weekly]
sender = "acme"
title = { en = "Weekly news", nl = "Weekbericht" }
consent = { en = "Yes, mail me the weekly news of Acme B.V.", nl = "Ja, mail mij het weekbericht van Acme B.V." }
frequency = "P7D"
"#;

type Env<'a> = &'a [(&'a str, &'a str)];

fn load(file: &str, env: Env) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("confirmd.toml");
    std::fs::write(&path, file).unwrap();
    load_path(Some(&path), env).map_err(|mut err| {
        for problem in &mut err.problems {
            let dir = format!("{}/", dir.path().display());
            problem.key = problem.key.replace(&dir, "");
            problem.problem = problem.problem.replace(&dir, "");
        }
        err
    })
}

fn load_path(path: Option<&Path>, env: Env) -> Result<Config, ConfigError> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Config::load(path, env.iter().map(own))
}

/// Returns the smallest file with one line changed; an empty `from` adds lines at the end.
fn changed(from: &str, to: &str) -> String {
    if from.is_empty() {
        return format!("{SMALLEST}{to}\n");
    }
    assert_eq!(SMALLEST.matches(from).count(), 1, "{from}");
    SMALLEST.replace(from, to)
}

#[test]
fn the_smallest_useful_file_loads() {
    let config = load(SMALLEST, &[]).unwrap();
    assert_eq!(config.server.public_url, "https://lists.acme.example");
    assert!(
        matches!(&config.database.url, DatabaseUrl::Sqlite { path } if path == Path::new("data/confirmd.db"))
    );
    assert_eq!(config.database.min_free, 256_000_000);
    assert_eq!(config.database.reserve, 64_000_000);
    assert_eq!((config.smtp.at.tls, config.smtp.at.port), (Tls::None, 25));
    assert_eq!(config.smtp.hello, "lists.acme.example");
    assert_eq!(config.smtp.timeouts.dot, Duration::from_secs(600));
    assert_eq!(config.limits.mails.hold, Duration::from_secs(30 * 86_400));
    assert!(config.roles.http && config.roles.sweep);
    let catalog = config.catalog();
    let acme: SenderId = "acme".parse().unwrap();
    let weekly: ListId = "weekly".parse().unwrap();
    assert_eq!(catalog.sender(&acme).unwrap().time_zone, "UTC");
    let list = &catalog.list(&weekly).unwrap().facts.list;
    assert_eq!(list.default_locale.as_str(), "en");
    assert_eq!(list.link_life, Duration::from_secs(7 * 86_400));
    assert_eq!(
        (list.revision, list.goodbye, list.welcome),
        (1, true, false)
    );
}

#[test]
fn every_mistake_is_told_with_its_key_and_its_remedy() {
    // What is changed, into what, and what is said.
    let table: &[(&str, &str, &str)] = &[
        (
            "[ops]\nlisten",
            "[ops]\nlisten_on",
            "ops.listen_on: is no setting (in confirmd.toml); known here: listen",
        ),
        (
            "frequency",
            "frequancy",
            "lists.weekly.frequancy: is no setting (in confirmd.toml); did you mean \"frequency\"?",
        ),
        (
            "",
            "[smpt]\nhost = \"x\"",
            "smpt: is no section (in confirmd.toml); did you mean \"smtp\"?",
        ),
        (
            "[ops]\n",
            "[ops]\n[server.tls]\ncert = \"x\"\n[ops]\n",
            "confirmd.toml:8: is no TOML: duplicate key; correct this line",
        ),
        (
            "listen = \"127.0.0.1:9191\"",
            "listen = \"127.0.0.1:8080\"",
            "ops.listen: is taken by server.listen, 127.0.0.1:8080; write another port",
        ),
        (
            "port = 25",
            "port = 25\nusername = \"confirmd\"\npassword = \"\"",
            "smtp.password: is empty; write the password, or leave it out with the username",
        ),
        (
            "port = 25",
            "port = \"25\"",
            "smtp.port: is a text (in confirmd.toml); write a whole number from 1 to 65535, without quotes",
        ),
        (
            "port = 25",
            "port = 70000",
            "smtp.port: 70000 is out of bounds (in confirmd.toml); write a whole number from 1 to 65535, without quotes",
        ),
        (
            "listen = \"127.0.0.1:9191\"",
            "listen = \"localhost\"",
            "ops.listen: \"localhost\" is no IP address with a port (in confirmd.toml); write an IP address and a port, as in \"127.0.0.1:8080\" or \"[::]:8080\"",
        ),
        (
            "[keys]",
            "[delivery]\npoll = 5\n[keys]",
            "delivery.poll: is a number without a unit (in confirmd.toml); write a time from \"10 ms\" to \"1 hour\", with its unit and in quotes",
        ),
        (
            "[keys]",
            "[delivery]\npoll = \"soon\"\n[keys]",
            "delivery.poll: \"soon\" is not a span of time: write it as \"P7D\", \"PT10M\", \"7 days\" or \"10 minutes\" (in confirmd.toml); write a time from \"10 ms\" to \"1 hour\"",
        ),
        (
            "",
            "link_life = \"31 days\"",
            "lists.weekly.link_life: \"31 days\" is out of bounds (in confirmd.toml); write a time from \"1 hour\" to \"30 days\"",
        ),
        (
            "dir = \"data/keys\"",
            "",
            "keys.dir: is missing; write it as \"data/keys\"",
        ),
        (
            "[keys]",
            "[roles]\nhttp = \"yes\"\n[keys]",
            "roles.http: is a text (in confirmd.toml); write true or false, without quotes",
        ),
        (
            "[keys]",
            "[evidence]\nip = \"half\"\n[keys]",
            "evidence.ip: \"half\" is not known (in confirmd.toml); write \"none\" or \"prefix\" or \"full\"",
        ),
        (
            "[keys]",
            "[log]\nfilter = \"info,confirmd=chatty\"\n[keys]",
            "log.filter: is no filter: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5 (in confirmd.toml); write levels by target, as in \"info,confirmd::smtp=debug\"",
        ),
        (
            "https://lists.acme.example",
            "http://lists.acme.example",
            "server.public_url: is http to another host (in confirmd.toml); write https; http is for loopback only",
        ),
        (
            "[keys]",
            "[trail]\nendpoint = \"http://backup.acme.example/\"\n[keys]",
            "trail.endpoint: is http to another host (in confirmd.toml); write https; http is for loopback only",
        ),
        (
            "[keys]",
            "[trail]\nca_file = \"/no/such/file\"\n[keys]",
            "trail.ca_file: cannot be read: No such file or directory (os error 2); give the path of a PEM file",
        ),
        (
            "https://lists.acme.example",
            "https://acme.example/lists",
            "server.public_url: is more than scheme, host and port (in confirmd.toml); write \"https://acme.example\"",
        ),
        (
            "https://lists.acme.example",
            "lists.acme.example",
            "server.public_url: is no absolute https address (in confirmd.toml); write an absolute address, as in \"https://acme.example/news\"",
        ),
        (
            "host = \"127.0.0.1\"",
            "host = \"mail.acme.example\"",
            "smtp.tls: \"none\" would send mails in clear to another host; write \"starttls\" or \"implicit\", or smtp.allow_plaintext = true",
        ),
        (
            "host = \"127.0.0.1\"",
            "host = \"127.0.0.1:25\"",
            "smtp.host: \"127.0.0.1:25\" is more than a host (in confirmd.toml); write a name or an IP address alone; the port has a key of its own",
        ),
        (
            "[keys]",
            "username = \"confirmd\"\n[keys]",
            "smtp.password: is missing beside smtp.username; write both or neither",
        ),
        (
            "sqlite:data/confirmd.db",
            "sqlite::memory:",
            "database.url: names no file: there are no parameters, and no database in memory; write it as \"sqlite:data/confirmd.db\"",
        ),
        (
            "sqlite:data/confirmd.db",
            "mysql://root@localhost/x",
            "database.url: is no database URL that is known here; write it as \"sqlite:PATH\" or \"postgres://user@host/db\"",
        ),
        (
            "[smtp]",
            "migrate_url = \"postgres://o@localhost/db\"\n[smtp]",
            "database.migrate_url: is for PostgreSQL only; leave the key out with SQLite",
        ),
        (
            "[smtp]",
            "pooler = true\n[smtp]",
            "database.pooler: is for PostgreSQL only; leave the key out with SQLite",
        ),
        (
            "sqlite:data/confirmd.db",
            "postgres://c@localhost/db\"\npooler = true #",
            "database.migrate_url: is missing, and database.pooler is true; write the URL of PostgreSQL itself, past the pooler: migrations need a session",
        ),
        (
            "sqlite:data/confirmd.db",
            "postgres://c@localhost/db\"\npooler = true\nmigrate_url = \"postgres://c@localhost/db",
            "database.migrate_url: is database.url, which leads through a pooler; write the URL of PostgreSQL itself, past the pooler: migrations need a session",
        ),
        (
            "sender = \"acme\"",
            "sender = \"acmee\"",
            "lists.weekly.sender: no sender \"acmee\" is configured (in confirmd.toml); known: acme; did you mean \"acme\"?",
        ),
        (
            "sender = \"acme\"",
            "sender = \"Acme\"",
            "lists.weekly.sender: \"Acme\" is not a name: 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit (in confirmd.toml); write such a name",
        ),
        (
            "[lists.weekly]",
            "[lists.all]",
            "lists.all: means every list where somebody confirms; give the list another name",
        ),
        (
            "[lists.weekly]",
            "[lists.\"Weekly news\"]",
            "lists.Weekly news: is not a name: 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit; name the section so",
        ),
        (
            "",
            "revision = 2",
            "lists.weekly.change: is missing, and revision is 2; write \"editorial\", or \"material\" if who agreed before must be asked again",
        ),
        (
            ", nl = \"Weekbericht\"",
            "",
            "lists.weekly.title.nl: is missing, and consent is written in this language; write both in the same languages",
        ),
        (
            "en = \"Weekly news\"",
            "en = \"Weekly\\nnews\"",
            "lists.weekly.title.en: holds a control character, such as a line break (in confirmd.toml); write it on one line",
        ),
        (
            "en = \"Weekly news\"",
            "english = \"Weekly news\"",
            "lists.weekly.title.english: is not a language tag (BCP 47), as in \"nl\" or \"pt-BR\" (in confirmd.toml); write a language tag, as in nl or pt-BR",
        ),
        (
            "",
            "default_locale = \"de\"",
            "lists.weekly.default_locale: is de, in which the list has no words; write one of en, nl",
        ),
        (
            "frequency = \"P7D\"",
            "frequency = \"weekly\"",
            "lists.weekly.frequency: \"weekly\" is no frequency (in confirmd.toml); write one number of days, weeks, months or years in ISO 8601, as in \"P7D\" or \"P1M\"",
        ),
        (
            "",
            "redirects = [\"https://acme.example/ok\", \"/thanks\"]",
            "lists.weekly.redirects[1]: is no absolute https address (in confirmd.toml); write an absolute address, as in \"https://acme.example/news\"",
        ),
        (
            "",
            "attributes = [\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\"]",
            "lists.weekly.attributes: has 9 members (in confirmd.toml); write at most 8",
        ),
        (
            "[lists.weekly]",
            "time_zone = \"Mars/Olympus\"\n[lists.weekly]",
            "senders.acme.time_zone: \"Mars/Olympus\" is no time zone (in confirmd.toml); write an IANA name, as in \"Europe/Amsterdam\"",
        ),
        (
            "from = \"Acme <confirm@acme.example>\"",
            "from = \"Acme <confirm@localhost>\"",
            "senders.acme.from: has no valid domain name after the @ (in confirmd.toml); write it as \"Name <local@domain>\" or \"local@domain\"",
        ),
        (
            ", url = \"https://autoriteitpersoonsgegevens.nl\"",
            "",
            "senders.acme.authority.url: is missing; write it as \"https://autoriteitpersoonsgegevens.nl\"",
        ),
        (
            "[keys]",
            "[templates]\ndir = \"/nowhere\"\n[keys]",
            "templates.dir: no folder /nowhere; create it, or leave the key out",
        ),
        (
            "[keys]",
            "[trail]\ncopy = \"\"\n[keys]",
            "trail.copy: is empty (in confirmd.toml); write it, or leave the key out",
        ),
        (
            "[smtp]",
            "min_free = 256\n[smtp]",
            "database.min_free: is a number without a unit (in confirmd.toml); write a size as in \"256 MB\": B, kB, MB, GB, KiB, MiB or GiB, in quotes",
        ),
        (
            "[smtp]",
            "reserve = \"a lot\"\n[smtp]",
            "database.reserve: \"a lot\" is no size (in confirmd.toml); write a size as in \"256 MB\": B, kB, MB, GB, KiB, MiB or GiB",
        ),
    ];
    let mut wrong = Vec::new();
    for (from, to, told) in table {
        match load(&changed(from, to), &[]) {
            Err(err) if err.to_string() == *told => {}
            Err(err) => wrong.push(format!("expected {told}\ngot      {err}")),
            Ok(_) => wrong.push(format!("expected {told}\nbut it loads")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn all_problems_are_told_at_once() {
    let broken = changed("port = 25", "port = 0").replace("\"acme\"", "\"acmee\"");
    let err = load(&broken, &[("CONFIRMD_OPS__LISTEN", "here")]).unwrap_err();
    let keys: Vec<_> = err.problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["ops.listen", "smtp.port", "lists.weekly.sender"]);
    assert_eq!(err.to_string().lines().count(), 3);
}

#[test]
fn a_missing_file_and_a_missing_choice_are_told() {
    let err = load_path(Some(Path::new("/nowhere/confirmd.toml")), &[]).unwrap_err();
    let told = err.to_string();
    assert!(
        told.starts_with("/nowhere/confirmd.toml: cannot be read: "),
        "{told}"
    );
    let err = load_path(None, &[("CONFIRMD_CONFIG", "/nowhere/other.toml")]).unwrap_err();
    assert!(
        err.to_string().starts_with("/nowhere/other.toml: "),
        "{err}"
    );
    let err = load_path(None, &[]).unwrap_err();
    let keys: Vec<_> = err.problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        keys,
        ["server.public_url", "database.url", "smtp.host", "keys.dir"]
    );
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = load(
        SMALLEST,
        &[
            ("CONFIRMD_LIMITS__EXEMPT", "a@acme.example, b@acme.example"),
            ("CONFIRMD_SERVER__MAX_CONNECTIONS", "7"),
            ("CONFIRMD_SMTP__TIMEOUTS__DOT", "11 minutes"),
            ("CONFIRMD_ROLES__SWEEP", "false"),
            ("CONFIRMD_SMTP__USERNAME", "00123"),
            ("CONFIRMD_SMTP__PASSWORD", "1e5"),
            ("CONFIRMD_SENDERS__ACME__DPO", "dpo@acme.example"),
            // Kubernetes sets these beside a service named confirmd.
            ("CONFIRMD_SERVICE_HOST", "10.0.0.1"),
            ("CONFIRMD_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("CONFIRMD_OPS_SERVICE_HOST", "10.0.0.1"),
            ("CONFIRMD_SMTP_PORT", "tcp://10.0.0.1:25"),
            ("PATH", "/usr/bin"),
        ],
    )
    .unwrap();
    let exempt: Vec<_> = config.limits.exempt.iter().map(|a| a.as_str()).collect();
    assert_eq!(exempt, ["a@acme.example", "b@acme.example"]);
    assert_eq!(config.server.max_connections, 7);
    assert_eq!(config.smtp.timeouts.dot, Duration::from_secs(660));
    assert!(config.roles.http && !config.roles.sweep);
    assert_eq!(config.smtp.at.username.as_deref(), Some("00123"));
    assert_eq!(config.smtp.at.password.unwrap().expose_secret(), "1e5");
    assert_eq!(config.senders[0].dpo.as_deref(), Some("dpo@acme.example"));

    for (name, told) in [
        (
            "CONFIRMD_SERVER__LISTENS",
            "server.listens: is no setting (from CONFIRMD_SERVER__LISTENS); did you mean \"listen\"?",
        ),
        (
            "CONFIRMD_SERVR__LISTEN",
            "servr: is no section (from CONFIRMD_SERVR__LISTEN); did you mean \"server\"?",
        ),
        (
            "CONFIRMD_SERVER_LISTEN",
            "CONFIRMD_SERVER_LISTEN: is no setting; did you mean CONFIRMD_SERVER__LISTEN?",
        ),
        (
            "CONFIRMD_LISTS_WEEKLY__TITLE",
            "lists_weekly: is no section (from CONFIRMD_LISTS_WEEKLY__TITLE); known here: server, ops, database, smtp, relays, delivery, keys, limits, evidence, trail, log, templates, roles, idempotency, senders, lists",
        ),
        (
            "CONFIRMD_SENDERS_ACME_DPO",
            "CONFIRMD_SENDERS_ACME_DPO: is no setting; did you mean CONFIRMD_SENDERS__ACME_DPO?",
        ),
        (
            "CONFIRMD_SERVER__MAX_CONNECTIONS",
            "server.max_connections: is no whole number (from CONFIRMD_SERVER__MAX_CONNECTIONS); write a whole number from 1 to 100000, without quotes",
        ),
    ] {
        let err = load(SMALLEST, &[(name, "some")]).unwrap_err();
        assert_eq!(err.to_string(), told);
    }
}

#[test]
fn a_database_on_another_host_needs_a_checked_certificate() {
    let refused = "database.url: is a PostgreSQL on another host without sslmode=verify-full; \
                   add ?sslmode=verify-full, or write database.allow_insecure = true";
    let cases: &[(&str, Env, bool)] = &[
        ("postgres://u:pw@db.example/x", &[], false),
        ("postgres://u:pw@db.example/x?sslmode=require", &[], false),
        (
            "postgres://u:pw@db.example/x?sslmode=verify-full&sslmode=disable",
            &[],
            false,
        ),
        (
            "postgres://u:pw@db.example/x?sslmode=verify-full",
            &[],
            true,
        ),
        ("postgres://u:pw@10.0.0.9/x", &[], false),
        ("postgres://u:pw@127.0.0.1:5433/x", &[], true),
        ("postgresql://u@[::1]/x", &[], true),
        ("postgres://u@localhost/x", &[], true),
        ("postgres://u@localhost/x?host=db.example", &[], false),
        ("postgres://u@localhost/x?hostaddr=10.0.0.9", &[], false),
        ("postgres:///x?host=/run/postgresql", &[], true),
        ("postgres://%2Frun%2Fpostgresql/x", &[], true),
        ("postgres:///x", &[], true),
        ("postgres:///x", &[("PGHOST", "db.example")], false),
        (
            "postgres://u:pw@db.example/x",
            &[("CONFIRMD_DATABASE__ALLOW_INSECURE", "true")],
            true,
        ),
    ];
    for (url, env, good) in cases {
        let loaded = load(&changed("sqlite:data/confirmd.db", url), env);
        match (loaded, good) {
            (Ok(config), true) => {
                assert!(
                    matches!(config.database.url, DatabaseUrl::Postgres { url: kept } if kept.expose_secret() == *url)
                );
            }
            (Err(err), false) => assert_eq!(err.to_string(), refused, "{url}"),
            (Ok(_), false) => panic!("{url} is let through"),
            (Err(err), true) => panic!("{url}: {err}"),
        }
    }
}

#[test]
fn secrets_come_from_files_and_never_print() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("smtp.password");
    std::fs::write(&file, "hunter2 \n").unwrap();
    std::fs::write(
        dir.path().join("database.url"),
        "postgres://u:hunter2@localhost/x\n",
    )
    .unwrap();
    let credentials = dir.path().to_str().unwrap();
    let user = changed("[keys]", "username = \"confirmd\"\n[keys]");
    let without_url = user.replace("url = \"sqlite:data/confirmd.db\"", "");
    let by_credential = load(&without_url, &[("CREDENTIALS_DIRECTORY", credentials)]).unwrap();
    let env = [("CONFIRMD_SMTP__PASSWORD_FILE", file.to_str().unwrap())];
    let by_file = load(&user, &env).unwrap();
    let env = [
        ("CONFIRMD_SMTP__PASSWORD", "hunter2 "),
        ("CONFIRMD_DATABASE__URL", "postgres://u:hunter2@localhost/x"),
        (
            "CONFIRMD_DATABASE__MIGRATE_URL",
            "postgres://o:hunter2@localhost/x",
        ),
    ];
    let by_env = load(&user, &env).unwrap();
    for config in [by_credential, by_file, by_env] {
        assert_eq!(
            config.smtp.at.password.as_ref().unwrap().expose_secret(),
            "hunter2 "
        );
        let printed = format!("{config:?} {config:#?}");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(!printed.contains("confirm@acme"), "{printed}");
    }
    // Nor do they in what is said of a mistake, in the values or in the file's own grammar.
    for broken in [
        changed("port = 25", "password = \"hunter2\nport = 25"),
        changed("port = 25", "password = hunter2"),
        changed(
            "port = 25",
            "password = \"hunter2\"\npassword = \"hunter2\"",
        ),
        changed("port = 25", "password = [\"hunter2\"]\nusername = 3"),
        changed("port = 25", "passwrd = \"hunter2\""),
        changed(
            "sqlite:data/confirmd.db",
            "postgres://u:hunter2@db.example/x",
        ),
        changed(
            "sqlite:data/confirmd.db",
            "postgres://u:hunter2@db example/x",
        ),
        changed(
            "https://lists.acme.example",
            "https://u:hunter2@lists.acme.example",
        ),
        changed(
            "from = \"Acme <confirm@acme.example>\"",
            "from = \"hunter2@localhost\"",
        ),
    ] {
        let err = load(&broken, &[]).unwrap_err();
        let told = format!("{err} {err:?}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let both = changed(
        "port = 25",
        "username = \"u\"\npassword = \"a\"\npassword_file = \"/nowhere\"",
    );
    let told = load(&both, &[]).unwrap_err().to_string();
    assert!(
        told.starts_with("smtp.password: is written beside smtp.password_file; write only one"),
        "{told}"
    );
    assert!(
        told.contains("\nsmtp.password_file: /nowhere cannot be read: "),
        "{told}"
    );
}

/// The default file with its commented settings switched on, but for those that exclude another or need a file.
fn everything() -> String {
    let off = [
        "#password =",
        "#password_file",
        "#username",
        "#ca_file",
        "#migrate_url",
        "#dir = \"templates\"",
    ];
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            let excluded = off.iter().any(|off| line.starts_with(off));
            if excluded {
                String::new()
            } else {
                rest.to_owned()
            }
        }
        _ => line.to_owned(),
    };
    DEFAULTS.lines().map(on).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_settings_shown_in_the_default_file_load_and_are_the_defaults() {
    let shown = load(&everything(), &[]).unwrap();
    let plain = load(SMALLEST, &[]).unwrap();
    let (list, same) = (&shown.lists[0], &plain.lists[0]);
    assert_eq!(
        (
            list.default_locale.as_str(),
            list.class,
            list.confirm,
            list.link_life,
            list.welcome,
            list.goodbye,
            list.revision
        ),
        (
            same.default_locale.as_str(),
            same.class,
            same.confirm,
            same.link_life,
            same.welcome,
            same.goodbye,
            same.revision
        )
    );
    assert_eq!(shown.senders[0].time_zone, plain.senders[0].time_zone);
    assert_eq!(shown.smtp.at.port, 587);
    assert_eq!(
        load(&changed("port = 25", ""), &[]).unwrap().smtp.at.port,
        25
    );
}
