//! Printed consent records.

use super::pages::{PageSample, page};
use super::{at, sender, weekly};
use crate::domain::consent::Hash;
use crate::domain::event::EventKind;
use crate::domain::evidence::Part;
use crate::template::record::*;

/// Returns the samples of the printed record.
pub fn pages() -> Vec<PageSample> {
    let none = RecordPage {
        sender: None,
        generated_at: at(90_000),
        records: Vec::new(),
    };
    let full = RecordPage {
        sender: Some(sender()),
        records: vec![bare(), rich()],
        ..none.clone()
    };
    let others = RecordPage {
        records: ["button", "form", "oral", "paper"]
            .map(|act| RecordFace {
                act,
                language: "nl",
                reported: Some(bare().words),
                ..bare()
            })
            .to_vec(),
        ..full.clone()
    };
    vec![
        page("nothing", none),
        page("two lists", full),
        page("other acts", others),
    ]
}

/// All that can be missing is.
fn bare() -> RecordFace {
    let list = weekly();
    RecordFace {
        title: list.title,
        list: list.id,
        id: "01a207d1-0eb9-8626-91fb-67e27633f308".to_owned(),
        subscriber: "01a207d1-0eb9-7626-91fb-67e27633f308".to_owned(),
        email: None,
        state: "requested",
        since: at(0),
        basis: "interest",
        frequency: None,
        sha256: Hash::of(list.words.as_bytes()),
        words: list.words,
        lang: list.lang,
        language: "other",
        version: 1,
        reported: None,
        privacy_url: "https://acme.example/privacy".to_owned(),
        act: "unknown",
        at: at(0),
        source: None,
        challenge: None,
        steps: Vec::new(),
        mails: Vec::new(),
        events: Vec::new(),
        checkpoint: None,
        stamped: false,
        confirmd: "0.1.0".to_owned(),
    }
}

/// All that can be there is.
fn rich() -> RecordFace {
    const PARTS: [Part; 6] = [
        Part::Address,
        Part::Wording,
        Part::Form,
        Part::Mail,
        Part::Request,
        Part::Network,
    ];
    const STATES: [&str; 9] = [
        "requested",
        "given",
        "renewed",
        "refused",
        "expired",
        "withdrawn",
        "revoked",
        "invalidated",
        "unknown",
    ];
    const METHODS: [&str; 7] = [
        "signup",
        "button",
        "one_click",
        "mailto",
        "link",
        "link_ended",
        "other",
    ];
    let step = |(i, state): (usize, &'static str)| StepFace {
        time: at(i as i64),
        state,
        method: METHODS[i % METHODS.len()],
    };
    let erased = |part: &Part| ErasedFace {
        part: part.as_str(),
        reason: match part {
            Part::Network => "retention",
            _ => "request",
        },
    };
    let event = |(i, kind): (usize, EventKind)| EventFace {
        seq: (i > 0).then_some(i as u64),
        time: at(i as i64),
        kind: event_key(kind),
        how: (i > 0).then(|| HOWS.get(i - 1).copied().unwrap_or("other")),
        hash: Hash::of(kind.as_str().as_bytes()),
        proven: i % 2 == 0,
        network: (i == 1).then(|| "198.51.100.7, Mozilla/5.0".to_owned()),
        erased: PARTS.get(i).into_iter().map(erased).collect(),
    };
    let bare = bare();
    RecordFace {
        email: Some("anna@example.org".to_owned()),
        state: "withdrawn",
        basis: "consent",
        language: "en",
        frequency: weekly().frequency,
        reported: Some("Yes, mail me".to_owned()),
        act: "checkbox",
        source: Some("https://acme.example/news".to_owned()),
        challenge: Some("passed".to_owned()),
        steps: STATES.into_iter().enumerate().map(step).collect(),
        mails: vec![MailFace {
            subject: "Still to confirm: Weekly news".to_owned(),
            at: at(60),
            headers: vec![HeaderFace {
                name: "From",
                value: "Acme <confirm@acme.example>".to_owned(),
            }],
            text: "Continue to confirm\nThe link works for 7 days.".to_owned(),
            sha256: Hash::of(b"sent"),
            masked_sha256: Hash::of(b"shown"),
            answer: Some("250 2.0.0".to_owned()),
        }],
        events: EventKind::ALL.into_iter().enumerate().map(event).collect(),
        checkpoint: Some("lists.acme.example\n4\n".to_owned()),
        stamped: true,
        ..bare
    }
}
