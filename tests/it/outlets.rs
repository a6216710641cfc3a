//! Checkpoints out of this machine's reach: to the log, a program, an HTTPS endpoint and a time stamp, each by itself;
//! and what everybody may read.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use confirmd::background::outlets::{Outlets, Settings};
use confirmd::flow::{checkpoint, epoch, keyring};
use confirmd::lifecycle::Stop;
use confirmd::store::keyring::Purpose;
use confirmd::telemetry::logs;
use confirmd::trail::note::{Checkpoint, Verifier};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::support::app::{Db, LISTS, TestApp, both};
use crate::support::daemon::{Home, PATIENCE};
use crate::support::http::send;
use crate::support::patience::seen;
use crate::support::receiver::{Act, Receiver};

const DAY: Duration = Duration::from_secs(24 * 3600);
const IDLE: Duration = Duration::from_secs(3600);

/// Places that a test has: a folder of scripts and what they leave there, and a receiver.
struct Places {
    dir: tempfile::TempDir,
    receiver: Receiver,
}

impl Places {
    async fn new() -> Places {
        Places {
            dir: tempfile::tempdir().unwrap(),
            receiver: Receiver::start().await,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Writes a shell script, in whose folder it runs, and returns the words that run it.
    fn script(&self, name: &str, lines: &str) -> String {
        let text = format!("cd '{}'\n{lines}\n", self.dir.path().display());
        std::fs::write(self.path(name), text).unwrap();
        format!("[\"sh\", \"{}\"]", self.path(name))
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until a script has left this.
    async fn until(&self, name: &str, text: &str) {
        seen(&format!("{name}: {text}"), PATIENCE, async || {
            match self.read(name) {
                left if left == text => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }

    fn endpoint(&self) -> String {
        let ca = self.path("ca.pem");
        std::fs::write(&ca, &self.receiver.ca_pem).unwrap();
        let to = self.receiver.addr;
        format!("endpoint = \"https://{to}/checkpoints?of=us\"\nca_file = \"{ca}\"\n")
    }

    /// All places: the program keeps what it is given, the stamp counts its calls and is a sequence of one byte.
    fn all(&self) -> String {
        let command = self.script("command", "cat > new && mv new given");
        let stamp = self.script("stamp", "cat > stamped; echo >> calls; printf '0\\001a'");
        let endpoint = self.endpoint();
        format!("[trail]\ncommand = {command}\nstamp = {stamp}\n{endpoint}")
    }
}

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

impl Lines {
    /// Takes the lines that were logged since.
    fn take(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains("what the"), "{text}");
        let json = |line: &str| serde_json::from_str(line).unwrap();
        text.lines().map(json).collect()
    }
}

/// Logs what this thread says until the guards are dropped.
fn listen() -> (Lines, impl Sized) {
    let lines = Lines::default();
    let writer = lines.clone();
    let all = logs::subscriber(logs::Format::Json, "info", move || writer.clone());
    let guard = tracing::subscriber::set_default(all.unwrap());
    // With one subscriber alone, tracing would ask the thread that meets a line first, which may be another test's.
    let other = logs::subscriber(logs::Format::Text, "off", std::io::sink);
    (lines, (tracing::Dispatch::new(other.unwrap()), guard))
}

/// What was said of a place: its name, and why it failed.
fn said(lines: &[Value]) -> Vec<(String, String, String)> {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let of_place = lines.iter().filter(|line| line["outlet"].is_string());
    of_place
        .map(|line| {
            let word = match line["message"].as_str() {
                Some("checkpoints do not get out; trying again with each") => "fails",
                Some("checkpoints get out again") => "works",
                other => panic!("{other:?}"),
            };
            (text(line, "outlet"), word.to_owned(), text(line, "reason"))
        })
        .collect()
}

async fn number(app: &TestApp, outlet: &str, outcome: &str) -> usize {
    let metrics = app.metrics().await;
    let name =
        format!("confirmd_checkpoint_copies_total{{outlet=\"{outlet}\",outcome=\"{outcome}\"}} ");
    let found = metrics.lines().find_map(|line| line.strip_prefix(&name));
    found.map_or(0, |number| number.parse().unwrap())
}

async fn notes(app: &TestApp) -> Vec<String> {
    let sql = "select note from checkpoint order by epoch, size, signed_at";
    app.sql(sql).await
}

/// Returns each stored stamp in hexadecimal, or a dash.
async fn stamps(app: &TestApp) -> Vec<String> {
    let hex = match app.db {
        Db::Sqlite => "hex(stamp)",
        Db::Postgres => "encode(stamp, 'hex')",
    };
    let sql = format!(
        "select case when stamp is null then '-' else lower({hex}) end from checkpoint order by epoch, size, signed_at"
    );
    app.sql(&sql).await
}

/// Signs up and signs a checkpoint over that.
async fn next(app: &TestApp, n: u32) -> String {
    let someone = format!("outlet.{n}@example.org");
    app.pass(Duration::from_secs(120));
    app.sign_up(&someone, &["weekly"]).await;
    app.checkpoint().await
}

async fn published(app: &TestApp) -> Value {
    let answer = send(app.addr, "GET", "/.well-known/confirmd", &[], b"").await;
    assert_eq!(answer.status, 200);
    answer.json()
}

both!(every_place_gets_the_note_that_is_kept, |db| {
    let places = Places::new().await;
    let app = TestApp::with(db, LISTS, &places.all()).await;
    let (lines, _guard) = listen();
    app.give().await;
    assert!(lines.take().is_empty() && places.receiver.posted().is_empty());

    let note = app.checkpoint().await;
    app.give().await;
    assert_eq!(notes(&app).await, [note.as_str()]);
    let vkey = published(&app).await["keys"][0]["vkey"].clone();
    let vkey: Verifier = vkey.as_str().unwrap().parse().unwrap();
    let signed = Checkpoint::open(&note, &[vkey]).unwrap();
    assert_eq!(signed.size as usize, app.count("event").await);

    assert_eq!(places.read("given"), note);
    assert_eq!(places.read("stamped"), note);
    assert_eq!(stamps(&app).await, ["300161"]);
    let posted = places.receiver.posted();
    assert_eq!(posted.len(), 1);
    assert_eq!(posted[0].body, note);
    let head = &posted[0].head;
    assert!(
        head.starts_with("post /checkpoints?of=us http/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\ncontent-type: text/plain; charset=utf-8"),
        "{head}"
    );
    let logged = lines.take();
    let [line] = &logged[..] else {
        panic!("{logged:?}")
    };
    assert_eq!(line["message"], "checkpoint");
    assert_eq!(
        (&line["level"], &line["note"]),
        (&"INFO".into(), &note.as_str().into())
    );
    assert_eq!(
        (&line["epoch"], &line["size"]),
        (&1.into(), &signed.size.into())
    );

    // Once is enough, and the stamp makes no other checkpoint of it.
    app.give().await;
    assert_eq!(places.receiver.posted().len(), 1);
    assert!(lines.take().is_empty());
    for outlet in ["log", "command", "endpoint", "stamp"] {
        assert_eq!(number(&app, outlet, "sent").await, 1, "{outlet}");
        assert_eq!(number(&app, outlet, "failed").await, 0, "{outlet}");
    }

    // The newest alone: it covers those before.
    next(&app, 1).await;
    let newest = next(&app, 2).await;
    app.give().await;
    assert_eq!(places.read("given"), newest);
    let posted = places.receiver.posted();
    assert_eq!((posted.len(), &posted[1].body), (2, &newest));
});

both!(every_place_gets_the_newest_note_again_after_a_start, |db| {
    let places = Places::new().await;
    let settings = places.all();
    let mut app = TestApp::with(db, LISTS, &settings).await;
    let note = app.checkpoint().await;
    app.give().await;
    std::fs::remove_file(places.path("given")).unwrap();
    app.restart_with(LISTS, &settings).await;
    app.give().await;
    assert_eq!(places.read("given"), note);
    assert_eq!(places.receiver.posted().len(), 2);
    assert_eq!(places.read("calls"), "\n", "it was stamped before");
});

both!(a_place_that_fails_is_told_once_and_holds_up_nobody, |db| {
    let places = Places::new().await;
    let settings = places.all();
    let app = TestApp::with(db, LISTS, &settings).await;
    let (lines, _guard) = listen();
    let fail = [
        (
            "command",
            "cat > tried; echo what the program says >&2; exit 7",
        ),
        ("stamp", "echo what the program says >&2; kill -9 $$"),
    ];
    let work: Vec<String> = fail.iter().map(|(name, _)| places.read(name)).collect();
    for (name, lines) in fail {
        places.script(name, lines);
    }
    places
        .receiver
        .act(Act::status("500 what the receiver says"));
    let mut sent = 0;
    for n in 0..3 {
        let note = next(&app, n).await;
        app.give().await;
        // It was tried each time, and each time signed, and logged.
        assert_eq!(places.read("tried"), note);
        sent += 1;
        assert_eq!(places.receiver.posted().len(), sent);
        let all = lines.take();
        assert!(all.iter().any(|line| line["note"] == note.as_str()));
        let told =
            |outlet: &str, why: &str| (outlet.to_owned(), "fails".to_owned(), why.to_owned());
        let expected = [
            told("command", "the program ended with exit code 7"),
            told("endpoint", "the endpoint answered with status 500"),
            told("stamp", "the program was ended by a signal"),
        ];
        match n {
            0 => assert_eq!(said(&all), expected),
            _ => assert_eq!(said(&all), []),
        }
    }
    for (name, text) in ["command", "stamp"].iter().zip(&work) {
        std::fs::write(places.path(name), text).unwrap();
    }
    places.receiver.act(Act::status("201 Created"));
    for n in 3..5 {
        let note = next(&app, n).await;
        app.give().await;
        assert_eq!(places.read("given"), note);
        let told = said(&lines.take());
        let works = |outlet: &str| (outlet.to_owned(), "works".to_owned(), String::new());
        match n {
            3 => assert_eq!(told, ["command", "endpoint", "stamp"].map(works)),
            _ => assert_eq!(told, []),
        }
    }
    assert_eq!(stamps(&app).await, ["-", "-", "-", "300161", "-"]);
    assert_eq!(number(&app, "log", "sent").await, 5);
    for (outlet, sent) in [("command", 2), ("endpoint", 2), ("stamp", 1)] {
        assert_eq!(number(&app, outlet, "failed").await, 3, "{outlet}");
        assert_eq!(number(&app, outlet, "sent").await, sent, "{outlet}");
    }
});

/// Gives one checkpoint under these settings and returns what was said of places.
async fn give_under(settings: &str) -> Vec<(String, String)> {
    let app = TestApp::with(Db::Sqlite, LISTS, settings).await;
    let (lines, _guard) = listen();
    app.checkpoint().await;
    app.give().await;
    let told = said(&lines.take());
    let parts = told.into_iter().map(|(outlet, word, why)| {
        assert_eq!(word, "fails");
        (outlet, why)
    });
    parts.collect()
}

#[tokio::test]
async fn the_ways_in_which_an_endpoint_fails_have_names() {
    let places = Places::new().await;
    let endpoint = format!("[trail]\ntimeout = \"1 s\"\n{}", places.endpoint());
    let table = [
        (
            Act::status("302 Found\r\nlocation: /elsewhere"),
            "the endpoint answered with status 302",
        ),
        (
            Act::status("307 Temporary Redirect\r\nlocation: /elsewhere"),
            "the endpoint answered with status 307",
        ),
        (
            Act::status("404 what the"),
            "the endpoint answered with status 404",
        ),
        (Act::Silence, "not done in time"),
        (
            Act::Answer(String::new()),
            "the endpoint did not answer in HTTP",
        ),
        (
            Act::Answer("what the devil\r\n\r\n".to_owned()),
            "the endpoint did not answer in HTTP",
        ),
    ];
    for (n, (act, why)) in table.into_iter().enumerate() {
        places.receiver.act(act.clone());
        let told = give_under(&endpoint).await;
        assert_eq!(told, [("endpoint".to_owned(), why.to_owned())], "{act:?}");
        let posted = places.receiver.posted();
        assert_eq!(posted.len(), n + 1, "no redirect is followed: {posted:?}");
    }

    let untrusted = format!("[trail]\nendpoint = \"https://{}/\"", places.receiver.addr);
    let clear = Receiver::in_clear().await;
    let no_tls = format!("[trail]\nendpoint = \"https://{}/\"", clear.addr);
    for settings in [untrusted, no_tls] {
        let told = give_under(&settings).await;
        assert_eq!(
            told[0].1, "the endpoint is not trusted, or speaks no TLS; look at trail.ca_file",
            "{settings}"
        );
    }
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let told = give_under(&format!("[trail]\nendpoint = \"https://{addr}/\"")).await;
    assert_eq!(
        told[0].1,
        "the endpoint cannot be reached: connection refused"
    );
    let nowhere = "[trail]\nendpoint = \"https://no-such-host.invalid/\"";
    assert_eq!(
        give_under(nowhere).await[0].1,
        "the endpoint cannot be reached: no such host, or no way to it"
    );
    // Nothing came to any of them, and in clear only this machine is spoken to.
    assert!(clear.posted().is_empty());
    let settings = format!("[trail]\nendpoint = \"http://{}/\"", clear.addr);
    assert_eq!(give_under(&settings).await, []);
    assert_eq!(clear.posted().len(), 1);
}

#[tokio::test]
async fn the_ways_in_which_a_program_fails_have_names() {
    let places = Places::new().await;
    let hangs = places.script("hangs", "tail -f /dev/null & echo $$ $! > pids; wait");
    let deaf = places.script("deaf", "exec <&-; exit 0");
    let no_stamp =
        "the program printed no time stamp: a DER sequence of at most 64 KiB, and nothing else";
    let mut table = vec![
        ("command", hangs.clone(), Some("not done in time")),
        ("stamp", hangs, Some("not done in time")),
        (
            "command",
            "[\"/no/such/program\"]".to_owned(),
            Some("the program cannot be started: entity not found"),
        ),
        // It need not read.
        ("command", deaf, None),
    ];
    for (n, (prints, why)) in [
        ("true", Some(no_stamp)),
        ("echo '<html>'", Some(no_stamp)),
        ("printf '0\\003ab'", Some(no_stamp)),
        ("printf '0\\202\\377\\373'; head -c 65531 /dev/zero", None),
        (
            "printf '0\\203\\001\\000\\000'; head -c 65536 /dev/zero",
            Some(no_stamp),
        ),
        ("cat /dev/zero", Some(no_stamp)),
        (
            "printf '0\\001a'; exit 3",
            Some("the program ended with exit code 3"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        table.push(("stamp", places.script(&format!("stamp{n}"), prints), why));
    }
    for (outlet, words, why) in table {
        let told = give_under(&format!("[trail]\ntimeout = \"2 s\"\n{outlet} = {words}")).await;
        let expected: Vec<_> = why
            .map(|why| (outlet.to_owned(), why.to_owned()))
            .into_iter()
            .collect();
        assert_eq!(told, expected, "{words}");
        // Its own children end with it.
        for pid in places.read("pids").split_whitespace() {
            let process = format!("/proc/{pid}");
            seen("its end", PATIENCE, async || {
                match Path::new(&process).exists() {
                    false => Ok(()),
                    true => Err(&process),
                }
            })
            .await;
        }
    }
}

both!(the_first_checkpoint_of_a_day_is_stamped, |db| {
    let places = Places::new().await;
    let settings = places.all();
    let mut app = TestApp::with(db, LISTS, &settings).await;
    for n in 0..3 {
        next(&app, n).await;
        app.give().await;
    }
    assert_eq!(stamps(&app).await, ["300161", "-", "-"]);
    app.restart_with(LISTS, &settings).await;
    next(&app, 3).await;
    app.give().await;
    assert_eq!(stamps(&app).await, ["300161", "-", "-", "-"]);
    assert_eq!(places.read("calls"), "\n");

    // The next day, by UTC: fourteen hours and some minutes later.
    app.pass(DAY / 24 * 14);
    next(&app, 4).await;
    app.give().await;
    assert_eq!(stamps(&app).await[4], "-", "it is not yet midnight");
    app.pass(DAY / 24);
    let note = next(&app, 5).await;
    app.give().await;
    let first = &stamps(&app).await[5];
    assert_eq!(first, "300161");
    assert_eq!(places.read("stamped"), note);
    assert_eq!(places.read("calls"), "\n\n");
});

both!(a_stamp_of_a_day_that_has_not_come_spares_no_other, |db| {
    let places = Places::new().await;
    let app = TestApp::with(db, LISTS, &places.all()).await;
    app.pass(2 * DAY);
    next(&app, 0).await;
    app.give().await;
    app.set_back(2 * DAY);
    let today = next(&app, 1).await;
    app.give().await;
    assert_eq!(places.read("stamped"), today);
    next(&app, 2).await;
    app.give().await;
    assert_eq!(stamps(&app).await, ["300161", "300161", "-"]);
});

both!(of_two_stamps_the_first_is_kept, |db| {
    let places = Places::new().await;
    let slow = "cat > /dev/null; mkfifo go; echo > began; read _ < go; printf '0\\001a'";
    places.script("slow", slow);
    places.script("quick", "cat > /dev/null; printf '0\\001b'");
    let app = TestApp::with(db, LISTS, "").await;
    app.checkpoint().await;
    let outlets = |name: &str| {
        let settings = Settings {
            command: Vec::new(),
            endpoint: None,
            ca_file: None,
            stamp: vec!["sh".to_owned(), places.path(name)],
            timeout: PATIENCE,
        };
        Outlets::new(app.flows.clone(), settings).unwrap()
    };
    let (one, other) = (outlets("slow"), outlets("quick"));
    let one = tokio::spawn(async move { one.step().await });
    places.until("began", "\n").await;
    other.step().await.unwrap();
    std::fs::write(places.path("go"), "\n").unwrap();
    one.await.unwrap().unwrap();
    assert_eq!(stamps(&app).await, ["300162"]);
    assert_eq!(number(&app, "stamp", "sent").await, 1);
});

both!(
    a_stamp_never_stands_beside_a_note_that_it_does_not_cover,
    |db| {
        let places = Places::new().await;
        let app = TestApp::with(db, LISTS, &places.all()).await;
        let before = app.checkpoint().await;
        app.give().await;
        assert_eq!(stamps(&app).await, ["300161"]);
        // Silence is signed anew, in the place of what was signed of it before, unless that was stamped.
        let mut silent = Vec::new();
        for _ in 0..2 {
            app.pass(IDLE);
            let signed = checkpoint::checkpoint(&app.flows).await.unwrap();
            let checkpoint::Outcome::Signed(kept) = signed else {
                panic!("silence is signed");
            };
            silent.push(kept.note);
            app.give().await;
        }
        assert_eq!(notes(&app).await, [before.clone(), silent[1].clone()]);
        assert_eq!(stamps(&app).await, ["300161", "-"]);
        assert_eq!(places.read("stamped"), before);
        assert_eq!(places.read("calls"), "\n", "one a day");
    }
);

both!(a_place_that_hangs_delays_no_other, |db| {
    let mut places = Places::new().await;
    let settings = format!("{}timeout = \"5 minutes\"\n", places.all());
    let app = TestApp::with(db, LISTS, &settings).await;
    places.receiver.act(Act::Silence);
    let stop = Stop::new();
    let role = tokio::spawn(app.outlets.clone().run(stop.soft()));
    let first = app.checkpoint().await;
    places.receiver.until(&first).await;
    for n in 0..4 {
        let note = next(&app, n).await;
        places.until("given", &note).await;
    }
    assert_eq!(places.receiver.posted().len(), 1);
    // Nor does it hold up the stop.
    stop.trigger_soft();
    timeout(PATIENCE, role)
        .await
        .expect("the stop")
        .expect("no panic");
});

/// Standard error is a place outside as good as any: what it takes is not for a level to say.
#[tokio::test]
async fn a_checkpoint_is_a_log_line_at_every_level() {
    let settings = "[log]\nfilter = \"warn,confirmd::cli=info\"\n";
    let home = Home::new(Db::Sqlite, ([127, 0, 0, 1], 9).into(), settings);
    let mut daemon = home.start().await;
    assert!(daemon.message("checkpoint").await["note"].is_string());
}

#[tokio::test]
async fn a_program_is_told_the_note_and_none_of_our_settings() {
    let relay = ([127, 0, 0, 1], 9).into();
    let mut places = Places::new().await;
    let command = places.script("command", "env > environment; cat > new && mv new given");
    let settings = format!("[trail]\ncommand = {command}\n{}", places.endpoint());
    let mut home = Home::new(Db::Sqlite, relay, &settings);
    home.set("SMTP__USERNAME", "confirmd");
    home.set("SMTP__PASSWORD", "kept.from.programs");
    let mut daemon = home.start().await;
    // The keys were made: an event, and so a checkpoint.
    let line = daemon.message("checkpoint").await;
    let note = line["note"].as_str().unwrap().to_owned();
    places.receiver.until(&note).await;
    places.until("given", &note).await;
    let environment = places.read("environment");
    assert!(environment.contains("PATH="), "{environment}");
    assert!(!environment.contains("CONFIRMD"), "{environment}");
    daemon.term();
    assert_eq!(daemon.wait().await.code(), Some(0));
    assert_eq!(home.sql("select note from checkpoint").await, [note]);
}

#[tokio::test]
async fn a_file_without_certificates_is_refused_before_anything_is_sent() {
    let relay = ([127, 0, 0, 1], 9).into();
    let places = Places::new().await;
    let settings = format!("[trail]\n{}", places.endpoint());
    let home = Home::new(Db::Sqlite, relay, &settings);
    let check = ["check", "--offline"];
    let good = home.run(&check).await.stdout;
    assert!(good.contains("ok   trail.ca_file"), "{good}");
    let ca = places.path("ca.pem");
    std::fs::write(&ca, "no certificate").unwrap();
    let why = format!("the CA file {ca} holds no certificate");
    let bad = home.run(&check).await;
    assert_eq!(bad.code, Some(1));
    assert!(
        bad.stdout.contains(&format!("BAD  trail.ca_file  {why}")),
        "{}",
        bad.stdout
    );
    let refused = home.run(&["serve"]).await;
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains(&why), "{}", refused.stderr);
}

#[tokio::test]
async fn a_real_time_stamp_is_kept_and_verifies() {
    const MAKE: &str = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 9 \
            -subj /CN=authority -addext extendedKeyUsage=critical,timeStamping
        printf '%s\\n' '[tsa]' default_tsa=t '[t]' serial=serial default_policy=1.2.3.4.1 \
            digests=sha256 signer_digest=sha256 ess_cert_id_alg=sha256 >tsa.cnf
        echo 01 >serial";
    const STAMP: &str = "openssl ts -query -data /dev/stdin -sha256 -cert -out query
        openssl ts -reply -config tsa.cnf -queryfile query -signer cert.pem -inkey key.pem -out reply
        cat reply";
    const VERIFY: &str = "openssl ts -verify -data given -in kept -CAfile cert.pem";
    let places = Places::new().await;
    let openssl = |name: &str, lines: &str| {
        places.script(name, &format!("set -e\n{lines}"));
        let mut shell = std::process::Command::new("sh");
        let done = shell.arg(places.path(name)).output().unwrap();
        (
            done.status.success(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    };
    let (made, said) = openssl("make", MAKE);
    assert!(made, "{said}");
    let command = places.script("command", "cat > given");
    let stamp = places.script("stamp", STAMP);
    let settings = format!("[trail]\ncommand = {command}\nstamp = {stamp}");
    let app = TestApp::with(Db::Sqlite, LISTS, &settings).await;
    app.checkpoint().await;
    app.give().await;
    let mut tx = app.flows.pool.read().await.unwrap();
    let kept = tx.last_checkpoint().await.unwrap().unwrap();
    std::fs::write(places.path("kept"), kept.stamp.unwrap()).unwrap();
    let (good, said) = openssl("verify", VERIFY);
    assert!(good, "{said}");
    std::fs::write(places.path("given"), format!("{}\n", kept.note)).unwrap();
    assert!(!openssl("verify", VERIFY).0, "of another note");
}

both!(
    everybody_may_read_the_keys_and_the_newest_checkpoint,
    |db| {
        let app = TestApp::start(db).await;
        let before = app.dump().await;
        let none = published(&app).await;
        assert_eq!(none["checkpoint"], Value::Null);
        assert_eq!(none["origin"], "lists.acme.example/confirmd/1");
        assert_eq!(none["epoch"], 1);
        let path = "/.well-known/confirmd";
        let head = send(app.addr, "HEAD", path, &[], b"").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(head.header("content-type"), Some("application/json"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        assert_eq!(app.dump().await, before, "reading changes nothing");
        let post = send(app.addr, "POST", path, &[], b"").await;
        assert_eq!((post.status, post.header("allow")), (405, Some("GET,HEAD")));

        let first = app.checkpoint().await;
        let one = published(&app).await;
        assert_eq!(one["checkpoint"], first);
        let keys = one["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(
            (&keys[0]["state"], &keys[0]["epoch"]),
            (&"sign".into(), &1.into())
        );
        let registered = app
            .sql("select id from keyring where purpose = 'trail'")
            .await;
        assert_eq!(keys[0]["id"], registered[0]);
        assert!(verifies(&first, keys[0]["vkey"].as_str().unwrap()));

        // A key that signed once is still needed; the one that signs now comes first.
        let (pool, dir) = (&app.flows.pool, app.dir.path().join("keys"));
        let (now, only) = (app.clock.now(), app.flows.keys());
        let added = keyring::add(pool, &dir, Purpose::Trail, now).await.unwrap();
        app.activate_key(&added.id).await;
        let keys = published(&app).await["keys"].take();
        let states = keys.as_array().unwrap().iter();
        let states =
            states.map(|key| (key["id"].as_str().unwrap(), key["state"].as_str().unwrap()));
        assert!(states.eq([
            (added.id.as_str(), "sign"),
            (registered[0].as_str(), "verify")
        ]));
        assert_ne!(keys[0]["vkey"], keys[1]["vkey"]);
        app.flows.set_keys((*only).clone());

        // After a loss the log has another name, and the keys of before are still there.
        epoch::begin(&app.flows.pool, "a test", 0, app.clock.now())
            .await
            .unwrap();
        let second = next(&app, 1).await;
        let two = published(&app).await;
        assert_eq!(
            (&two["epoch"], &two["checkpoint"]),
            (&2.into(), &second.as_str().into())
        );
        assert_eq!(two["origin"], "lists.acme.example/confirmd/2");
        let keys = two["keys"].as_array().unwrap();
        let epochs: Vec<_> = keys
            .iter()
            .map(|key| key["epoch"].as_u64().unwrap())
            .collect();
        assert_eq!(epochs, [2, 1]);
        let [new, old] = [0, 1].map(|at: usize| keys[at]["vkey"].as_str().unwrap().to_owned());
        assert!(verifies(&first, &old) && verifies(&second, &new));
        let open = |note: &str, vkey: &str| Checkpoint::open(note, &[vkey.parse().unwrap()]);
        assert!(open(&first, &old).is_ok() && open(&second, &new).is_ok());
        assert!(open(&first, &new).is_err() && open(&second, &old).is_err());
        assert!(!verifies(&first.replacen('\n', "0\n", 1), &old));
    }
);

/// Asks OpenSSL whether the key of a vkey signed a note (C2SP signed-note; RFC 8410, section 10.3).
fn verifies(note: &str, vkey: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (text, signature) = note.split_once("\n\n").unwrap();
    let signature = BASE64
        .decode(signature.trim().rsplit(' ').next().unwrap())
        .unwrap();
    let key = BASE64.decode(vkey.splitn(3, '+').nth(2).unwrap()).unwrap();
    const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    let file = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    file("text", format!("{text}\n").as_bytes());
    file("signature", &signature[4..]);
    file("key", &[ED25519, &key[1..]].concat());
    let openssl = std::process::Command::new("openssl")
        .args([
            "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key",
        ])
        .args(["-rawin", "-in", "text", "-sigfile", "signature"])
        .current_dir(dir.path())
        .output();
    openssl.unwrap().status.success()
}
