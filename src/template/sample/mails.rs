//! Mails.

use minijinja::value::{Serde, Value};

use super::{at, long_sender, mask, offers, report, sender, url, weekly};
use crate::domain::delivery::MessageKind;
use crate::domain::list::ConfirmBy;
use crate::template::face::ListFace;
use crate::template::mail::{
    AlreadySubscribed, Confirmation, Goodbye, JoinedList, LeftList, MailContext, Welcome,
};

/// One mail with what it is given and what it must show.
pub(in crate::template) struct MailSample {
    pub name: &'static str,
    pub context: Value,
    pub required: Vec<String>,
    /// The same with its tokens masked.
    pub masked: Value,
}

fn mail<C: MailContext>(name: &'static str, mail: C) -> MailSample {
    // Contexts hold texts and numbers, which always can be written.
    let text = serde_json::to_string(&mail).unwrap_or_default();
    let masked: Option<serde_json::Value> = serde_json::from_str(&mask(&text)).ok();
    MailSample {
        name,
        required: mail.required().into_iter().map(str::to_owned).collect(),
        masked: Value::from(Serde(masked)),
        context: Value::from(Serde(mail)),
    }
}

fn joined(list: ListFace) -> JoinedList {
    JoinedList {
        list,
        unsubscribe_url: url("u"),
    }
}

/// Returns the samples of one kind of mail.
pub(in crate::template) fn mails(kind: MessageKind) -> Vec<MailSample> {
    let site = Some("acme.example".to_owned());
    match kind {
        MessageKind::Confirmation => {
            let one = Confirmation {
                sender: sender(),
                lists: vec![weekly()],
                asked_at: at(0),
                again_at: None,
                site,
                expires: at(7 * 86_400),
                life: 7 * 86_400,
                confirm: ConfirmBy::Button,
                confirm_url: url("c"),
                decline_url: url("d"),
            };
            let many = Confirmation {
                sender: long_sender(),
                lists: vec![weekly(), offers(), report()],
                again_at: Some(at(600)),
                site: None,
                life: 90 * 60,
                ..one.clone()
            };
            let link = Confirmation {
                confirm: ConfirmBy::Link,
                life: 36 * 3600,
                ..one.clone()
            };
            vec![mail("one", one), mail("many", many), mail("link", link)]
        }
        MessageKind::AlreadySubscribed => {
            let one = AlreadySubscribed {
                sender: sender(),
                lists: vec![joined(weekly())],
                asked_at: at(0),
                again_at: None,
                site,
            };
            let many = AlreadySubscribed {
                sender: long_sender(),
                lists: vec![joined(weekly()), joined(report())],
                site: None,
                ..one.clone()
            };
            vec![mail("one", one), mail("many", many)]
        }
        MessageKind::Welcome => {
            let one = Welcome {
                sender: sender(),
                lists: vec![joined(weekly())],
                confirmed_at: at(0),
            };
            let many = Welcome {
                sender: long_sender(),
                lists: vec![joined(offers()), joined(report())],
                ..one.clone()
            };
            vec![mail("one", one), mail("many", many)]
        }
        MessageKind::Goodbye => {
            let left = |signup_url: Option<&str>| LeftList {
                title: "Weekly news".to_owned(),
                signup_url: signup_url.map(str::to_owned),
            };
            let one = Goodbye {
                sender: sender(),
                lists: vec![left(Some("https://acme.example/news"))],
                left_at: at(0),
            };
            let plain = Goodbye {
                sender: long_sender(),
                lists: vec![left(None)],
                ..one.clone()
            };
            vec![mail("one", one), mail("no signup page", plain)]
        }
    }
}
