//! The door of the demo's mailbox: SMTP on loopback (RFC 5321), one recipient a mail, nothing encrypted, nothing relayed.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use smtp_proto::request::receiver::{DataReceiver, RequestReceiver};
use smtp_proto::{Error, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::mailbox::Mailbox;
use crate::telemetry::logs::field;

/// Connections open at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// The largest mail, in bytes.
const SIZE: usize = 1024 * 1024;
/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// Mistakes after which the client is shown the door.
const MISTAKES: usize = 10;

/// Takes mails in until the stop.
///
/// # Errors
/// When the listener can never accept again.
pub async fn serve(
    listener: TcpListener,
    mailbox: Arc<Mailbox>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    tokio::pin!(stop);
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut sessions = JoinSet::new();
    loop {
        let place = free.clone().acquire_owned();
        let accepted = tokio::select! {
            () = &mut stop => return Ok(()),
            Some(_) = sessions.join_next() => continue,
            accepted = async { (place.await, listener.accept().await) } => accepted,
        };
        let (place, (stream, _)) = (accepted.0, accepted.1?);
        let session = Session::new(stream, mailbox.clone());
        sessions.spawn(async move {
            let _place = place;
            if let Err(error) = session.run().await {
                tracing::debug!({ field::ERROR } = %error.kind(), "a mail session ended early");
            }
        });
    }
}

struct Session {
    stream: TcpStream,
    mailbox: Arc<Mailbox>,
    commands: RequestReceiver,
    /// The text of a mail on its way in.
    text: Option<(DataReceiver, Vec<u8>)>,
    greeted: bool,
    sender: bool,
    recipient: bool,
    mistakes: usize,
    replies: Vec<u8>,
}

impl Session {
    fn new(stream: TcpStream, mailbox: Arc<Mailbox>) -> Self {
        Self {
            stream,
            mailbox,
            commands: RequestReceiver::default(),
            text: None,
            greeted: false,
            sender: false,
            recipient: false,
            mistakes: 0,
            replies: Vec::new(),
        }
    }

    async fn run(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.reply("220 mailbox.localhost ESMTP, the demo's mailbox");
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let replies = std::mem::take(&mut self.replies);
            self.stream.write_all(&replies).await?;
            let read = timeout(SILENCE, self.stream.read(&mut buffer)).await??;
            if read == 0 {
                return Ok(());
            }
            let goes_on = self.ingest(&buffer[..read]).await;
            if !goes_on {
                let replies = std::mem::take(&mut self.replies);
                return self.stream.write_all(&replies).await;
            }
        }
    }

    /// Takes in what came; false when the session is over.
    async fn ingest(&mut self, came: &[u8]) -> bool {
        let mut bytes = came.iter();
        while !bytes.as_slice().is_empty() {
            if let Some((receiver, text)) = &mut self.text {
                let ended = receiver.ingest(&mut bytes, text);
                if text.len() > SIZE {
                    self.reply("552 5.3.4 the mail is too large");
                    return false;
                }
                if !ended {
                    return true;
                }
                self.keep().await;
                continue;
            }
            match self.commands.ingest(&mut bytes).map(Request::into_owned) {
                Ok(request) => {
                    if !self.command(request) {
                        return false;
                    }
                }
                Err(Error::NeedsMoreData { .. }) => return true,
                Err(error) => {
                    let reply = match error {
                        Error::UnknownCommand => "500 5.5.1 this command is not known here",
                        Error::InvalidSenderAddress => "553 5.1.7 the sender is no address",
                        Error::InvalidRecipientAddress => "553 5.1.3 the recipient is no address",
                        Error::ResponseTooLong => {
                            self.reply("500 5.5.2 the line is too long");
                            return false;
                        }
                        _ => "501 5.5.4 this cannot be read",
                    };
                    if !self.mistake(reply) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Answers a command; false when the session is over.
    fn command(&mut self, request: Request<String>) -> bool {
        match request {
            Request::Ehlo { .. } => {
                self.reset();
                self.greeted = true;
                self.reply("250-mailbox.localhost");
                self.reply("250-PIPELINING");
                self.reply("250-8BITMIME");
                self.reply("250-SMTPUTF8");
                self.reply("250-ENHANCEDSTATUSCODES");
                self.reply(&format!("250 SIZE {SIZE}"));
            }
            Request::Helo { .. } => {
                self.reset();
                self.greeted = true;
                self.reply("250 mailbox.localhost");
            }
            Request::Mail { from } if self.greeted && !self.sender => {
                if from.size > SIZE {
                    self.reply("552 5.3.4 the mail is too large");
                } else {
                    self.sender = true;
                    self.reply("250 2.1.0 sender taken");
                }
            }
            Request::Rcpt { .. } if self.sender => {
                if self.recipient {
                    self.reply("452 4.5.3 one recipient a mail");
                } else {
                    self.recipient = true;
                    self.reply("250 2.1.5 recipient taken");
                }
            }
            Request::Data if self.recipient => {
                // The receiver knows a dot at the beginning of a line by the line break before it.
                let (mut receiver, mut text) = (DataReceiver::new(), Vec::new());
                receiver.ingest(&mut b"\r\n".iter(), &mut text);
                self.text = Some((receiver, text));
                self.reply("354 the text, please, and a dot at its end");
            }
            Request::Mail { .. } | Request::Rcpt { .. } | Request::Data => {
                return self.mistake("503 5.5.1 not now");
            }
            Request::Rset => {
                self.reset();
                self.reply("250 2.0.0 forgotten");
            }
            Request::Noop { .. } => self.reply("250 2.0.0 fine"),
            Request::Quit => {
                self.reply("221 2.0.0 goodbye");
                return false;
            }
            _ => return self.mistake("502 5.5.1 this is not done here"),
        }
        true
    }

    /// Writes the mail down; it is ours from the 250 on.
    async fn keep(&mut self) {
        let text = self.text.take().map(|(_, text)| text).unwrap_or_default();
        self.reset();
        let mail = text.get(2..).unwrap_or_default().to_vec();
        match self.mailbox.keep(mail).await {
            Ok(()) => self.reply("250 2.0.0 kept"),
            Err(error) => {
                tracing::warn!({ field::ERROR } = %error, "the demo's mailbox could not keep a mail");
                self.reply("451 4.3.0 it could not be kept; try again");
            }
        }
    }

    fn reset(&mut self) {
        (self.sender, self.recipient, self.text) = (false, false, None);
    }

    fn mistake(&mut self, reply: &str) -> bool {
        self.reply(reply);
        self.mistakes += 1;
        self.mistakes < MISTAKES
    }

    fn reply(&mut self, line: &str) {
        self.replies.extend_from_slice(line.as_bytes());
        self.replies.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// Says all at once, as a client with PIPELINING may, and reads until the server closes.
    async fn talk(said: &[u8]) -> (String, Arc<Mailbox>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mailbox = Arc::new(Mailbox::open(folder.path()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, mailbox.clone(), pending()));
        let mut stream = TcpStream::connect(at).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let mut replies = Vec::new();
        let write = async {
            // A server that has heard enough closes: then writing fails, and rightly so.
            let _ = writer.write_all(said).await;
        };
        let (_, read) = tokio::join!(write, reader.read_to_end(&mut replies));
        drop(read);
        server.abort();
        (String::from_utf8(replies).unwrap(), mailbox, folder)
    }

    const OPENING: &str =
        "EHLO here\r\nMAIL FROM:<a@acme.example> SIZE=100\r\nRCPT TO:<b@example.org>\r\n";

    fn codes(replies: &str) -> Vec<&str> {
        let last = replies
            .lines()
            .filter(|line| line.as_bytes().get(3) == Some(&b' '));
        last.map(|line| &line[..3]).collect()
    }

    #[tokio::test]
    async fn mails_are_kept_as_they_were_before_their_dots_were_doubled() {
        let mail = "..first\r\nTo: b@example.org\r\n\r\n..\r\nDATA\r\n.\r\nNOOP\r\n";
        let again = "MAIL FROM:<>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n.\r\nQUIT\r\n";
        let said = format!("{OPENING}DATA\r\n{mail}{again}");
        let (replies, mailbox, folder) = talk(said.as_bytes()).await;
        let expected = [
            "220", "250", "250", "250", "354", "250", "250", "250", "250", "354", "250", "221",
        ];
        assert_eq!(codes(&replies), expected, "{replies}");
        assert_eq!(mailbox.newest(9).await.unwrap().len(), 2);
        let kept = std::fs::read(folder.path().join("000001.eml")).unwrap();
        assert_eq!(kept, b".first\r\nTo: b@example.org\r\n\r\n.\r\nDATA\r\n");
    }

    #[tokio::test]
    async fn one_recipient_in_order_and_no_more_than_fits() {
        let said = "RCPT TO:<b@example.org>\r\nEHLO here\r\nDATA\r\nVRFY b\r\nNONSENSE\r\n\
            MAIL FROM:<a@acme.example> SIZE=99999999\r\nMAIL FROM:<a@acme.example>\r\nRCPT TO:<b@example.org>\r\n\
            RCPT TO:<c@example.org>\r\nRSET\r\nDATA\r\nQUIT\r\n";
        let (replies, _, _folder) = talk(said.as_bytes()).await;
        let expected = [
            "220", "503", "250", "503", "502", "500", "552", "250", "250", "452", "250", "503",
            "221",
        ];
        assert_eq!(codes(&replies), expected, "{replies}");

        let mut large = format!("{OPENING}DATA\r\n").into_bytes();
        large.resize(SIZE + 100_000, b'x');
        let (_, mailbox, _folder) = talk(&large).await;
        assert!(mailbox.newest(9).await.unwrap().is_empty());

        let (replies, _, _folder) = talk(&b"NONSENSE\r\n".repeat(1000)).await;
        assert!(codes(&replies).len() <= 1 + MISTAKES, "{replies}");
    }
}
