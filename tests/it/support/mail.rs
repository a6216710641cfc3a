//! Mails as a mail program sees them.

use std::collections::BTreeMap;

use super::out;

/// A mail that arrived.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Names in lower case; folded lines joined.
    pub headers: BTreeMap<String, String>,
    pub text: String,
    pub html: String,
    pub raw: String,
}

impl Mail {
    /// Reads a mail of two parts, and notes its links as secrets.
    pub fn read(bytes: &[u8]) -> Mail {
        let raw = String::from_utf8(bytes.to_vec()).expect("7 bit");
        let (head, body) = raw.split_once("\r\n\r\n").expect("headers end");
        let headers = headers(head);
        let boundary = headers["content-type"].split("boundary=").nth(1);
        let boundary = boundary.expect("a boundary").trim_matches('"');
        let delimiter = format!("--{boundary}");
        let mut parts = body.split(delimiter.as_str()).skip(1).map(part);
        let (text, html) = (parts.next(), parts.next());
        let mail = Mail {
            headers,
            text: text.expect("a text part"),
            html: html.expect("an HTML part"),
            raw,
        };
        for link in ["/c/", "/d/", "/u/", "/r/"] {
            links(&mail.text, link);
        }
        mail
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The confirm link.
    pub fn confirm(&self) -> String {
        links(&self.text, "/c/").pop().expect("a confirm link")
    }

    /// The "no" link.
    pub fn decline(&self) -> String {
        links(&self.text, "/d/").pop().expect("a decline link")
    }

    /// The link of List-Unsubscribe.
    pub fn list_unsubscribe(&self) -> String {
        let header = self.header("list-unsubscribe");
        header.trim_matches(['<', '>']).to_owned()
    }
}

/// Finds links of one kind, once each, and notes their tokens as secrets.
pub fn links(text: &str, kind: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(kind) {
        let begin = text[..at].rfind(|c: char| c.is_whitespace() || "\"'<>(".contains(c));
        let begin = begin.map_or(0, |at| at + 1);
        let token = &text[at + kind.len()..];
        let end = token.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        let token = &token[..end.unwrap_or(token.len())];
        let link = &text[begin..at + kind.len() + token.len()];
        if token.len() == 62 && !found.iter().any(|known| known == link) {
            out::secret(token);
            found.push(link.to_owned());
        }
    }
    found
}

fn headers(head: &str) -> BTreeMap<String, String> {
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let mut headers = BTreeMap::new();
    for line in unfolded.split("\r\n") {
        let (name, value) = line.split_once(':').expect("a header");
        let name = name.to_ascii_lowercase();
        assert!(
            headers.insert(name, value.trim().to_owned()).is_none(),
            "twice: {line}"
        );
    }
    headers
}

fn part(part: &str) -> String {
    let (head, body) = part.split_once("\r\n\r\n").unwrap_or_default();
    assert!(head.contains("quoted-printable"), "{head}");
    let body = body.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = body.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'=', [a, b, tail @ ..]) => {
                let digits = [*a, *b];
                let digits = std::str::from_utf8(&digits).expect("ASCII");
                bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
                rest = tail;
            }
            _ => bytes.push(first),
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}
