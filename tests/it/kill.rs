//! `kill -9` in the middle of everything, twenty times in one run of five thousand signups with mail flowing.
//!
//! The oracle is outside: the driver has each 202 on stable storage before it counts, the peer writes each mail into its
//! journal before its 250. Kills come at random moments between two 202s; the seed is printed, and `CONFIRMD_TEST_SEED`
//! sets it.
#![expect(
    clippy::print_stdout,
    reason = "the seed and the figures are for whoever reads the run"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tokio::time::Instant;

use crate::support::app::{Db, both};
use crate::support::chance::{Chance, seed};
use crate::support::daemon::{Home, QUICK};
use crate::support::driver::{Accepted, Driver, signups};
use crate::support::mail::Mail;
use crate::support::peer::Peer;
use crate::support::sql;

const PEOPLE: usize = 5000;
const KILLS: usize = 20;
const CONNECTIONS: usize = 8;
/// Two batches of the default configuration: so many mails at most are claimed and not settled.
const IN_FLIGHT: usize = 200;

/// Reads the claims that a killed daemon left, without opening its database: that would recover it before it does.
async fn claims(home: &Home) -> BTreeSet<String> {
    let tokens =
        |text: &str| format!("select distinct {text} from message where state = 'claimed'");
    if home.db == Db::Postgres {
        return home.sql(&tokens("claim::text")).await.into_iter().collect();
    }
    let copy = tempfile::tempdir().expect("a folder");
    for file in ["confirmd.db", "confirmd.db-wal"] {
        let from = home.dir.path().join(file);
        if from.exists() {
            std::fs::copy(from, copy.path().join(file)).expect("a copy");
        }
    }
    let url = format!("sqlite:{}", copy.path().join("confirmd.db").display());
    let tokens = sql::rows(&url, &tokens("hex(claim)")).await;
    tokens.into_iter().collect()
}

/// Reads the driver's own file: what was answered 202, however this process went on.
fn promised(file: &Path) -> BTreeSet<Accepted> {
    let text = std::fs::read_to_string(file).expect("the driver's file");
    let accepted = |line: &str| {
        let (id, email) = line.split_once(' ').expect("two words");
        let (id, email) = (id.to_owned(), email.to_owned());
        Accepted { email, id }
    };
    text.lines().map(accepted).collect()
}

both!(nothing_that_was_answered_is_lost, |db| {
    let seed = seed();
    println!("kill: CONFIRMD_TEST_SEED={seed} on {db:?}");
    let mut chance = Chance(seed);
    let notes = tempfile::tempdir().expect("a folder");
    let (file, journal) = (notes.path().join("202"), notes.path().join("journal"));
    let peer = Peer::with_journal(&journal).await;
    let home = Home::new(db, peer.addr(), QUICK);
    let key = home.key("acme", "signup").await;
    let driver = Driver::new(
        &key,
        &format!("kill-{}", home.db as u8),
        PEOPLE,
        Some(&file),
    );
    let began = Instant::now();
    let driving = tokio::spawn({
        let driver = driver.clone();
        async move { driver.run(CONNECTIONS).await }
    });

    let mut accepted = driver.accepted.subscribe();
    let (mut left, mut hits, mut at_kill) = (BTreeSet::new(), 0, Vec::new());
    for kill in 0..KILLS {
        let mut daemon = home.start().await;
        driver.at.send_replace(Some(daemon.addr));
        // Somewhere within this kill's part of the run.
        let part = PEOPLE / (KILLS + 1);
        let after = kill * part + 1 + chance.below(part);
        let enough = accepted.wait_for(|n| *n >= after).await;
        drop(enough.expect("the driver drives"));
        for _ in 0..chance.below(64) {
            tokio::task::yield_now().await;
        }
        daemon.kill9();
        driver.at.send_replace(None);
        at_kill.push(peer.seen(|seen| seen.mails.len()));
        let claims = claims(&home).await;
        hits += usize::from(!claims.is_subset(&left));
        left.extend(claims);
    }
    let mut daemon = home.start().await;
    driver.at.send_replace(Some(daemon.addr));
    driving.await.expect("every signup has its 202");
    let drove = began.elapsed();
    home.idle().await;
    // A mail that three kills hit in a row, the third time alone, is set aside: as the operator, have it tried again.
    let aside = home
        .run(&["message", "list", "--format", "json"])
        .await
        .stdout;
    for mail in aside.lines() {
        let mail: serde_json::Value = serde_json::from_str(mail).expect("JSON");
        let id = mail["id"].as_str().expect("an id");
        assert_eq!(home.run(&["message", "release", id]).await.code, Some(0));
    }
    assert!(aside.lines().count() <= KILLS, "more than one a kill");
    home.idle().await;
    let took = began.elapsed();
    daemon.term();
    assert!(daemon.wait().await.success());

    // Every 202 is there, none twice, and nothing else: repeats under the same key made no second signup.
    let promised = promised(&file);
    assert_eq!(promised.len(), PEOPLE);
    let there: BTreeSet<_> = signups(&home.url).await.into_iter().collect();
    let lost = promised.difference(&there).count();
    assert_eq!((lost, there.len()), (0, PEOPLE), "lost, signups");

    // Every one of them was mailed; every copy is the same mail.
    let mails = peer.mails();
    let lines = std::fs::read_to_string(&journal).expect("the peer's journal");
    assert_eq!(lines.lines().count(), mails.len());
    let mut copies: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
    for mail in &mails {
        let to = mail.envelope_to.concat();
        copies.entry(to).or_default().push(&mail.bytes);
    }
    let mailed: BTreeSet<_> = copies.keys().map(String::as_str).collect();
    let people: BTreeSet<_> = promised.iter().map(|a| a.email.as_str()).collect();
    assert!(mailed == people, "{} of {PEOPLE} were mailed", mailed.len());
    for of_one in copies.values() {
        assert!(
            of_one.iter().all(|bytes| *bytes == of_one[0]),
            "the copies differ"
        );
    }
    let ids: BTreeSet<_> = copies
        .values()
        .map(|of_one| Mail::read(of_one[0]).header("message-id").to_owned())
        .collect();
    assert_eq!(ids.len(), PEOPLE, "each mail has its own Message-ID");
    let duplicates = mails.len() - PEOPLE;
    let claimed_again = home
        .count("select count(*) from message where claims > attempts")
        .await;
    let repeated = driver.repeated.load(std::sync::atomic::Ordering::Relaxed);
    println!(
        "kill: {KILLS} kills, {hits} between claim and settle ({claimed_again} mails claimed again), {duplicates} duplicates, \
         {repeated} requests repeated, 0 lost; signups in {:.1} s, all in {:.1} s; mails at the kills {at_kill:?}",
        drove.as_secs_f64(),
        took.as_secs_f64()
    );
    assert!(duplicates <= KILLS * IN_FLIGHT, "{duplicates} duplicates");
    assert!(duplicates <= claimed_again, "a copy that no kill explains");
    assert!(
        hits > 0,
        "no kill hit between claim and settle: this run shows nothing"
    );
    assert!(
        repeated > 0,
        "no kill hit a request: this run shows nothing"
    );

    // The trail has no gap, and each change its event.
    let events = home.trail().await;
    assert_eq!(events["signup.accepted"], PEOPLE);
    assert_eq!(events["message.sent"], PEOPLE);
    assert_eq!(events.get("message.failed"), None);
    let of_signups = "select count(distinct signup) from event where type = 'signup.accepted'";
    assert_eq!(home.count(of_signups).await, PEOPLE);
    let of_mails = "select count(distinct message) from event where type = 'message.sent'";
    assert_eq!(home.count(of_mails).await, PEOPLE);
    let sent = "select count(*) from signup where state = 'sent'";
    assert_eq!(home.count(sent).await, PEOPLE);
    if db == Db::Sqlite {
        let integrity = home
            .sql("select integrity_check from pragma_integrity_check")
            .await;
        assert_eq!(integrity, ["ok"]);
    }
});
