//! Processes wake each other. Delivery looks by itself every few minutes here, later than any test waits: a mail that
//! leaves was told of.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::{Instant, timeout};

use crate::support::app::Db;
use crate::support::daemon::{Daemon, Home};
use crate::support::driver::Driver;
use crate::support::peer::{Act, Peer, Point};
use crate::support::sql;

const SELDOM: &str = r#"
[delivery]
poll = "1 hour"
lease_margin = "10 minutes"
"#;

/// The least time between two notices of one process.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts a process that does nothing but these.
async fn only(home: &mut Home, roles: &[&str]) -> Daemon {
    for role in ["HTTP", "DELIVER", "SEQUENCE", "SWEEP"] {
        let on = roles.contains(&role).to_string();
        home.set(&format!("ROLES__{role}"), &on);
    }
    home.start().await
}

/// Listens as any other program could.
async fn listener(url: &str) -> PgListener {
    let options = PgConnectOptions::from_str(url).expect("a URL");
    let pool = PgPoolOptions::new().connect_with(options).await;
    let pool = pool.expect("PostgreSQL answers");
    let mut listener = PgListener::connect_with(&pool).await.expect("a listener");
    listener.listen("confirmd").await.expect("LISTEN");
    listener
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_is_sent_by_another_process_than_the_one_that_queued_it() {
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Postgres, peer.addr(), SELDOM);
    let key = home.key("acme", "signup").await;
    // The first to start is the first to listen.
    let _deliver = only(&mut home, &["DELIVER"]).await;
    let listening = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'confirmd wake'";
    home.until("one that listens", listening, 1).await;
    let http = only(&mut home, &["HTTP"]).await;
    home.until("two that listen", listening, 2).await;
    for n in 1..=3 {
        let email = format!("told-{n}@example.org");
        assert_eq!(http.sign_up(&key, &email, &["weekly"]).await.status, 202);
        peer.wait_for(n).await;
    }

    // Whoever cannot hear for a moment misses notices, and looks when it hears again.
    let deaf = "select pg_terminate_backend(pid)::text from (select pid from pg_stat_activity
        where datname = current_database() and application_name = 'confirmd wake'
        order by backend_start limit 1) first";
    assert_eq!(home.sql(deaf).await.len(), 1);
    let email = "missed@example.org";
    assert_eq!(http.sign_up(&key, email, &["weekly"]).await.status, 202);
    peer.wait_for(4).await;
    home.until("two that listen again", listening, 2).await;

    let kill = "select pg_terminate_backend(pid)::text from pg_stat_activity
        where datname = current_database() and application_name like 'confirmd%'";
    assert!(home.sql(kill).await.len() >= 4);
    let driver = Driver::new(&key, "cut", 1, None);
    driver.at.send_replace(Some(http.addr));
    driver.run(1).await;
    peer.wait_for(5).await;
}

/// A notice locks the server while it commits: many signups make few, and who does the work itself makes none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_are_few_and_only_of_what_others_do() {
    let peer = Peer::start().await;
    let mut home = Home::new(Db::Postgres, peer.addr(), SELDOM);
    let key = home.key("acme", "signup").await;
    let mut all = only(&mut home, &["HTTP", "DELIVER", "SEQUENCE"]).await;
    let mut listener = listener(&home.url).await;
    let driver = Driver::new(&key, "itself", 100, None);
    driver.at.send_replace(Some(all.addr));
    driver.run(4).await;
    peer.wait_for(100).await;
    home.idle().await;
    all.term();
    assert!(all.wait().await.success());

    let http = only(&mut home, &["HTTP"]).await;
    let began = Instant::now();
    let driver = Driver::new(&key, "others", 300, None);
    driver.at.send_replace(Some(http.addr));
    driver.run(4).await;
    // One when it began, and one for what came after the last.
    let most = began.elapsed().as_millis() / PAUSE.as_millis() + 3;
    let mut notices = Vec::new();
    while let Ok(notice) = timeout(20 * PAUSE, listener.recv()).await {
        notices.push(notice.expect("it listens").payload().to_owned());
    }
    println!("wake: {} notices, at most {most}", notices.len());
    assert!((1..=most).contains(&(notices.len() as u128)), "{notices:?}");
    let first = &notices[0];
    let name = first.split(' ').next().expect("a name");
    assert!(first.ends_with(" mails events"), "{first}");
    let by_one = notices.iter().all(|notice| notice.starts_with(name));
    assert!(by_one, "the other process told, too: {notices:?}");
}

/// On SQLite the others are commands, or an operator with a shell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_by_another_process_is_seen_on_sqlite() {
    let peer = Peer::start().await;
    peer.at(Point::Rcpt, Act::reply("450 4.2.1 later"));
    let home = Home::new(Db::Sqlite, peer.addr(), SELDOM);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    let email = "later@example.org";
    assert_eq!(daemon.sign_up(&key, email, &["weekly"]).await.status, 202);
    daemon.message("message.deferred").await;
    peer.script(|_| None);
    let due = "update message set due_at = created_at where state = 'queued'";
    assert_eq!(sql::execute(&home.url, due).await, Ok(1));
    peer.wait_for(1).await;
}
