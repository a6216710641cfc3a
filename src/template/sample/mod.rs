//! Made-up contexts that reach every branch of every template: rendered at load, in previews and in tests.

mod mails;
mod pages;
mod receipts;
mod record;

pub(super) use self::mails::{MailSample, mails};
pub(super) use self::pages::pages;

use super::face::{ListFace, SenderFace};
use crate::domain::frequency::{Frequency, Unit};
use crate::domain::list::Authority;
use crate::domain::locale::Locale;
use crate::domain::time::Timestamp;

const TOKEN: &str = "AUw3Zr1kTzJq0yVb5sXh8Qm2Ng6Pf4Ld7Rc9";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_795_424_700 + seconds)
}

/// Replaces every token by `*` of the same length.
pub(super) fn mask(text: &str) -> String {
    text.replace(TOKEN, &"*".repeat(TOKEN.len()))
}

fn url(path: &str) -> String {
    format!("https://lists.acme.example/{path}/{TOKEN}")
}

fn sender() -> SenderFace {
    SenderFace {
        name: "Acme B.V.".to_owned(),
        address: "Keizersgracht 1, 1015 CN Amsterdam, NL".to_owned(),
        contact: "privacy@acme.example".to_owned(),
        contact_url: Some("mailto:privacy@acme.example".to_owned()),
        privacy_url: "https://acme.example/privacy".to_owned(),
        authority: Authority {
            name: "Autoriteit Persoonsgegevens".to_owned(),
            url: "https://autoriteitpersoonsgegevens.nl".to_owned(),
        },
        imprint: Vec::new(),
        dpo: None,
        time_zone: "Europe/Amsterdam".to_owned(),
    }
}

fn long_sender() -> SenderFace {
    SenderFace {
        contact: "+31 20 555 01 00".to_owned(),
        contact_url: None,
        imprint: vec![
            "KvK 12345678".to_owned(),
            "Directors: A. Jansen, B. de Vries".to_owned(),
        ],
        dpo: Some("dpo@acme.example".to_owned()),
        ..sender()
    }
}

fn list(id: &str, title: &str, words: &str, frequency: Option<(u32, Unit)>) -> ListFace {
    ListFace {
        id: id.to_owned(),
        title: title.to_owned(),
        words: words.to_owned(),
        lang: Locale::english(),
        frequency: frequency.map(|(count, unit)| Frequency { count, unit }),
    }
}

fn weekly() -> ListFace {
    let words = "Yes, mail me the weekly news of Acme B.V.";
    list("weekly", "Weekly news", words, Some((1, Unit::Week)))
}

fn offers() -> ListFace {
    let words = "Yes, mail me offers of Acme B.V.";
    list("offers", "Offers", words, Some((80, Unit::Day)))
}

fn report() -> ListFace {
    let words = "Yes, mail me the yearly report of Acme B.V. when it appears";
    list("report", "Yearly report", words, None)
}
