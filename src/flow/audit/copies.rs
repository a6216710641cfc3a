//! Copies: what an event's row says beside its leaf is what the leaf says.

use uuid::Uuid;

use super::report::{At, Check, Report};
use crate::store::audit::EventRow;
use crate::trail::leaf::{InvalidLeaf, Leaf};

/// Compares the columns of a row with its leaf.
pub(super) fn compare(row: &EventRow, leaf: &Result<Leaf, InvalidLeaf>, report: &mut Report) {
    let at = At::row(row);
    let leaf = match leaf {
        Ok(leaf) => leaf,
        Err(error) => return report.add(Check::Copies, at, format!("its bytes are {error}")),
    };
    let id = |id: Option<Uuid>| id.map(|id| id.to_string());
    let columns = [
        ("id", id(Some(row.id)), id(Some(leaf.id.0))),
        (
            "type",
            Some(row.kind.clone()),
            Some(leaf.kind.as_str().to_owned()),
        ),
        (
            "time",
            Some(row.time.to_string()),
            Some(leaf.time.to_string()),
        ),
        (
            "sender",
            row.sender.clone(),
            leaf.sender.as_ref().map(ToString::to_string),
        ),
        (
            "list",
            row.list.clone(),
            leaf.list.as_ref().map(ToString::to_string),
        ),
        (
            "subscriber",
            id(row.subscriber),
            id(leaf.subscriber.map(|id| id.0)),
        ),
        ("signup", id(row.signup), id(leaf.signup.map(|id| id.0))),
        ("message", id(row.message), id(leaf.message.map(|id| id.0))),
    ];
    for (name, column, said) in columns {
        if column != said {
            let show = |value: Option<String>| value.unwrap_or("nothing".to_owned());
            let what = format!(
                "its column {name} says {}, and the event itself {}",
                show(column),
                show(said)
            );
            report.add(Check::Copies, at, what);
        }
    }
}
