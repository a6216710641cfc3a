//! Whether the facts of a record tell one story: the signup asked, this mail went out, this request answered it.

use std::collections::BTreeMap;

use super::document::Sources;
use super::mail::reproduce;
use super::opened::{Given, Mail, Opened, Request, Wording};
use crate::domain::consent::Hash;
use crate::domain::delivery::MessageKind;
use crate::domain::event::EventKind;
use crate::domain::evidence::Part;
use crate::domain::list::{Facts, ListId, vouched_site};
use crate::domain::time::Timestamp;

/// What facts are compared with.
pub struct Story<'s> {
    /// The list.
    pub list: &'s ListId,
    /// The events, oldest first.
    pub events: &'s [&'s Opened],
    /// What lists said, by hash.
    pub facts: &'s BTreeMap<Hash, Facts>,
    /// The same and templates, as texts.
    pub sources: &'s Sources,
}

impl Story<'_> {
    /// Checks what facts say of each other.
    ///
    /// # Errors
    /// The first event whose facts do not fit, and why.
    pub fn check(&self) -> Result<(), String> {
        let named = |event: &Opened, why| format!("{}: {why}", event.name());
        let mut events = self.events.iter();
        events.try_for_each(|event| self.event(event).map_err(|why| named(event, why)))
    }

    /// Makes every mail again; returns how many.
    ///
    /// # Errors
    /// The first event whose mail is not the one that was sent.
    pub fn mails(&self) -> Result<usize, String> {
        let mut made = 0;
        for event in self.events {
            let Some(Mail { mail, .. }) = event.says(Part::Mail) else {
                continue;
            };
            let name = event.name();
            let again = reproduce(&mail, self.sources).map_err(|why| format!("{name}: {why}"))?;
            if Hash::of(&again.bytes) != mail.masked_sha256 {
                return Err(format!(
                    "{name}: the mail made again is not the one that was sent"
                ));
            }
            made += 1;
        }
        Ok(made)
    }

    fn event(&self, event: &Opened) -> Result<(), String> {
        readable(event)?;
        let asked = self.events.iter().copied().find(|one| {
            one.leaf.kind == EventKind::SignupAccepted && one.leaf.signup == event.leaf.signup
        });
        let asked = asked.filter(|_| event.leaf.signup.is_some());
        if let Some(wording) = event.says(Part::Wording) {
            self.words(&wording)?;
        }
        if event.leaf.kind == EventKind::SignupAccepted {
            self.made_again(event)?;
        }
        if event.leaf.kind.is_confirm() {
            let asked = asked.ok_or("the signup that it confirms is missing")?;
            self.confirmed(event, asked)?;
        }
        self.mailed(event, asked)
    }

    /// A signup that was made again from an earlier one has its time.
    fn made_again(&self, event: &Opened) -> Result<(), String> {
        let Some(form) = event.says::<serde_json::Value>(Part::Form) else {
            return Ok(());
        };
        let Some(first) = first_at(&form) else {
            return Ok(());
        };
        let earlier = self.events.iter().find(|one| {
            let signup = one.leaf.signup.map(|id| id.to_string());
            one.leaf.kind == EventKind::SignupAccepted
                && signup.as_deref() == form["again_of"].as_str()
        });
        let earlier = earlier.ok_or("the signup that it was made from is missing")?;
        let said = earlier.says::<serde_json::Value>(Part::Form);
        let said = said.map(|said| first_at(&said).unwrap_or(earlier.leaf.time));
        match said {
            Some(said) if said != first => {
                Err("it names another time than the signup that it was made from".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The words are those of the lists at the signup.
    fn words(&self, wording: &Wording) -> Result<(), String> {
        for words in &wording.lists {
            let said = self.facts.get(&words.facts);
            let said = said.filter(|facts| facts.list.id == words.list);
            let said = said.and_then(|facts| facts.list.words_in(&wording.locale));
            if said.map(|said| Hash::of(said.as_bytes())) != Some(words.text_sha256) {
                return Err(format!(
                    "the words are not those of list {} then",
                    words.list
                ));
            }
        }
        Ok(())
    }

    /// The request confirmed this signup, after a mail that asked.
    fn confirmed(&self, event: &Opened, asked: &Opened) -> Result<(), String> {
        let asks = |one: &&Opened| {
            let kind = one.leaf.kind;
            // A copy whose fate was not known was perhaps the one; then no other follows.
            let perhaps = one.leaf.evidence.contains_key(&Part::Mail);
            (perhaps || matches!(kind, EventKind::MessageSent | EventKind::MessageUnknown))
                && one.leaf.signup == event.leaf.signup
                && one.data("kind") == Some(MessageKind::Confirmation.as_str())
        };
        if !self.events.iter().copied().any(|one| asks(&one)) {
            return Err("the mail that asked for it is missing".to_owned());
        }
        let Some(request) = event.says::<Request>(Part::Request) else {
            return Ok(());
        };
        if Some(request.signup) != event.leaf.signup {
            return Err("evidence \"request\" is about another signup".to_owned());
        }
        match self.said(asked) {
            Some(said) if said != request.facts => {
                Err("evidence \"request\" names other facts than the signup".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The mail went to who signed up, about what they signed up for, in their language.
    fn mailed(&self, event: &Opened, asked: Option<&Opened>) -> Result<(), String> {
        let Some(Mail { mail, .. }) = event.says(Part::Mail) else {
            return Ok(());
        };
        let message = event.leaf.message.map(|id| format!("{id}@"));
        let is_this = message.is_some_and(|id| mail.pinned.message_id.starts_with(&id));
        if !is_this || event.data("kind") != Some(mail.kind.as_str()) {
            return Err("evidence \"mail\" is about another mail".to_owned());
        }
        let Some(asked) = asked else { return Ok(()) };
        let given: Option<Given> = asked.says(Part::Address);
        if given.is_some_and(|given| given.email != mail.to) {
            return Err("the mail went to another address than signed up".to_owned());
        }
        let wording: Option<Wording> = asked.says(Part::Wording);
        if wording.is_some_and(|wording| wording.locale != mail.locale) {
            return Err("the mail is in another language than the signup".to_owned());
        }
        if !matches!(
            mail.kind,
            MessageKind::Confirmation | MessageKind::AlreadySubscribed
        ) {
            return Ok(());
        }
        let said = self.said(asked);
        if said.is_some_and(|said| {
            mail.kind == MessageKind::Confirmation && !mail.facts.contains(&said)
        }) {
            return Err(format!(
                "the mail does not ask for list {} as it was then",
                self.list
            ));
        }
        let form: Option<serde_json::Value> = asked.says(Part::Form);
        let first = match &form {
            Some(form) => first_at(form),
            // Nothing else says when; that it was made again, the mail does.
            None => mail.again_at.map(|_| mail.asked_at),
        };
        let again = first.map(|_| asked.leaf.time);
        if (mail.asked_at, mail.again_at) != (first.unwrap_or(asked.leaf.time), again) {
            return Err("the mail names another time than the signup has".to_owned());
        }
        let source = form.as_ref().and_then(|form| form.get("source")?.as_str());
        let lists = mail.facts.iter().filter_map(|hash| self.facts.get(hash));
        let site = source.and_then(|source| vouched_site(source, lists.map(|facts| &facts.list)));
        match source {
            Some(_) if site != mail.site => {
                Err("the mail names another site than the form has".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Returns what the list said at a signup.
    fn said(&self, asked: &Opened) -> Option<Hash> {
        let wording: Wording = asked.says(Part::Wording)?;
        let words = wording
            .lists
            .into_iter()
            .find(|words| words.list == *self.list);
        words.map(|words| words.facts)
    }
}

/// When the signup came whose facts a form repeats, where it does.
fn first_at(form: &serde_json::Value) -> Option<Timestamp> {
    Timestamp::parse(form.get("first_at")?.as_str()?).ok()
}

/// A part that is there must be readable, or the checks would pass it by.
fn readable(event: &Opened) -> Result<(), String> {
    for part in event.parts.keys() {
        let reads = match part {
            Part::Address => event.says::<Given>(*part).is_some(),
            Part::Wording => event.says::<Wording>(*part).is_some(),
            Part::Mail => event.says::<Mail>(*part).is_some(),
            Part::Request => event.says::<Request>(*part).is_some(),
            Part::Form | Part::Network => event.says::<serde_json::Value>(*part).is_some(),
        };
        if !reads {
            return Err(format!("evidence \"{}\" cannot be read", part.as_str()));
        }
    }
    Ok(())
}
