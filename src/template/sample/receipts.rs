//! Receipts.

use super::pages::{PageSample, page};
use super::{at, long_sender, offers, report, sender, url, weekly};
use crate::domain::consent::{Action, Hash};
use crate::domain::list::{Class, ConfirmBy};
use crate::domain::locale::Locale;
use crate::domain::receipt::{Ended, EndedBy, NotAgreed};
use crate::template::face::ListFace;
use crate::template::receipt::*;

const ACTIONS: [Action; 5] = [
    Action::Checkbox,
    Action::Button,
    Action::Form,
    Action::Oral,
    Action::Paper,
];

fn agreed(list: ListFace) -> AgreedList {
    AgreedList {
        sha256: Hash::of(list.words.as_bytes()),
        list,
        other_words: None,
        reported: true,
        purpose: Class::Marketing,
        confirmed_at: at(600),
        by: Some(ConfirmBy::Button),
        ended: None,
        subscribed_since: Some(at(600)),
        eligible: true,
        restricted_at: None,
        closed: false,
        unsubscribe_url: Some(url("u")),
    }
}

fn ended(by: EndedBy) -> AgreedList {
    AgreedList {
        ended: Some(Ended { at: at(86_400), by }),
        subscribed_since: None,
        eligible: false,
        unsubscribe_url: None,
        ..agreed(weekly())
    }
}

fn not_agreed() -> impl Iterator<Item = NotAgreedList> {
    use NotAgreed::*;
    let every = [Open, Declined, Expired, Before, Left, NotMailed, Closed];
    every.into_iter().map(|why| NotAgreedList {
        title: "Yearly report".to_owned(),
        why,
    })
}

/// Returns the samples of receipts.
pub(super) fn receipt_pages() -> Vec<PageSample> {
    let one = ReceiptPage {
        sender: sender(),
        asked_by: sender(),
        id: "019364a0-8a3f-7000-8000-000000000001".to_owned(),
        asked_at: at(0),
        received_at: None,
        again_at: None,
        action: Action::Checkbox,
        source: "https://acme.example/news".to_owned(),
        mailed: Some(ReceiptMail {
            at: at(60),
            taken: true,
        }),
        agreed: vec![agreed(weekly())],
        other: Vec::new(),
    };
    let by = |by, purpose| AgreedList {
        by,
        purpose,
        reported: false,
        ..agreed(offers())
    };
    let old = "Yes, mail me.";
    let several = ReceiptPage {
        asked_by: long_sender(),
        sender: long_sender(),
        received_at: Some(at(5)),
        again_at: Some(at(30)),
        mailed: Some(ReceiptMail {
            at: at(60),
            taken: false,
        }),
        agreed: vec![
            by(Some(ConfirmBy::Link), Class::Delivery),
            by(None, Class::Marketing),
            AgreedList {
                other_words: Some(OtherWords {
                    words: old.to_owned(),
                    lang: Locale::english(),
                    sha256: Hash::of(old.as_bytes()),
                }),
                ..agreed(report())
            },
            AgreedList {
                subscribed_since: Some(at(172_800)),
                eligible: true,
                ..ended(EndedBy::Unsubscribed)
            },
            AgreedList {
                restricted_at: Some(at(172_800)),
                eligible: false,
                closed: true,
                ..agreed(weekly())
            },
        ],
        other: not_agreed().collect(),
        ..one.clone()
    };
    let over = ReceiptPage {
        agreed: vec![
            ended(EndedBy::Unsubscribed),
            ended(EndedBy::Objected),
            ended(EndedBy::Undeliverable),
            ended(EndedBy::Lapsed),
            AgreedList {
                ended: None,
                ..ended(EndedBy::Lapsed)
            },
        ],
        mailed: None,
        ..one.clone()
    };
    let acts = ACTIONS.map(|action| ReceiptPage {
        action,
        ..one.clone()
    });
    let none = not_agreed().map(|list| NoReceiptPage {
        sender: sender(),
        why: list.why,
        titles: vec!["Weekly news".to_owned(), "Offers".to_owned()],
        asked_at: at(0),
        other: vec![list],
    });
    let mut all = vec![page("several lists", several), page("ended", over)];
    all.extend(acts.map(|receipt| page("one list", receipt)));
    all.extend(none.map(|none| page("nothing", none)));
    all
}
