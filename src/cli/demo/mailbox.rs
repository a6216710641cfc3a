//! The demo's mailbox: a folder with one file a mail, numbered as they came.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use mail_parser::MessageParser;
use serde::Serialize;
use url::Url;

/// Mails that the folder holds at most; a demo needs a handful.
const MOST: u64 = 10_000;

/// The folder.
pub struct Mailbox {
    dir: PathBuf,
    /// The number of the newest mail.
    last: Mutex<u64>,
}

/// A mail as its reader sees it; what cannot be read is empty.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Mail {
    /// Its number.
    pub id: u64,
    /// The address in `To`.
    pub to: String,
    /// The subject, decoded.
    pub subject: String,
    /// The `Date`, RFC 3339; empty if there is none.
    pub date: String,
    /// The plain text, decoded.
    pub text: String,
    /// The HTML, decoded; empty if there is none.
    pub html: String,
    /// The headers as they came, unfolded.
    pub headers: BTreeMap<String, String>,
    /// The same, in their order and folded as they came.
    #[serde(skip)]
    pub raw_headers: String,
    /// The links of confirmd in it.
    pub links: Links,
}

/// Where the links of a mail lead, by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Links {
    /// The page that confirms.
    pub confirm: Option<String>,
    /// The page that declines.
    pub decline: Option<String>,
    /// The pages that unsubscribe, one a list.
    pub unsubscribe: Vec<String>,
}

impl Mailbox {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let last = numbers(dir)?.into_iter().max().unwrap_or(0);
        Ok(Self {
            dir: dir.to_owned(),
            last: Mutex::new(last),
        })
    }

    /// Writes a mail down. It is on stable storage when this returns.
    ///
    /// # Errors
    /// When the disk refuses, or the mailbox is full.
    pub async fn keep(&self, mail: Vec<u8>) -> io::Result<()> {
        let number = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if *last >= MOST {
                let full = "the mailbox is full: remove its folder to begin anew";
                return Err(io::Error::new(io::ErrorKind::StorageFull, full));
            }
            *last += 1;
            *last
        };
        let (dir, path) = (self.dir.clone(), self.path(number));
        blocking(move || {
            // A reader sees the whole file or none.
            let part = path.with_extension("part");
            let mut file = File::create(&part)?;
            file.write_all(&mail)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)?;
            File::open(&dir)?.sync_all()
        })
        .await
    }

    /// Returns the newest mails, newest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn newest(&self, limit: usize) -> io::Result<Vec<Mail>> {
        let dir = self.dir.clone();
        blocking(move || {
            let mut numbers = numbers(&dir)?;
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            numbers.truncate(limit);
            let read = |number| std::fs::read(path(&dir, number)).map(|mail| parse(number, &mail));
            numbers.into_iter().map(read).collect()
        })
        .await
    }

    /// Returns one mail, if it is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn mail(&self, number: u64) -> io::Result<Option<Mail>> {
        let path = self.path(number);
        blocking(move || match std::fs::read(path) {
            Ok(mail) => Ok(Some(parse(number, &mail))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    fn path(&self, number: u64) -> PathBuf {
        path(&self.dir, number)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.eml"))
}

fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".eml"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    Ok(numbers)
}

fn parse(id: u64, mail: &[u8]) -> Mail {
    let Some(message) = MessageParser::default().parse(mail) else {
        return Mail {
            id,
            ..Mail::default()
        };
    };
    let to = message.to().and_then(|to| to.first());
    let headers = || message.headers_raw();
    let unfold = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = message.body_text(0).unwrap_or_default().into_owned();
    let html = message.body_html(0).unwrap_or_default().into_owned();
    let leave = message.header_raw("List-Unsubscribe").unwrap_or_default();
    Mail {
        id,
        to: to
            .and_then(|to| to.address())
            .unwrap_or_default()
            .to_owned(),
        subject: message.subject().unwrap_or_default().to_owned(),
        date: message
            .date()
            .map(|date| date.to_rfc3339())
            .unwrap_or_default(),
        links: Links::in_text(&format!("{text}\n{leave}")),
        headers: headers()
            .map(|(name, value)| (name.to_owned(), unfold(value)))
            .collect(),
        raw_headers: headers()
            .map(|(name, value)| format!("{name}:{value}"))
            .collect(),
        text,
        html,
    }
}

impl Links {
    fn in_text(text: &str) -> Self {
        let mut links = Self::default();
        for link in pieces(text).into_iter().filter_map(|piece| piece.href) {
            let Ok(url) = Url::parse(&link) else { continue };
            let mut segments = url.path_segments().into_iter().flatten();
            match (segments.next(), segments.next(), segments.next()) {
                (Some("c"), Some(_), None) => links.confirm = Some(link),
                (Some("d"), Some(_), None) => links.decline = Some(link),
                (Some("u"), Some(_), None) if !links.unsubscribe.contains(&link) => {
                    links.unsubscribe.push(link);
                }
                _ => {}
            }
        }
        links
    }
}

/// A stretch of plain text, or a link in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// What is shown.
    pub text: String,
    /// Where it leads.
    pub href: Option<String>,
}

/// Finds the links in plain text, as mail programs do.
pub fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let begin = |text: &str| {
        text.find("http://")
            .into_iter()
            .chain(text.find("https://"))
            .min()
    };
    while let Some(start) = begin(rest) {
        let link = &rest[start..];
        let end = link.find(|c: char| c.is_whitespace() || "<>\"".contains(c));
        let link = &link[..end.unwrap_or(link.len())];
        let link = link.trim_end_matches(['.', ',', ';', ')']);
        pieces.push(Piece {
            text: rest[..start].to_owned(),
            href: None,
        });
        pieces.push(Piece {
            text: link.to_owned(),
            href: Some(link.to_owned()),
        });
        rest = &rest[start + link.len()..];
    }
    pieces.push(Piece {
        text: rest.to_owned(),
        href: None,
    });
    pieces.retain(|piece| !piece.text.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] = b"From: Acme <confirm@acme.example>\r\nTo: anna@example.org\r\n\
        Subject: =?utf-8?q?Nog_=C3=A9=C3=A9n_stap?=\r\nDate: Thu, 1 Oct 2026 10:00:00 +0000\r\n\
        List-Unsubscribe:\r\n <http://127.0.0.1:8026/d/def>\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        Verder: http://127.0.0.1:8026/c/a=\r\nbc\r\nen =C3=A9=C3=A9n: (http://127.0.0.1:8026/u/x).\r\n\r\n--x\r\n\
        Content-Type: text/html\r\n\r\n<p>Verder</p>\r\n--x--\r\n";

    #[tokio::test]
    async fn mails_outlive_their_mailbox_and_are_read_as_people_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let mailbox = Mailbox::open(folder.path()).unwrap();
        mailbox.keep(MAIL.to_vec()).await.unwrap();
        mailbox.keep(b"no mail at all".to_vec()).await.unwrap();
        let mailbox = Mailbox::open(folder.path()).unwrap();
        mailbox.keep(b"\r\n".to_vec()).await.unwrap();
        let all = mailbox.newest(10).await.unwrap();
        let ids: Vec<_> = all.iter().map(|mail| mail.id).collect();
        assert_eq!(ids, [3, 2, 1]);
        assert!(mailbox.mail(4).await.unwrap().is_none());

        let mail = mailbox.mail(1).await.unwrap().unwrap();
        assert_eq!(mail.subject, "Nog één stap");
        assert_eq!(
            (&*mail.to, &*mail.date),
            ("anna@example.org", "2026-10-01T10:00:00Z")
        );
        assert_eq!(mail.html.trim(), "<p>Verder</p>");
        assert_eq!(
            mail.headers["List-Unsubscribe"],
            "<http://127.0.0.1:8026/d/def>"
        );
        assert!(mail.raw_headers.contains("List-Unsubscribe:\r\n <http"));
        let link = |path: &str| format!("http://127.0.0.1:8026/{path}");
        assert_eq!(
            mail.links,
            Links {
                confirm: Some(link("c/abc")),
                decline: Some(link("d/def")),
                unsubscribe: vec![link("u/x")],
            }
        );
        let shown: String = pieces(&mail.text)
            .into_iter()
            .map(|piece| piece.text)
            .collect();
        assert_eq!(shown, mail.text);
    }
}
