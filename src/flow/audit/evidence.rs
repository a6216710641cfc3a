//! Evidence: each part is the one that its event committed to, or an event says that it was erased.

use std::collections::{BTreeMap, BTreeSet};

use super::page::Page;
use super::report::{At, Check, Report};
use crate::domain::event::EventKind;
use crate::domain::evidence::Part;
use crate::domain::id::{EventId, SubscriberId};
use crate::store::audit::EventRow;
use crate::trail::leaf::Leaf;

/// Names whom parts lack, for whatever reason.
pub(super) fn lacking(page: &Page) -> BTreeSet<SubscriberId> {
    let kept = page.evidence.iter();
    let kept: BTreeSet<_> = kept.map(|k| (k.event, k.evidence.part)).collect();
    let leaves = page.rows.iter().filter_map(|(_, leaf)| leaf.as_ref().ok());
    leaves
        .filter(|leaf| {
            leaf.evidence
                .keys()
                .any(|part| !kept.contains(&(leaf.id, *part)))
        })
        .filter_map(|leaf| leaf.subscriber)
        .collect()
}

/// Compares the commitments of a page with what is kept.
pub(super) fn compare(page: &Page, report: &mut Report) {
    let mut kept: BTreeMap<EventId, BTreeMap<Part, _>> = BTreeMap::new();
    for part in &page.evidence {
        let behind = kept.entry(part.event).or_default();
        behind.insert(part.evidence.part, part);
    }
    for (row, leaf) in &page.rows {
        let Ok(leaf) = leaf else { continue };
        let mut behind = kept.remove(&leaf.id).unwrap_or_default();
        let mut wrong = |part: Part, what: &str| {
            let what = format!("its evidence \"{}\" {what}", part.as_str());
            report.add(Check::Evidence, At::row(row), what);
        };
        for (part, commitment) in &leaf.evidence {
            match behind.remove(part) {
                Some(found) if found.evidence.commitment() != *commitment => {
                    wrong(*part, "is not what it committed to");
                }
                Some(found) if Some(found.subscriber) != leaf.subscriber => {
                    wrong(*part, "is filed under another subscriber");
                }
                Some(_) => {}
                None if is_erased(page, row, leaf, *part) => {}
                None => wrong(*part, "is gone, and no event says that it was erased"),
            }
        }
        for part in behind.into_keys() {
            wrong(part, "was put there: it committed to none");
        }
    }
}

fn is_erased(page: &Page, row: &EventRow, leaf: &Leaf, part: Part) -> bool {
    let text = |leaf: &Leaf, name: &str| {
        leaf.data
            .get(name)
            .and_then(|v| v.as_str().map(str::to_owned))
    };
    page.erasures.iter().any(|(ord, by)| match by.kind {
        EventKind::EvidenceErased => {
            text(by, "event") == Some(leaf.id.to_string())
                && text(by, "part").as_deref() == Some(part.as_str())
        }
        EventKind::SubscriberErased => {
            by.subscriber == leaf.subscriber
                && *ord > row.ord
                && by.data.get("destroyed_proof").and_then(|v| v.as_bool()) == Some(true)
        }
        _ => false,
    })
}
