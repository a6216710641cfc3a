//! The demo's signup backend: what Acme's own site would do, over HTTP and with its API key.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest answer that is read, in bytes.
const LONGEST: u64 = 256 * 1024;
/// The longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The backend of Acme's signup form.
pub struct Backend {
    /// Where confirmd listens.
    pub confirmd: SocketAddr,
    /// The secret of an API key.
    pub api_key: String,
    /// The origin of the form.
    pub origin: String,
}

/// What the form sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// As typed.
    pub email: String,
    /// The lists that were ticked.
    pub lists: Vec<String>,
    /// The language of the form.
    pub locale: String,
    /// The SHA-256 of the words that were shown, where they are those of one list.
    pub text_sha256: Option<String>,
    /// Makes a second press the same signup.
    pub idempotency_key: String,
}

/// A list as `GET /v1/lists` tells it, in one language.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListWords {
    /// Its name.
    pub list: String,
    /// What people call it.
    pub title: String,
    /// The words of consent.
    pub text: String,
    /// Their SHA-256.
    pub text_sha256: String,
}

/// An answer of confirmd.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status, as in `202`.
    pub status: u16,
    /// Its body.
    pub body: Value,
}

impl Backend {
    /// Asks for the lists and the words that the form must show.
    ///
    /// # Errors
    /// When confirmd does not answer so.
    pub async fn lists(&self, locale: &str) -> io::Result<Vec<ListWords>> {
        #[derive(Deserialize)]
        struct Lists {
            lists: Vec<ListWords>,
        }
        let answer = self
            .call("GET", &format!("/v1/lists?locale={locale}"), "", None)
            .await?;
        let lists: Lists = serde_json::from_value(answer.body)?;
        Ok(lists.lists)
    }

    /// Returns the body of the request that reports a signup.
    pub fn request(&self, form: &Form) -> Value {
        let origin = &self.origin;
        let mut consent = json!({ "action": "checkbox", "source": format!("{origin}/") });
        if let Some(hash) = &form.text_sha256 {
            consent["text_sha256"] = json!(hash);
        }
        let mut body = json!({
            "email": form.email,
            "lists": form.lists,
            "locale": form.locale,
            "consent": consent,
        });
        // Each list names where its result pages may lead; without a list there is nowhere.
        if !form.lists.is_empty() {
            body["redirect"] = json!(format!("{origin}/thanks"));
        }
        body
    }

    /// Reports a signup.
    ///
    /// # Errors
    /// When confirmd does not answer.
    pub async fn sign_up(&self, form: &Form) -> io::Result<Answer> {
        let key = format!("Idempotency-Key: \"{}\"\r\n", form.idempotency_key);
        let body = self.request(form).to_string();
        self.call("POST", "/v1/signups", &key, Some(body)).await
    }

    /// Makes one request on a connection of its own.
    async fn call(
        &self,
        method: &str,
        target: &str,
        headers: &str,
        body: Option<String>,
    ) -> io::Result<Answer> {
        let (at, key) = (self.confirmd, &self.api_key);
        let body = body.unwrap_or_default();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n{body}",
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(at).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.take(LONGEST).read_to_end(&mut answer).await?;
            io::Result::Ok(answer)
        };
        let answer = timeout(PATIENCE, exchange).await??;
        read(&String::from_utf8_lossy(&answer)).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "confirmd's answer cannot be read",
            )
        })
    }
}

/// Reads an answer whose end is the end of the connection.
fn read(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = serde_json::from_str(body).ok()?;
    Some(Answer { status, body })
}
