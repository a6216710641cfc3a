//! A small HTTP/1.1 client: exact bytes out, exact bytes in, no redirects, no retries.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// One answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// Returns the value of a header that is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} is there twice");
        Some(&value.1)
    }

    /// Reads the body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// A connection that is kept open between requests.
#[derive(Debug)]
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects.
    pub async fn open(addr: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// Sends a request and reads its answer.
    pub async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: lists.acme.example\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length")
                || name.eq_ignore_ascii_case("transfer-encoding")
        }) && (!body.is_empty() || method == "POST")
        {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes, method == "HEAD").await
    }

    /// Sends exact bytes and reads one answer.
    pub async fn raw(&mut self, bytes: &[u8], head_only: bool) -> std::io::Result<Response> {
        // A server may answer and close before it has read everything.
        let wrote = self.0.get_mut().write_all(bytes).await;
        let read = timeout(PATIENCE, self.read(head_only)).await;
        match read {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(wrote.err().unwrap_or(error)),
            Err(_) => panic!("no answer in {} s", PATIENCE.as_secs()),
        }
    }

    async fn read(&mut self, head_only: bool) -> std::io::Result<Response> {
        let mut line = String::new();
        let mut next = async |stream: &mut BufReader<TcpStream>| {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            Ok::<_, std::io::Error>(line.trim_end().to_owned())
        };
        let status = next(&mut self.0).await?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = Vec::new();
        loop {
            let header = next(&mut self.0).await?;
            let Some((name, value)) = header.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; if head_only { 0 } else { length }];
        self.0.read_exact(&mut body).await?;
        Ok(Response {
            status: status.expect("a status line"),
            headers,
            body: String::from_utf8(body).expect("UTF-8"),
        })
    }
}

/// Sends one request on a connection of its own.
pub async fn send(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let mut connection = Connection::open(addr).await.expect("a connection");
    let sent = connection.send(method, target, headers, body).await;
    sent.unwrap_or_else(|e| panic!("{method}: {e}"))
}
