//! Reads one table of settings key by key, and remembers what is wrong with each.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use config::{Value, ValueKind};
use secrecy::SecretString;

use super::Problem;
use super::source::{ENVIRONMENT, variable};

/// Why one value cannot be used; the table adds key and source.
#[derive(Debug)]
pub(super) struct Fault {
    /// What follows the key, as in `[1]`.
    pub at: String,
    pub problem: String,
    pub remedy: String,
}

/// Builds a fault of the value itself.
pub(super) fn fault(problem: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault {
        at: String::new(),
        problem: problem.into(),
        remedy: remedy.into(),
    }
}

pub(super) type Read<T> = Result<T, Fault>;

/// What all tables of one configuration share.
#[derive(Default)]
pub(super) struct Notes {
    pub problems: RefCell<Vec<Problem>>,
    /// Every key that was asked for.
    #[cfg(test)]
    pub asked: RefCell<std::collections::BTreeSet<String>>,
    /// The name of the file, as it was given.
    pub file: String,
    /// The folder of `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<PathBuf>,
}

impl Notes {
    /// Says where a value, or the first one inside it, was written; the built-in defaults have no origin.
    fn place(&self, value: &Value, key: &str) -> String {
        match (&value.kind, value.origin()) {
            (ValueKind::Table(inner), _) => {
                let first = inner.iter().min_by_key(|(key, _)| *key);
                first.map_or_else(String::new, |(inner, value)| {
                    self.place(value, &format!("{key}.{inner}"))
                })
            }
            (_, None) => String::new(),
            (_, Some(ENVIRONMENT)) => format!(" (from {})", variable(key)),
            (_, Some(_)) => format!(" (in {})", self.file),
        }
    }

    pub fn add(&self, key: impl Into<String>, problem: String, remedy: String) {
        let key = key.into();
        self.problems.borrow_mut().push(Problem {
            key,
            problem,
            remedy,
        });
    }
}

/// One table of the merged settings. Keys are asked for one by one; [`Table::finish`] refuses those that are left.
pub(super) struct Table<'n> {
    path: String,
    values: BTreeMap<String, Value>,
    known: Vec<String>,
    notes: &'n Notes,
}

impl<'n> Table<'n> {
    /// Opens the table at a path; a value of another kind is a problem, and the table is empty.
    pub fn open(notes: &'n Notes, path: impl Into<String>, value: Option<Value>) -> Self {
        let path = path.into();
        let values = match value.as_ref().map(|value| &value.kind) {
            None | Some(ValueKind::Nil) => BTreeMap::new(),
            Some(ValueKind::Table(values)) => values.clone().into_iter().collect(),
            Some(kind) => {
                let place = value.as_ref().map(|value| notes.place(value, &path));
                let problem = format!("is {}{}", name(kind), place.unwrap_or_default());
                notes.add(&path, problem, format!("write it as a section [{path}]"));
                BTreeMap::new()
            }
        };
        Self {
            path,
            values,
            known: Vec::new(),
            notes,
        }
    }

    /// Returns the full path of a key.
    pub fn key(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// Tells whether a key of this table is written.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Returns the names written in a table of free names, in order.
    pub fn names(&self) -> Vec<String> {
        self.values.keys().cloned().collect()
    }

    /// Opens a table inside this one.
    pub fn table(&mut self, key: &str) -> Table<'n> {
        let value = self.take(key);
        Table::open(self.notes, self.key(key), value)
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.known.push(key.to_owned());
        #[cfg(test)]
        self.notes.asked.borrow_mut().insert(self.key(key));
        self.values.remove(key)
    }

    /// Reads a key that may be missing. None also when it cannot be used; that is a problem then.
    pub fn get<T>(&mut self, key: &str, read: impl FnOnce(&Value) -> Read<T>) -> Option<T> {
        let value = self.take(key)?;
        match read(&value) {
            Ok(value) => Some(value),
            Err(fault) => {
                let key = self.key(key);
                let place = match (&value.kind, fault.at.strip_prefix('.')) {
                    (ValueKind::Table(parts), Some(name)) if parts.contains_key(name) => {
                        let key = format!("{key}{}", fault.at);
                        self.notes.place(&parts[name], &key)
                    }
                    _ => self.notes.place(&value, &key),
                };
                let problem = format!("{}{place}", fault.problem);
                self.notes
                    .add(format!("{key}{}", fault.at), problem, fault.remedy);
                None
            }
        }
    }

    /// Reads a key that has no default and must be written.
    pub fn required<T>(
        &mut self,
        key: &str,
        example: &str,
        read: impl FnOnce(&Value) -> Read<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.fault(key, "is missing", &format!("write it as {example}"));
        }
        self.get(key, read)
    }

    /// Reads a secret: as written, or from the credential file that bears the key's full name.
    pub fn secret(&mut self, key: &str) -> Option<SecretString> {
        if let Some(file) = self.notes.credentials.as_deref().filter(|_| !self.has(key)) {
            let file = file.join(self.key(key));
            if file.exists() {
                self.take(key);
                return match std::fs::read_to_string(&file) {
                    Ok(text) => Some(one_line(text).into()),
                    Err(err) => {
                        let problem =
                            format!("credential {} cannot be read: {err}", file.display());
                        self.fault(key, &problem, "let the user of this process read it");
                        None
                    }
                };
            }
        }
        self.get(key, super::kinds::text).map(SecretString::from)
    }

    /// Notes a problem of a key that concerns more than its own value.
    pub fn fault(&self, key: &str, problem: &str, remedy: &str) {
        self.notes
            .add(self.key(key), problem.to_owned(), remedy.to_owned());
    }

    /// Notes a problem of the table itself.
    pub fn fault_here(&self, problem: &str, remedy: &str) {
        self.notes
            .add(&self.path, problem.to_owned(), remedy.to_owned());
    }

    /// Refuses the keys that nobody asked for.
    pub fn finish(self) {
        for (key, value) in &self.values {
            let path = self.key(key);
            let what = match self.path.as_str() {
                "" => "is no section",
                _ => "is no setting",
            };
            let remedy = match closest(key, &self.known) {
                Some(known) => format!("did you mean \"{known}\"?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let problem = format!("{what}{}", self.notes.place(value, &path));
            self.notes.add(&path, problem, remedy);
        }
    }
}

/// Names what was found where something else was expected.
pub(super) fn name(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => "a text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
        _ => "a whole number",
    }
}

/// Drops the one newline that editors and `echo` leave at the end of a file.
pub(super) fn one_line(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Returns the name that was probably meant.
pub(super) fn closest<'k>(written: &str, known: &'k [String]) -> Option<&'k str> {
    known
        .iter()
        .map(|name| (distance(written, name), name.as_str()))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

/// Counts the letters to add, drop or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
