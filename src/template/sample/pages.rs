//! Pages.

use minijinja::value::{Serde, Value};

use super::{at, long_sender, offers, report, sender, url, weekly};
use crate::template::face::ListFace;
use crate::template::page::*;

/// One page with what it is given.
pub(in crate::template) struct PageSample {
    pub file: &'static str,
    pub name: &'static str,
    pub context: Value,
}

pub(super) fn page<P: Page>(name: &'static str, page: P) -> PageSample {
    PageSample {
        file: P::FILE,
        name,
        context: Value::from(Serde(page)),
    }
}

/// Returns the samples of every page.
pub(in crate::template) fn pages() -> Vec<PageSample> {
    let mut all = confirm_pages();
    all.extend(ended_pages());
    all.extend(decline_pages());
    all.extend(unsubscribe_pages());
    all.extend(super::receipts::receipt_pages());
    all.extend(super::record::pages());
    all
}

fn others() -> Vec<OtherList> {
    use OtherState::*;
    [
        Confirmed, Declined, Ended, Expired, NotOffered, Closed, Over,
    ]
    .into_iter()
    .map(|state| OtherList {
        title: "Yearly report".to_owned(),
        state,
    })
    .collect()
}

fn confirm_pages() -> Vec<PageSample> {
    let one = ConfirmPage {
        sender: sender(),
        open: vec![weekly()],
        other: Vec::new(),
        asked_at: at(0),
        site: Some("acme.example".to_owned()),
        expires: at(7 * 86_400),
        confirm_action: url("c"),
        decline_url: url("d"),
    };
    let several = ConfirmPage {
        open: vec![weekly(), offers()],
        other: others()[..1].to_vec(),
        ..one.clone()
    };
    let rest = ConfirmPage {
        sender: long_sender(),
        open: vec![report()],
        other: others(),
        site: None,
        ..one.clone()
    };
    let confirmed = |list: ListFace, since| ConfirmedList {
        title: list.title,
        frequency: list.frequency,
        since,
        unsubscribe_url: url("u"),
    };
    let now = ConfirmedPage {
        sender: sender(),
        when: Confirmed::Now,
        lists: vec![confirmed(weekly(), None)],
        open: Vec::new(),
        other: Vec::new(),
        confirm_action: url("c"),
        again_action: None,
        redirect_url: Some("https://acme.example/thanks".to_owned()),
        receipt_url: Some(url("r")),
    };
    let part = ConfirmedPage {
        open: vec![offers()],
        other: others()[3..4].to_vec(),
        again_action: Some(format!("{}/again", url("c"))),
        redirect_url: None,
        receipt_url: None,
        ..now.clone()
    };
    let before = ConfirmedPage {
        when: Confirmed::Before,
        lists: vec![
            confirmed(weekly(), Some(at(600))),
            confirmed(report(), None),
        ],
        redirect_url: None,
        receipt_url: None,
        ..now.clone()
    };
    vec![
        page("one list", one),
        page("several lists", several),
        page("one list left", rest),
        page("now", now),
        page("in part", part),
        page("before", before),
    ]
}

fn ended_pages() -> Vec<PageSample> {
    let signup_url = Some("https://acme.example/news".to_owned());
    let expired = EndedPage {
        sender: Some(sender()),
        reason: Ended::Expired { expired_at: at(0) },
        titles: vec!["Weekly news".to_owned()],
        other: others(),
        again_action: Some(format!("{}/again", url("c"))),
        signup_url: signup_url.clone(),
    };
    let plain = |reason| EndedPage {
        reason,
        other: Vec::new(),
        again_action: None,
        ..expired.clone()
    };
    let closed = EndedPage {
        signup_url: None,
        ..plain(Ended::Closed)
    };
    let purged = EndedPage {
        titles: Vec::new(),
        ..plain(Ended::Unknown)
    };
    let unknown = EndedPage {
        sender: None,
        signup_url: None,
        ..purged.clone()
    };
    vec![
        page("expired", expired.clone()),
        page("expired, no new mail", plain(expired.reason)),
        page("mailed", plain(Ended::Mailed)),
        page(
            "mailed before",
            plain(Ended::MailedBefore { mailed_at: at(0) }),
        ),
        page("not now", plain(Ended::NotNow)),
        page("declined", plain(Ended::Declined)),
        page("ineffective", plain(Ended::Ineffective)),
        page("not offered", plain(Ended::NotOffered)),
        page("closed", closed),
        page("over", plain(Ended::Over)),
        page("purged", purged),
        page("unknown", unknown),
    ]
}

fn decline_pages() -> Vec<PageSample> {
    let titles = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let open = DeclinePage {
        sender: sender(),
        open: titles(&["Weekly news", "Offers"]),
        closed: Vec::new(),
        subscribed: Vec::new(),
        hold: 30 * 86_400,
        action: url("d"),
    };
    let subscribed = DeclinePage {
        open: Vec::new(),
        subscribed: titles(&["Weekly news"]),
        ..open.clone()
    };
    let both = DeclinePage {
        open: titles(&["Offers"]),
        ..subscribed.clone()
    };
    let closed = DeclinePage {
        open: Vec::new(),
        closed: titles(&["Offers"]),
        ..open.clone()
    };
    let no = DeclinedPage {
        sender: sender(),
        outcome: Declined::Done,
        declined: titles(&["Weekly news"]),
        unsubscribed: Vec::new(),
        hold: None,
        not_me: Some(30 * 86_400),
        action: Some(url("d")),
        signup_url: Some("https://acme.example/news".to_owned()),
    };
    let held = |everywhere| DeclinedPage {
        hold: Some(Hold {
            until: at(30 * 86_400),
            everywhere,
        }),
        not_me: None,
        signup_url: None,
        ..no.clone()
    };
    let fixed = DeclinedPage {
        action: None,
        ..held(true)
    };
    let kept_back = DeclinedPage {
        outcome: Declined::Held,
        declined: Vec::new(),
        ..held(false)
    };
    let left = DeclinedPage {
        declined: Vec::new(),
        unsubscribed: titles(&["Weekly news"]),
        not_me: None,
        signup_url: None,
        ..no.clone()
    };
    let mut empty = left.clone();
    empty.unsubscribed.clear();
    let with = |outcome, base: &DeclinedPage| DeclinedPage {
        outcome,
        ..base.clone()
    };
    vec![
        page("open", open),
        page("subscribed", subscribed),
        page("open and subscribed", both),
        page("closed", closed),
        page("no", no.clone()),
        page("not me", held(false)),
        page("held, for a link that may only leave", fixed),
        page("left", left),
        page("already", with(Declined::Already, &held(false))),
        page("nothing", with(Declined::Nothing, &empty)),
        page("held", kept_back),
        page("lifted", with(Declined::Lifted, &empty)),
        page("too often", with(Declined::TooOften, &held(false))),
        page("extended", with(Declined::Extended, &held(true))),
    ]
}

fn unsubscribe_pages() -> Vec<PageSample> {
    let ask = UnsubscribePage {
        sender: sender(),
        title: "Weekly news".to_owned(),
        action: url("u"),
    };
    let done = UnsubscribedPage {
        sender: Some(sender()),
        title: "Weekly news".to_owned(),
        outcome: Unsubscribed::Done { goodbye: true },
        by_address_url: None,
        signup_url: Some("https://acme.example/news".to_owned()),
    };
    let with = |outcome| UnsubscribedPage {
        outcome,
        ..done.clone()
    };
    let quiet = UnsubscribedPage {
        signup_url: None,
        ..with(Unsubscribed::Done { goodbye: false })
    };
    let gone = UnsubscribedPage {
        sender: None,
        title: String::new(),
        signup_url: None,
        ..with(Unsubscribed::Gone)
    };
    let erased = UnsubscribedPage {
        sender: Some(long_sender()),
        by_address_url: Some("https://lists.acme.example/p".to_owned()),
        ..gone.clone()
    };
    let since = Unsubscribed::Already { since: Some(at(0)) };
    let mut all = vec![
        page("ask", ask),
        page("done", done.clone()),
        page("done without mail", quiet),
        page("already", with(since)),
        page(
            "already, long ago",
            with(Unsubscribed::Already { since: None }),
        ),
        page("gone", gone),
        page("erased", erased),
    ];
    let problem = |name, sender, problem| page(name, ProblemPage { sender, problem });
    all.extend([
        problem("bad link", None, Problem::BadLink),
        problem("method", None, Problem::Method),
        problem("too large", Some(sender()), Problem::TooLarge),
        problem("unavailable", Some(sender()), Problem::Unavailable),
        problem("not found", None, Problem::NotFound),
    ]);
    all
}
