//! Copies: what an event's row says beside its leaf is what the leaf says.

use std::fmt::Display;

use super::report::{At, Check, Report};
use crate::domain::list::{ListId, SenderId};
use crate::store::audit::EventRow;
use crate::trail::leaf::{InvalidLeaf, Leaf};

/// Compares the columns of a row with its leaf.
pub(super) fn compare(row: &EventRow, leaf: &Result<Leaf, InvalidLeaf>, report: &mut Report) {
    let at = At::row(row);
    let leaf = match leaf {
        Ok(leaf) => leaf,
        Err(error) => return report.add(Check::Copies, at, format!("its bytes are {error}")),
    };
    let mut column = Column { at, report };
    column.is("id", Some(row.id), Some(leaf.id.0));
    column.is("type", Some(row.kind.as_str()), Some(leaf.kind.as_str()));
    column.is("time", Some(row.time), Some(leaf.time));
    let sender = leaf.sender.as_ref().map(SenderId::as_str);
    column.is("sender", row.sender.as_deref(), sender);
    let list = leaf.list.as_ref().map(ListId::as_str);
    column.is("list", row.list.as_deref(), list);
    column.is("subscriber", row.subscriber, leaf.subscriber.map(|id| id.0));
    column.is("signup", row.signup, leaf.signup.map(|id| id.0));
    column.is("message", row.message, leaf.message.map(|id| id.0));
}

struct Column<'r> {
    at: At,
    report: &'r mut Report,
}

impl Column<'_> {
    fn is<T: PartialEq + Display>(&mut self, name: &str, found: Option<T>, said: Option<T>) {
        if found != said {
            let show = |value: Option<T>| value.map_or("nothing".to_owned(), |v| v.to_string());
            let (found, said) = (show(found), show(said));
            let what = format!("its column {name} says {found}, and the event itself {said}");
            self.report.add(Check::Copies, self.at, what);
        }
    }
}
