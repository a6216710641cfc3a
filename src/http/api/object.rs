//! JSON objects read member by member: everything that is wrong is said at once, each with its pointer.

use serde_json::{Map, Value};

use crate::http::problem::Fault;

/// One object of a body. Members that nobody asked for are faults.
pub struct Object<'f> {
    members: Map<String, Value>,
    pointer: String,
    faults: &'f mut Vec<Fault>,
}

impl<'f> Object<'f> {
    /// Opens the body itself.
    pub fn root(value: Value, faults: &'f mut Vec<Fault>) -> Self {
        Self::open(value, "#".to_owned(), faults)
    }

    fn open(value: Value, pointer: String, faults: &'f mut Vec<Fault>) -> Self {
        let members = match value {
            Value::Object(members) => members,
            _ => {
                faults.push(Fault {
                    detail: "must be an object".to_owned(),
                    pointer: pointer.clone(),
                });
                Map::new()
            }
        };
        Self {
            members,
            pointer,
            faults,
        }
    }

    /// Says that a member is wrong.
    pub fn fault(&mut self, name: &str, detail: impl Into<String>) {
        self.fault_at(&escape(name), detail);
    }

    /// Says that something below this object is wrong, by its pointer from here.
    pub fn fault_at(&mut self, path: &str, detail: impl Into<String>) {
        self.faults.push(Fault {
            detail: detail.into(),
            pointer: format!("{}/{path}", self.pointer),
        });
    }

    /// Takes a member that may be missing; `null` is missing.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text of at most `longest` bytes and without control characters.
    pub fn text(&mut self, name: &str, longest: usize) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => match check(&text, longest) {
                Ok(()) => Some(text),
                Err(detail) => {
                    self.fault(name, detail);
                    None
                }
            },
            _ => {
                self.fault(name, "must be a string");
                None
            }
        }
    }

    /// Takes a text and reads it.
    pub fn read<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        longest: usize,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name, longest)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(name, error.to_string());
                None
            }
        }
    }

    /// Says that a member is missing, unless something else is wrong with it.
    pub fn require<T>(&mut self, name: &str, value: Option<T>, what: &str) -> Option<T> {
        let pointer = format!("{}/{name}", self.pointer);
        // Where there is no object, its members need not be missed.
        let told =
            |fault: &Fault| fault.pointer == self.pointer || fault.pointer.starts_with(&pointer);
        let told = self.faults.iter().any(told);
        if value.is_none() && !told {
            self.fault(name, what);
        }
        value
    }

    /// Takes an object and reads it; a missing one is read as empty where it is required.
    pub fn object<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Object<'_>) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let pointer = format!("{}/{name}", self.pointer);
        let mut inner = Object::open(value, pointer, self.faults);
        let value = read(&mut inner);
        inner.finish();
        value
    }

    /// Says which members nobody asked for.
    pub fn finish(&mut self) {
        let rest: Vec<String> = self.members.keys().cloned().collect();
        for name in rest {
            self.fault(&name, "is not known here");
        }
    }
}

/// Writes the name of a member as a part of a JSON pointer in a URI fragment (RFC 6901, sections 3 and 6).
pub fn escape(name: &str) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            // RFC 3986: what a fragment may hold as it is.
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => escaped.push(char::from(byte)),
            _ if b"-._~!$&'()*+,;=:@".contains(&byte) => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// Checks a text that will be stored.
pub fn check(text: &str, longest: usize) -> Result<(), String> {
    if text.len() > longest {
        return Err(format!("is longer than {longest} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    Ok(())
}
