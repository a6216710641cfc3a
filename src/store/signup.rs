//! Signups and their lists.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::address::{ledgers, reading_of_signups};
use super::set::{Rows, Set};
use super::subscriber::Subscription;
use super::types::{document, hash, keyed, named, parsed};
use super::{Error, Tx};
use crate::domain::consent::{Consent, Hash};
use crate::domain::id::{SignupId, SubscriberId};
use crate::domain::ledger::Ledger;
use crate::domain::list::{ListId, SenderId};
use crate::domain::locale::Locale;
use crate::domain::pepper::Keyed;
use crate::domain::signup::{Decline, ListState, SignupState, Standing};
use crate::domain::subscription::State;
use crate::domain::time::Timestamp;

/// One request by one address for one or more lists.
#[derive(Clone, Debug)]
pub struct Signup {
    /// Its id; what confirm and decline links carry.
    pub id: SignupId,
    /// At which sender.
    pub sender: SenderId,
    /// Whose it is.
    pub subscriber: SubscriberId,
    /// The mailbox, for locks and limits.
    pub mailbox: Keyed,
    /// The address as given.
    pub email: String,
    /// The language of mail, pages and words.
    pub locale: Locale,
    /// Its state.
    pub state: SignupState,
    /// When it came.
    pub created_at: Timestamp,
    /// When its link ends.
    pub expires_at: Option<Timestamp>,
    /// When the last of its lists ended.
    pub ended_at: Option<Timestamp>,
    /// The facts of the first opt-in.
    pub consent: Consent,
    /// The backend's own reference.
    pub reference: Option<String>,
    /// What the backend wants to know again.
    pub attributes: Option<Value>,
    /// Where the result page may lead.
    pub redirect: Option<String>,
    /// The expired signup whose page asked for this one.
    pub again_of: Option<SignupId>,
}

/// One list of a signup.
#[derive(Clone, Debug)]
pub struct SignupList {
    /// Of which signup.
    pub signup: SignupId,
    /// Which list.
    pub list: ListId,
    /// Its state.
    pub state: ListState,
    /// How it was declined.
    pub reason: Option<Decline>,
    /// The subscription's counter when the signup came.
    pub counter: i64,
    /// What the list said then.
    pub facts: Hash,
    /// When it ended.
    pub decided_at: Option<Timestamp>,
}

type SignupRow = (
    Uuid,
    String,
    Uuid,
    Vec<u8>,
    String,
    String,
    String,
    Timestamp,
    Option<Timestamp>,
    Option<Timestamp>,
    Json<Consent>,
    Option<String>,
    Option<Value>,
    Option<String>,
    Option<Uuid>,
);

impl Signup {
    fn read(row: SignupRow) -> Result<Self, Error> {
        Ok(Self {
            id: SignupId(row.0),
            sender: parsed(&row.1)?,
            subscriber: SubscriberId(row.2),
            mailbox: keyed(row.3)?,
            email: row.4,
            locale: parsed(&row.5)?,
            state: named(&row.6, SignupState::from_name)?,
            created_at: row.7,
            expires_at: row.8,
            ended_at: row.9,
            consent: row.10.0,
            reference: row.11,
            attributes: row.12,
            redirect: row.13,
            again_of: row.14.map(SignupId),
        })
    }
}

type ListRow = (
    Uuid,
    String,
    String,
    Option<String>,
    i64,
    Vec<u8>,
    Option<Timestamp>,
);

impl SignupList {
    fn read(row: ListRow) -> Result<Self, Error> {
        let reason = row.3.map(|reason| named(&reason, Decline::from_name));
        Ok(Self {
            signup: SignupId(row.0),
            list: parsed(&row.1)?,
            state: named(&row.2, ListState::from_name)?,
            reason: reason.transpose()?,
            counter: row.4,
            facts: hash(row.5)?,
            decided_at: row.6,
        })
    }
}

const SIGNUPS: &str = "select id, sender, subscriber, mailbox, email, locale, state, created_at, expires_at, ended_at,
      consent, ref, attributes, redirect, again_of
    from signup where id in (select s.id from {set})";
const LISTS: &str = "select signup, list, state, reason, counter, facts, decided_at
    from signup_list where signup in (select s.id from {set}) order by signup, list";
const SUBSCRIPTIONS: &str =
    "select id, subscriber, list, state, basis, since, counter, signup, revision, locale,
      restricted_at
    from subscription where subscriber in
      (select signup.subscriber from {set} join signup on signup.id = s.id)";

fn set_of(ids: &[SignupId]) -> Set {
    Set::new().uuid("id", ids.iter().map(|id| id.0))
}

/// What asking about one list of a signup rests on.
pub struct Asked {
    /// The list.
    pub list: ListId,
    /// How it stands, but for what a change of words makes of it.
    pub standing: Standing,
    /// The revision that the subscription rests on.
    pub revision: Option<i64>,
    /// What is remembered of the mailbox.
    pub ledger: Ledger,
}

type AskedRow = (
    Uuid,
    String,
    String,
    Option<Timestamp>,
    i64,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<Json<Ledger>>,
);

impl Asked {
    fn read(row: AskedRow) -> Result<Self, Error> {
        let state = row.6.map(|state| named(&state, State::from_name));
        Ok(Self {
            list: parsed(&row.1)?,
            standing: Standing {
                list: named(&row.2, ListState::from_name)?,
                expires: row.3,
                counter_then: row.4,
                counter_now: row.5.unwrap_or(0),
                subscription: state.transpose()?,
                renews: false,
            },
            revision: row.7,
            ledger: row.8.map_or_else(Ledger::default, |ledger| ledger.0),
        })
    }
}

/// Signups with what belongs to them.
pub struct WithAll {
    /// The signups themselves.
    pub signups: Vec<Signup>,
    /// Their lists, by signup and name.
    pub lists: Vec<SignupList>,
    /// All subscriptions of their subscribers.
    pub subscriptions: Vec<Subscription>,
}

/// Returns the statements that read them, for [`Tx::ask`].
pub(super) fn with_all(ids: &[SignupId]) -> [(&'static str, Set); 3] {
    [SIGNUPS, LISTS, SUBSCRIPTIONS].map(|sql| (sql, set_of(ids)))
}

impl WithAll {
    pub(super) fn read([signups, lists, subscriptions]: [Rows; 3]) -> Result<Self, Error> {
        let signups = signups.read()?.into_iter().map(Signup::read);
        let lists = lists.read()?.into_iter().map(SignupList::read);
        let subscriptions = subscriptions.read()?.into_iter().map(Subscription::read);
        Ok(Self {
            signups: signups.collect::<Result<_, _>>()?,
            lists: lists.collect::<Result<_, _>>()?,
            subscriptions: subscriptions.collect::<Result<_, _>>()?,
        })
    }
}

impl Tx {
    /// Writes new signups.
    pub async fn add_signups(&mut self, rows: &[Signup]) -> Result<(), Error> {
        const SQL: &str =
            "insert into signup (id, sender, subscriber, mailbox, email, locale, state, created_at,
              consent, ref, attributes, redirect, again_of)
            select id, sender, subscriber, mailbox, email, locale, state, created_at,
              consent, ref, attributes, redirect, again_of from {set} order by n";
        let set = Set::new()
            .uuid("id", rows.iter().map(|s| s.id.0))
            .text("sender", rows.iter().map(|s| s.sender.to_string()))
            .uuid("subscriber", rows.iter().map(|s| s.subscriber.0))
            .bytes("mailbox", rows.iter().map(|s| s.mailbox.0.to_vec()))
            .text("email", rows.iter().map(|s| s.email.clone()))
            .text("locale", rows.iter().map(|s| s.locale.to_string()))
            .text("state", rows.iter().map(|s| s.state.as_str().to_owned()))
            .time("created_at", rows.iter().map(|s| s.created_at))
            .json("consent", rows.iter().map(|s| document(&s.consent)))
            .text("ref", rows.iter().map(|s| s.reference.clone()))
            .json(
                "attributes",
                rows.iter()
                    .map(|s| s.attributes.as_ref().and_then(document)),
            )
            .text("redirect", rows.iter().map(|s| s.redirect.clone()))
            .uuid("again_of", rows.iter().map(|s| s.again_of.map(|id| id.0)));
        self.write(SQL, set).await
    }

    /// Writes the lists of new signups, each with the counter that its subscription has now.
    pub async fn add_signup_lists(
        &mut self,
        rows: &[(SignupId, SubscriberId, ListId, Hash)],
    ) -> Result<(), Error> {
        const SQL: &str = "insert into signup_list (signup, list, state, counter, facts)
            select s.signup, s.list, 'open', coalesce(p.counter, 0), s.facts
            from {set} left join subscription p on p.subscriber = s.subscriber and p.list = s.list
            order by s.n";
        let set = Set::new()
            .uuid("signup", rows.iter().map(|r| r.0.0))
            .uuid("subscriber", rows.iter().map(|r| r.1.0))
            .text("list", rows.iter().map(|r| r.2.to_string()))
            .bytes("facts", rows.iter().map(|r| r.3.0.to_vec()));
        self.write(SQL, set).await
    }

    /// Returns signups by id.
    pub async fn signups(&mut self, ids: &[SignupId]) -> Result<Vec<Signup>, Error> {
        let rows: Vec<SignupRow> = self.rows(SIGNUPS, set_of(ids)).await?;
        rows.into_iter().map(Signup::read).collect()
    }

    /// Returns what belongs to signups.
    pub async fn signups_with_all(&mut self, ids: &[SignupId]) -> Result<WithAll, Error> {
        WithAll::read(self.ask(with_all(ids)).await?)
    }

    /// Returns what asking about the lists of signups rests on, by signup.
    pub async fn asked(
        &mut self,
        ids: &[SignupId],
    ) -> Result<BTreeMap<SignupId, Vec<Asked>>, Error> {
        const SQL: &str = "select signup.id, l.list, l.state, signup.expires_at, l.counter, n.counter, n.state, n.revision, a.ledger
            from {set} join signup on signup.id = s.id
            join signup_list l on l.signup = signup.id
            left join subscription n on n.subscriber = signup.subscriber and n.list = l.list
            left join address a on a.mailbox = signup.mailbox";
        let rows: Vec<AskedRow> = self.rows(SQL, set_of(ids)).await?;
        let mut asked: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in rows {
            let signup = SignupId(row.0);
            asked.entry(signup).or_default().push(Asked::read(row)?);
        }
        Ok(asked)
    }

    /// Locks the mailboxes of signups in the order of their keys, and returns their ledgers and what belongs to the signups.
    pub async fn lock_signups(
        &mut self,
        ids: &[SignupId],
    ) -> Result<(BTreeMap<Keyed, Ledger>, WithAll), Error> {
        self.hold_mailboxes_of_signups(ids).await?;
        let [signups, lists, subscriptions] = with_all(ids);
        let asked = [reading_of_signups(ids), signups, lists, subscriptions];
        let [locked, signups, lists, subscriptions] = self.ask(asked).await?;
        let all = WithAll::read([signups, lists, subscriptions])?;
        Ok((ledgers(&locked)?, all))
    }

    /// Returns the signups of a subscriber, oldest first.
    pub async fn signups_of(&mut self, id: SubscriberId) -> Result<Vec<Signup>, Error> {
        const SQL: &str = "select id, sender, subscriber, mailbox, email, locale, state, created_at, expires_at, ended_at,
              consent, ref, attributes, redirect, again_of
            from signup where subscriber in (select s.id from {set}) order by created_at, id";
        let set = Set::new().uuid("id", [id.0]);
        let rows: Vec<SignupRow> = self.rows(SQL, set).await?;
        rows.into_iter().map(Signup::read).collect()
    }

    /// Returns the lists of signups, by signup and name.
    pub async fn signup_lists(&mut self, ids: &[SignupId]) -> Result<Vec<SignupList>, Error> {
        let rows: Vec<ListRow> = self.rows(LISTS, set_of(ids)).await?;
        rows.into_iter().map(SignupList::read).collect()
    }

    /// Writes how lists of signups ended.
    pub async fn save_signup_lists(&mut self, rows: &[SignupList]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        const SQL: &str =
            "update signup_list set state = s.state, reason = s.reason, decided_at = s.decided_at
            from {set} where signup_list.signup = s.signup and signup_list.list = s.list";
        let set = Set::new()
            .uuid("signup", rows.iter().map(|r| r.signup.0))
            .text("list", rows.iter().map(|r| r.list.to_string()))
            .text("state", rows.iter().map(|r| r.state.as_str().to_owned()))
            .text(
                "reason",
                rows.iter().map(|r| r.reason.map(|d| d.as_str().to_owned())),
            )
            .time("decided_at", rows.iter().map(|r| r.decided_at));
        self.write(SQL, set).await
    }

    /// Writes state, link's end and end of signups.
    pub async fn save_signups(&mut self, rows: &[Signup]) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        const SQL: &str =
            "update signup set state = s.state, expires_at = s.expires_at, ended_at = s.ended_at
            from {set} where signup.id = s.id";
        let set = Set::new()
            .uuid("id", rows.iter().map(|s| s.id.0))
            .text("state", rows.iter().map(|s| s.state.as_str().to_owned()))
            .time("expires_at", rows.iter().map(|s| s.expires_at))
            .time("ended_at", rows.iter().map(|s| s.ended_at));
        self.write(SQL, set).await
    }

    /// Notes that the mails of signups were sent, or perhaps were.
    pub async fn mark_sent(&mut self, ids: &[SignupId]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        const SQL: &str = "update signup set state = s.state from {set} where signup.id = s.id";
        let sent = SignupState::Sent.as_str();
        let set = Set::new()
            .uuid("id", ids.iter().map(|id| id.0))
            .text("state", ids.iter().map(|_| sent.to_owned()));
        self.write(SQL, set).await
    }

    /// Returns signups whose links have ended and that have not, at most `limit`.
    pub async fn expired_signups(
        &mut self,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<SignupId>, Error> {
        const SQL: &str = "select id from signup
            where ended_at is null and expires_at is not null and expires_at <= $1
            order by expires_at limit $2";
        let rows: Vec<(Uuid,)> = super::on!(self, |conn| sqlx::query_as(SQL)
            .bind(now)
            .bind(limit)
            .fetch_all(conn)
            .await?);
        Ok(rows.into_iter().map(|(id,)| SignupId(id)).collect())
    }
}
