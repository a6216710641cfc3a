//! SIGHUP: other lists come into force, or the old ones stay.

use crate::support::app::{LISTS, both};
use crate::support::daemon::{Daemon, Home, PATIENCE, QUICK};
use crate::support::http::send;
use crate::support::mail::{Mail, links};
use crate::support::patience::seen;
use crate::support::peer::Peer;

const RELOADED: &str = "reloaded senders, lists, templates and link keys";
const REFUSED: &str = "not reloaded; what was in force stays";

/// Reloads and waits for the n-th line that says how it went.
async fn reload(daemon: &mut Daemon, message: &str) -> serde_json::Value {
    let before = daemon.count(message);
    daemon.hup();
    let stderr = &mut daemon.stderr;
    crate::support::daemon::until(stderr, message, |lines| {
        lines.iter().filter(|line| line.contains(message)).count() > before
    })
    .await;
    let mut log = daemon.log();
    log.retain(|line| line["message"] == message);
    log.pop().expect("it was there")
}

async fn titles(daemon: &Daemon, key: &str) -> String {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str())];
    let answer = send(daemon.addr, "GET", "/v1/lists?locale=en", &headers, b"").await;
    assert_eq!(answer.status, 200);
    answer.body
}

/// Signs up and returns the mail.
async fn mail(daemon: &mut Daemon, peer: &Peer, key: &str, email: &str, list: &str) -> Mail {
    let before = peer.mails().len();
    assert_eq!(daemon.sign_up(key, email, &[list]).await.status, 202);
    peer.wait_for(before + 1).await;
    Mail::read(&peer.mails()[before].bytes)
}

both!(lists_come_into_force_and_go, |db| {
    let peer = Peer::start().await;
    let home = Home::new(db, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    let confirmed = mail(&mut daemon, &peer, &key, "one@example.org", "offers").await;
    let page = daemon.press(&confirmed.confirm(), "").await;
    let leave = links(&page.body, "/u/").pop().expect("a way out");
    let open = mail(&mut daemon, &peer, &key, "two@example.org", "offers").await;
    let refused = mail(&mut daemon, &peer, &key, "three@example.org", "offers").await;

    // Other words under the same number: refused, and nothing has changed, not even a list that is fine.
    let title = LISTS.replace("en = \"Offers\"", "en = \"Bargains\"");
    let plus = format!(
        "{title}[lists.extra]\nsender = \"acme\"\ntitle = {{ en = \"Extra\" }}\nconsent = {{ en = \"Extra, please.\" }}\n"
    );
    home.write(&plus, QUICK);
    let said = reload(&mut daemon, REFUSED).await;
    let error = said["error"].as_str().expect("a reason");
    assert!(
        error.contains("lists.offers.revision") && error.contains("revision = 2"),
        "{error}"
    );
    let lists = titles(&daemon, &key).await;
    assert!(
        lists.contains("Offers") && !lists.contains("Bargains") && !lists.contains("Extra"),
        "{lists}"
    );
    assert_eq!(
        daemon
            .sign_up(&key, "four@example.org", &["extra"])
            .await
            .status,
        422
    );

    // A typing error: refused, with its key.
    home.write(&LISTS.replace("goodbye = false", "godbye = false"), QUICK);
    let said = reload(&mut daemon, REFUSED).await;
    assert!(
        said["error"]
            .as_str()
            .is_some_and(|e| e.contains("lists.offers.godbye")),
        "{said}"
    );

    // With a number: in force. The next start agrees.
    let revised = plus.replace(
        "[lists.offers]\n",
        "[lists.offers]\nrevision = 2\nchange = \"editorial\"\n",
    );
    home.write(&revised, QUICK);
    reload(&mut daemon, RELOADED).await;
    let lists = titles(&daemon, &key).await;
    assert!(
        lists.contains("Bargains") && lists.contains("Extra"),
        "{lists}"
    );
    let new = mail(&mut daemon, &peer, &key, "four@example.org", "offers").await;
    assert!(new.text.contains("Bargains"));
    // A link keeps the words that its mail had.
    let page = daemon.open(&open.confirm()).await;
    assert!(
        page.body.contains("Offers") && !page.body.contains("Bargains"),
        "{}",
        page.body
    );
    // Words are never taken back.
    home.write(LISTS, QUICK);
    let said = reload(&mut daemon, REFUSED).await;
    assert!(
        said["error"]
            .as_str()
            .is_some_and(|e| e.contains("is lower than 2")),
        "{said}"
    );

    // A list that is taken out is closed: no signup, but its links work from the facts that were kept.
    let start = revised.find("[lists.offers]").expect("the list");
    let end = revised.find("[lists.tips]").expect("the next list");
    let without = format!("{}{}", &revised[..start], &revised[end..]);
    home.write(&without, QUICK);
    let looked = home.run(&["check", "--offline"]).await;
    let says = "; closes offers (1 subscriptions, 3 open signups)";
    assert!(
        looked.code == Some(0) && looked.stdout.contains(says),
        "{}",
        looked.stdout
    );
    // A file that was cut off closes nothing.
    home.write("", QUICK);
    let says = "lists: none is configured, and 4 are open here (extra, offers, tips, weekly)";
    let looked = home.run(&["check", "--offline"]).await;
    assert!(
        looked.code == Some(1) && looked.stdout.contains(says),
        "{}",
        looked.stdout
    );
    let said = reload(&mut daemon, REFUSED).await;
    assert!(
        said["error"].as_str().is_some_and(|e| e.contains(says)),
        "{said}"
    );
    assert!(titles(&daemon, &key).await.contains("Bargains"));
    home.write(&without, QUICK);
    reload(&mut daemon, RELOADED).await;
    let closed = daemon
        .message("a list is no longer configured: it is closed")
        .await;
    assert_eq!(
        (
            &closed["level"],
            &closed["list"],
            &closed["subscriptions"],
            &closed["signups"]
        ),
        (&"WARN".into(), &"offers".into(), &1.into(), &3.into())
    );
    assert!(!titles(&daemon, &key).await.contains("Bargains"));
    assert_eq!(
        daemon
            .sign_up(&key, "five@example.org", &["offers"])
            .await
            .status,
        422
    );
    assert_eq!(daemon.open(&leave).await.status, 200);
    assert_eq!(
        daemon
            .press(&leave, "List-Unsubscribe=One-Click")
            .await
            .status,
        200
    );
    assert_eq!(
        daemon.press(&refused.decline(), "reason=no").await.status,
        200
    );
    let page = daemon.press(&open.confirm(), "").await;
    assert!(page.status < 500, "{}", page.body);
    home.idle().await;
    let states = match db {
        crate::support::app::Db::Sqlite => "select state from subscription order by state",
        crate::support::app::Db::Postgres => "select state from subscription order by state",
    };
    // Nobody joins a closed list.
    assert_eq!(home.sql(states).await, ["unsubscribed"]);
    let events = home.trail().await;
    assert_eq!(events["list.closed"], 1);
    assert_eq!(events["signup.declined"], 1);
    assert_eq!(events["subscription.unsubscribed"], 1);

    // It may come back; nothing of this needed a restart.
    home.write(&revised, QUICK);
    reload(&mut daemon, RELOADED).await;
    assert_eq!(daemon.press(&open.confirm(), "").await.status, 200);
    assert_eq!(home.sql(states).await, ["confirmed", "unsubscribed"]);
    daemon.term();
    assert_eq!(daemon.wait().await.code(), Some(0));
    assert_eq!(home.run(&["check", "--offline"]).await.code, Some(0));
});

both!(what_the_next_start_would_refuse_is_not_reloaded, |db| {
    let peer = Peer::start().await;
    let at =
        |host: &str| format!("[server]\npublic_url = \"https://{host}.acme.example\"\n{QUICK}");
    let mut home = Home::new(db, peer.addr(), &at("lists"));
    home.unset("SERVER__PUBLIC_URL");
    // Its stop signs the trail under this name.
    home.first_start().await;
    let mut daemon = home.start().await;
    home.write(LISTS, &at("signup"));
    let said = reload(&mut daemon, REFUSED).await;
    let says = "origin = \"lists.acme.example/confirmd\"";
    assert!(
        said["error"].as_str().is_some_and(|e| e.contains(says)),
        "{said}"
    );
    // With the old name it may come, and is told to wait.
    home.write(LISTS, &format!("[trail]\n{says}\n{}", at("signup")));
    reload(&mut daemon, RELOADED).await;
    let waits = daemon.message("changed, and needs a restart").await;
    assert_eq!(
        (&waits["level"], &waits["sections"]),
        // The name in EHLO follows the address.
        (&"WARN".into(), &"server, smtp, trail".into())
    );
});

both!(link_keys_are_rotated_without_a_restart, |db| {
    let peer = Peer::start().await;
    let home = Home::new(db, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let mut daemon = home.start().await;
    let old = mail(&mut daemon, &peer, &key, "old@example.org", "weekly").await;
    let waits = mail(&mut daemon, &peer, &key, "waits@example.org", "weekly").await;

    let list = home.run(&["keyring", "list", "--format", "json"]).await;
    assert_eq!((list.code, list.stdout.lines().count()), (Some(0), 3));
    let added = home.run(&["keyring", "add"]).await;
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let id = added.stdout.trim().to_owned();
    assert!(home.keys().join(format!("links-{id}.key")).exists());
    reload(&mut daemon, RELOADED).await;
    let activated = seen("that the daemon has it", PATIENCE, async || {
        let done = home.run(&["keyring", "activate", &id]).await;
        match done.code {
            Some(0) => Ok(()),
            _ => Err(done.stderr),
        }
    });
    activated.await;
    reload(&mut daemon, RELOADED).await;
    let new = mail(&mut daemon, &peer, &key, "new@example.org", "weekly").await;
    let page = daemon.press(&old.confirm(), "").await;
    assert_eq!(page.status, 200);
    assert_eq!(daemon.press(&new.confirm(), "").await.status, 200);

    // Compromised: what the old key signed may leave and do nothing else.
    let first = list.stdout.lines().find(|line| line.contains("\"links\""));
    let first: serde_json::Value = serde_json::from_str(first.expect("a link key")).expect("JSON");
    let first = first["id"].as_str().expect("an id");
    let compromised = home.run(&["keyring", "compromise", first]).await;
    assert_eq!(compromised.code, Some(0), "{}", compromised.stderr);
    reload(&mut daemon, RELOADED).await;
    assert_eq!(daemon.press(&waits.confirm(), "").await.status, 404);
    let leave = links(&page.body, "/u/").pop().expect("a way out");
    assert_eq!(
        daemon
            .press(&leave, "List-Unsubscribe=One-Click")
            .await
            .status,
        200
    );
    home.idle().await;
    let listed = home.run(&["keyring", "list"]).await;
    assert!(
        listed.stdout.contains("unsubscribe-only"),
        "{}",
        listed.stdout
    );
    assert_eq!(home.trail().await["keyring.changed"], 7);
    let unknown = home.run(&["keyring", "activate", "deadbeef"]).await;
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("deadbeef"), "{}", unknown.stderr);
});
